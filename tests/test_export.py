import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from common import export, labels, predict, runs
from common.deployment import export as export_room
from common.deployment import quantise
from common.deployment.deploy import open_session
from common.inference import Segmenter
from common.pixels import read_image
from common.thresholds import Thresholds, decide
from tests import tiny

THRESHOLDS = Thresholds(
    (0.22, 0.3, 0.25, 0.2), (5, 0, 9, 3), (0.4, 0.3, 0.45, 0.3), total=(20, 0, 60, 10**6)
)
VARIANTS = {  # name -> variant, network size, base channels
    "resized": ("unet_64x400", (32, 96), 4),  # from 64x320: 2 down the columns, 3 1/3 along rows
    "enlarged": ("modified_unet", (80, 400), 8),  # by 5/4: many grey values fall on halves
    "native": ("modified_unet", tiny.SIZE, 8),
}


@pytest.fixture(scope="module")
def bare_runs(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: tiny.make_run(folder / name, root, size, variant, base)
        for name, (variant, size, base) in VARIANTS.items()
    }


@pytest.fixture(scope="module")
def exported(bare_runs, tmp_path_factory):
    """Files of the runs, one of them with thresholds, exported once."""
    folder = tmp_path_factory.mktemp("exported")
    THRESHOLDS.save(bare_runs["native"])
    for name, run in bare_runs.items():
        assert export.main([str(run), "--out", str(folder / f"{name}.onnx")]) == 0
    return folder


