"""A published folder: whole, of no machine, and read like the run it came from."""

import json
import re
import shutil
from dataclasses import asdict

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch

from common import checkpoint, compare, export, labels, load_run, predict, publish, runs
from common.pixels import read_image
from common.thresholds import Thresholds
from tests import tiny

THRESHOLDS = Thresholds((0.22, 0.3, 0.25, 0.2), (5, 0, 9, 3), (0.4, 0.3, 0.45, 0.3), "balanced")
FILES = {
    "README.md", "config.json", "metrics.csv", "model.onnx", "model.safetensors", "seen.csv",
    "split.csv", "thresholds.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def bare_run(root, tmp_path_factory):
    path = tiny.make_run(
        tmp_path_factory.mktemp("runs") / "slim", root, (32, 96), "modified_unet", 8
    )
    config = json.loads((path / "config.json").read_text())
    config["options"] |= {"data": str(root), "store": "/somewhere/of/mine", "out": str(path)}
    config["data"]["class_names"] = {"1": "pit", "3": "scratch"}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def run(bare_run, tmp_path):
    copy = shutil.copytree(bare_run, tmp_path / "slim")
    THRESHOLDS.save(copy)
    return copy


@pytest.fixture(scope="module")
def published(bare_run, tmp_path_factory):
    """Published from a run that had no decision yet."""
    out = tmp_path_factory.mktemp("published") / "folder"
    assert publish.main([str(bare_run), "--out", str(out)]) == 0
    return out


def test_a_folder_holds_what_others_need_and_nothing_of_this_machine(published, bare_run, root):
    assert {path.name for path in published.iterdir()} == FILES
    assert (published / "thresholds.json").read_bytes() == (
        bare_run / "thresholds.json"
    ).read_bytes()
    for path in published.iterdir():
        if path.suffix in (".md", ".json", ".csv"):
            text = path.read_text()
            assert str(root.parent) not in text
            assert "/somewhere" not in text
    saved = json.loads((published / "config.json").read_text())
    assert saved["data"]["root"] == "strips"
    assert saved["options"]["store"] == "mine"
    found = safetensors.torch.load_file(published / "model.safetensors")
    expected = torch.load(bare_run / "best.pt", weights_only=True)["model"]
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_every_command_reads_it_like_the_run(published, bare_run, root, tmp_path, capsys):
    data = labels.load(root)
    paths = [data.path(name) for name in data.images[:4]]
    ours, theirs = (load_run(path, "cpu").predict(paths) for path in (bare_run, published))
    assert all((a.label_map == b.label_map).all() for a, b in zip(ours, theirs, strict=True))
    assert any(one.label_map.any() for one in theirs)
    session = onnxruntime.InferenceSession(published / "model.onnx")
    strip = read_image(paths[0])
    probabilities = session.run(["probabilities"], {"strips": strip[None]})[0][0]
    assert np.abs(probabilities - theirs[0].probabilities).max() < 1e-3

    tables = []
    for path in (bare_run, published):
        out = tmp_path / f"{path.name}.csv"
        argv = [str(path), str(root / "train_images"), "--out", str(out), "--device", "cpu"]
        assert predict.main(argv) == 0
        tables.append(out.read_text())
    assert tables[0] == tables[1]
    argv = [str(published), "--out", str(tmp_path / "m.onnx"), "--limit", "1"]
    assert export.main([*argv, "--images", str(root / "train_images")]) == 0
    capsys.readouterr()
    assert export.main(argv) == 2  # where the data lay is nobody's business
    assert "strips" in capsys.readouterr().err
    argv = [str(published), str(bare_run), "--data", str(root), "--out", str(tmp_path / "report")]
    few = ["--resamples", "100", "--repeats", "1", "--device", "cpu", "--wandb", "disabled"]
    assert compare.main([*argv, *few]) == 0
    ours, theirs = json.loads((tmp_path / "report" / "results.json").read_text())["variants"]
    assert ours["scores"] == theirs["scores"]
    assert ours["thresholded"] == theirs["thresholded"]
    again = tmp_path / "again"
    assert publish.main([str(published), "--out", str(again), "--no-onnx"]) == 0
    for name in FILES - {"model.onnx", "README.md"}:
        assert (again / name).read_bytes() == (published / name).read_bytes()


def test_the_card_says_what_it_is(published):
    text = (published / "README.md").read_text()
    header = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1].splitlines()
    fields = dict(line.split(": ", 1) for line in header if ": " in line)
    assert fields["library_name"] == "steel-defect-segmentation"
    assert fields["pipeline_tag"] == "image-segmentation"
    assert "- onnx" in header
    split = (published / "split.csv").read_text().splitlines()[1:]
    counts = [sum(f",{part}," in line for line in split) for part in ("train", "val", "test")]
    said = " ".join(text.split())
    assert f"{counts[0]} images trained it, {counts[1]} chose its epoch" in said
    assert f"{counts[2]} were held out" in said
    assert "1 (pit), 2, 3 (scratch), 4" in said
    assert "not commerce" in said
    assert "from common import load_run" in text
    assert "None were published with it" in text
    assert "{" not in text.replace("```", "")