def open_file(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def strips(root, count, size=tiny.SIZE):
    data = labels.load(root)
    images = [read_image(data.path(name)) for name in data.images[:count]]
    return np.stack([image[: size[0], : size[1]] for image in images])


@pytest.mark.parametrize("name", VARIANTS)
def test_files_say_what_pytorch_says_of_any_batch(exported, bare_runs, root, name):
    session = open_file(exported / f"{name}.onnx")
    run = runs.load(bare_runs[name])
    thresholds = THRESHOLDS if name == "native" else None
    for count in (1, 3):
        images = strips(root, count)
        probabilities, label_maps = session.run(None, {"strips": images})
        expected = Segmenter(run, torch.device("cpu")).probabilities(images)
        assert probabilities.dtype == np.float32
        assert label_maps.dtype == np.uint8
        assert np.abs(probabilities - expected.numpy()).max() < 1e-4
        decided = decide(torch.from_numpy(probabilities), thresholds).numpy()
        assert (label_maps == decided).all()
        assert (label_maps != decide(expected, thresholds).numpy()).mean() < 1e-3
        assert len(np.unique(label_maps)) > 3


def test_without_a_resize_strips_of_any_size_go_in(exported, bare_runs, root):
    session = open_file(exported / "native.onnx")
    run = runs.load(bare_runs["native"])
    for size in ((64, 320), (37, 211), (48, 160)):
        images = strips(root, 2, size)
        (found,) = session.run(["probabilities"], {"strips": images})
        with torch.inference_mode():
            pixels = (torch.from_numpy(images)[:, None] / 255 - tiny.MEAN) / tiny.STD
            expected = run.build_model()(pixels).softmax(1).numpy()
        assert found == pytest.approx(expected, abs=1e-4)


def test_inputs_and_outputs_are_named_with_their_sizes(exported):
    def sizes(name):
        session = open_file(exported / f"{name}.onnx")
        return {t.name: (t.shape, t.type) for t in session.get_inputs() + session.get_outputs()}

    assert sizes("native") == {
        "strips": (["batch", "height", "width"], "tensor(uint8)"),
        "probabilities": (["batch", 5, "height", "width"], "tensor(float)"),
        "label_map": (["batch", "height", "width"], "tensor(uint8)"),
    }
    assert sizes("resized")["strips"][0] == ["batch", 64, 320]
    assert sizes("resized")["probabilities"][0] == ["batch", 5, 64, 320]


def test_metadata_say_what_the_file_is(exported, bare_runs):
    facts = open_file(exported / "native.onnx").get_modelmeta().custom_metadata_map
    run = runs.load(bare_runs["native"])
    assert facts["variant"] == "modified_unet"
    assert facts["git_commit"] == "0123abc"
    assert facts["data_fingerprint"] == run.data["fingerprint"]
    assert json.loads(facts["classes"]) == [1, 2, 3, 4]
    assert json.loads(facts["thresholds"]) == [0.22, 0.3, 0.25, 0.2]
    assert json.loads(facts["peaks"]) == [0.4, 0.3, 0.45, 0.3]
    assert json.loads(facts["least_areas"]) == [5, 0, 9, 3]
    assert json.loads(facts["least_totals"]) == [20, 0, 60, 10**6]
    assert json.loads(facts["strip_size"]) == [64, 320]
    # By https://onnxruntime.ai/docs/reference/compatibility.html
    found = facts["opset"], facts["ir_version"], facts["oldest_onnxruntime"]
    assert found == ("20", "9", "1.17")
    plain = open_file(exported / "resized.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(plain["thresholds"]) is None
    assert json.loads(plain["network_size"]) == [32, 96]


@pytest.mark.parametrize("name", VARIANTS)
def test_batch_norms_are_folded(exported, name):
    nodes = onnx.load(exported / f"{name}.onnx").graph.node
    assert not any(node.op_type == "BatchNormalization" for node in nodes)


def test_agreement_is_printed(bare_runs, root, tmp_path, capsys):
    run = bare_runs["resized"]
    assert export.main([str(run), "--out", str(tmp_path / "m.onnx"), "--limit", "1"]) == 0
    said = capsys.readouterr().out
    found = re.search(r"on 1 images ([\d.]+)% of 20480 pixels .* logit difference (\S+)", said)
    assert 99.99 <= float(found[1]) <= 100
    assert 0 < float(found[2]) < 1e-3


def test_a_file_that_says_something_else_is_not_kept(bare_runs, tmp_path, monkeypatch, capsys):
    trace = export_room.trace

    def spoilt(*arguments):
        """One weight of the head is moved."""
        model = trace(*arguments)
        for tensor in model.graph.initializer:
            if "head.bias" in tensor.name:
                values = numpy_helper.to_array(tensor).copy()
                values[0] += 0.05
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return model

    monkeypatch.setattr(export_room, "trace", spoilt)
    out = tmp_path / "m.onnx"
    out.write_bytes(b"earlier")
    assert export.main([str(bare_runs["resized"]), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "not exported" in said
    assert "99.99% are needed" in said
    assert "largest logit difference 0.05" in said
    assert out.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_strips_at_hand_check_the_file_where_the_training_data_are_gone(
    bare_runs, root, tmp_path, capsys
):
    run = shutil.copytree(bare_runs["resized"], tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["data"]["root"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(config))
    out = tmp_path / "m.onnx"
    assert export.main([str(run), "--out", str(out)]) == 2
    assert "gone" in capsys.readouterr().err
    shutil.copytree(root / "train_images", tmp_path / "strips")
    options = ["--images", str(tmp_path / "strips"), "--limit", "2", "--opset", "18"]
    assert export.main([str(run), "--out", str(out), *options]) == 0
    said = capsys.readouterr().out
    assert "on 2 images" in said
    assert "opset 18, IR version 8, ONNX Runtime 1.14 or newer" in said
    model = onnx.load(out)
    assert {one.domain: one.version for one in model.opset_import}[""] == 18
    assert model.ir_version == 8
    strip = min((tmp_path / "strips").iterdir())
    assert export.main([str(run), "--out", str(strip), *options]) == 2
    assert "would overwrite" in capsys.readouterr().err


def test_what_cannot_be_exported_is_said(bare_runs, root, tmp_path, capsys):
    run = shutil.copytree(bare_runs["resized"], tmp_path / "run")
    cases = [
        ([run, "--height", 65], "no image is 65x320"),
        ([run, "--data", tmp_path / "nowhere"], "nowhere"),
        ([run, "--limit", 0], "--limit must be at least 1"),
        ([run, "--opset", 17], "--opset must be 18 to 21"),
        ([run, "--images", tmp_path / "nowhere"], "no image there"),
        ([run, "--images", root, "--data", root], "--images and --data"),
        ([run, "--images", root, "--int8"], "--int8 needs masks"),
        ([tmp_path], "no run directory"),
        ([run, "--out", run / "config.json" / "m.onnx", "--limit", 1], "cannot write"),
        ([run, "--out", run / "best.pt"], "would overwrite"),
    ]
    for argv, said in cases:
        out = [] if "--out" in argv else ["--out", tmp_path / "m.onnx"]
        assert export.main([str(x) for x in [*argv, *out]]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "m.onnx").exists()


def test_int8_computes_in_eight_bits_only_inside_the_network(exported, root):
    data = labels.load(root)
    content = (exported / "resized.onnx").read_bytes()
    small = quantise.quantise(content, map(data.read, data.images[:8]))
    model = onnx.load_from_string(small)
    kinds = [node.op_type for node in model.graph.node]
    assert "QuantizeLinear" in kinds
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        sources = [producers[name].op_type for name in node.input if name in producers]
        if node.op_type == "Conv":
            assert sources[0] == "DequantizeLinear"
        if node.op_type in ("Resize", "MatMul", "Exp"):
            assert "DequantizeLinear" not in sources or node.op_type == "Resize"
    facts = {prop.key for prop in model.metadata_props}
    assert "classes" in facts

    strip = strips(root, 2)
    exact = open_session(content).run(["label_map"], {"strips": strip})[0]
    rough = open_session(small).run(["label_map"], {"strips": strip})[0]
    assert 0.8 < (exact == rough).mean() < 1


def test_positive_dice_is_that_of_the_decided_maps(exported, root):
    data = labels.load(root)
    names = data.images[:6]
    session = open_file(exported / "native.onnx")
    found = quantise.positive_dice(session, None, data, names)
    dice = []
    for name in names:
        image = read_image(data.path(name))
        predicted = session.run(["label_map"], {"strips": image[None]})[0][0]
        truth = data.label_map(name, image.shape)
        for k in data.classes(name):
            hits = ((predicted == k) & (truth == k)).sum()
            dice.append(2 * hits / ((predicted == k).sum() + (truth == k).sum()))
    assert found == pytest.approx(np.mean(dice))


@pytest.mark.parametrize(
    ("dice_int8", "ms_int8", "kept"),
    [
        (0.6, 4.0, True),
        (0.591, 4.0, True),
        (0.589, 4.0, False),
        (0.6, 5.0, False),
        (0.7, 4.9, True),
    ],
)
def test_int8_is_worth_keeping_only_where_as_good_and_faster(dice_int8, ms_int8, kept):
    verdict = quantise.Verdict(b"", 0.6, dice_int8, 5.0, ms_int8)
    assert verdict.kept == kept
    assert str(verdict).startswith("int8 kept" if kept else "int8 NOT kept")
    assert f"{dice_int8:.4f} against 0.6000" in str(verdict)


def test_the_documented_consumer_finds_what_predict_finds(
    exported, bare_runs, root, tmp_path, monkeypatch
):
    """docs/line.md shows how to use a file without this package: that code is run here."""
    data = labels.load(root)
    page = (Path(__file__).parents[1] / "docs" / "line.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    shutil.copy(exported / "native.onnx", tmp_path / "model.onnx")
    for name in data.images[:3]:
        shutil.copy(data.path(name), tmp_path / "strip.jpg")
        found = {}
        monkeypatch.chdir(tmp_path)
        exec(code, found)
        argv = [str(bare_runs["native"]), str(data.path(name)), "--out", str(tmp_path / "o.csv")]
        assert predict.main([*argv, "--masks", str(tmp_path), "--device", "cpu"]) == 0
        expected = cv2.imread(str(tmp_path / f"{Path(name).stem}.png"), cv2.IMREAD_UNCHANGED)
        assert (found["label_map"] != expected).mean() < 1e-3
        assert expected.any()
    cv2.imwrite(str(tmp_path / "strip.jpg"), found["strip"][:, :160])
    with pytest.raises(ValueError, match=r"must be \[64, 320\], this one is \[64, 160\]"):
        exec(code, {})


@pytest.mark.parametrize("kept", [True, False])
def test_an_int8_file_lies_there_only_where_it_was_kept(bare_runs, tmp_path, monkeypatch, kept):
    verdict = quantise.Verdict(b"small", 0.6, 0.6 if kept else 0.5, 5.0, 4.0)
    monkeypatch.setattr(quantise, "attempt", lambda *_: verdict)
    (tmp_path / "m.int8.onnx").write_text("of an earlier run")
    argv = [str(bare_runs["resized"]), "--out", str(tmp_path / "m.onnx"), "--limit", "1", "--int8"]
    assert export.main(argv) == (0 if kept else 1)
    assert (tmp_path / "m.onnx").exists()
    assert (tmp_path / "m.int8.onnx").exists() == kept
    if kept:
        assert (tmp_path / "m.int8.onnx").read_bytes() == b"small"