def a_report(folder, run, thresholds):
    """results.json with what a card needs of it."""
    folder.mkdir()
    score = {"value": 0.6123, "low": 0.5001, "high": 0.70049, "seed_std": None}
    whole = {
        "data": {"images": 17, "clean_images": 8},
        "metrics": {"dice_positive_macro": {"title": "Positive Dice, macro"}, "iou_mean": {}},
        "variants": [
            {"runs": ["elsewhere"]},
            {
                "runs": [str(run)], "seeds": 1, "thresholds": asdict(thresholds),
                "thresholded": {
                    "dice_positive_macro": score, "iou_mean": score | {"value": None},
                },
            },
        ],
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(whole))
    return folder


def test_figures_come_from_the_comparison(run, tmp_path, capsys):
    report = a_report(tmp_path / "report", run, THRESHOLDS)
    argv = [str(run), "--out", str(tmp_path / "out"), "--no-onnx", "--report", str(report)]
    assert publish.main(argv) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| Positive Dice, macro | 0.612 | 0.500 to 0.700 |" in text
    assert "17 held-out images" in text
    assert "- onnx" not in text
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert "| 1 (pit) | 0.22 | 0.4 | 5 px | 0 px |" in text

    Thresholds((0.9,) * 4, (0,) * 4).save(run)
    assert publish.main(argv) == 2
    assert "another decision" in capsys.readouterr().err
    assert publish.main([str(run), *argv[1:-1], str(tmp_path)]) == 2
    assert "cannot read the comparison" in capsys.readouterr().err
    other = shutil.copytree(run, tmp_path / "other")
    assert publish.main([str(other), *argv[1:]]) == 2
    assert "is no comparison of" in capsys.readouterr().err


def test_a_folder_published_before_is_replaced_and_no_other(run, published, tmp_path, capsys):
    out = shutil.copytree(published, tmp_path / "out")
    assert publish.main([str(run), "--out", str(out), "--no-onnx"]) == 0
    assert {path.name for path in out.iterdir()} == FILES - {"model.onnx"}
    capsys.readouterr()
    (out / "diary.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    for folder, said in ((out, "diary.txt"), (run, "already holds"), (file, "is a file")):
        assert publish.main([str(run), "--out", str(folder), "--no-onnx"]) == 2
        assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused_first(bare_run, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert publish.main([str(bare_run), "--out", str(tmp_path / "file" / "folder")]) == 2
    printed = capsys.readouterr()
    assert "cannot write to" in printed.err
    assert not printed.out


def test_a_damaged_weights_file_is_refused(published, tmp_path, capsys):
    copy = shutil.copytree(published, tmp_path / "copy")
    (copy / checkpoint.PUBLISHED).write_bytes(b"no tensors")
    assert predict.main([str(copy), str(tmp_path), "--out", str(tmp_path / "o.csv")]) == 2
    capsys.readouterr()
    with pytest.raises(Exception, match="cannot read"):
        runs.load(copy).build_model()


def test_what_comes_with_the_package_is_found_from_anywhere(published, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "HOME", published.parent)
    monkeypatch.chdir(tmp_path)
    assert runs.load(published.name).path == published.parent / published.name
    (tmp_path / published.name).mkdir()
    with pytest.raises(Exception, match="no run directory"):  # what is there comes first
        runs.load(published.name)
