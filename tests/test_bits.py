"""Cameras of 12 bits in 16-bit files: every grey level counts, and what exceeds is refused."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from common import compare, export, load_run, predict, runs
from common.errors import UserError
from common.labels import LabelError
from common.pixels import bits_in_use, eight_bits, read_image
from tests import tiny
from unet_64x400 import train


def as_png(source, target, deepen):
    """The data set with its images as PNG, their grey values made by `deepen`."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.jpg", "*.json"))
    for path in (source / "train_images").iterdir():
        file = target / "train_images" / f"{path.stem}.png"
        assert cv2.imwrite(str(file), deepen(read_image(path)))
    table = target / "train.csv"
    table.write_text(table.read_text().replace(".jpg", ".png"))
    return target


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A set of 8-bit images, and the same in 12 of 16 bits."""
    folder = tmp_path_factory.mktemp("data")
    source = tiny.make_data(folder / "jpeg")
    plain = as_png(source, folder / "plain", lambda image: image)
    deep = as_png(source, folder / "deep", lambda image: image.astype(np.uint16) * 16 + 7)
    return plain, deep


@pytest.fixture(scope="module")
def trained(twins, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, root in zip(("plain", "deep"), twins, strict=True):
        options = tiny.options(root, folder / "store") | {"--out": folder / name}
        assert train.main([str(word) for pair in options.items() for word in pair]) == 0
    return folder / "plain", folder / "deep"


def test_values_by_hand():
    deep = np.array([[0, 15, 16, 4080, 4095]], np.uint16)
    assert eight_bits(deep, 12).tolist() == [[0, 0, 1, 255, 255]]
    assert eight_bits(deep, 16).tolist() == [[0, 0, 0, 15, 15]]
    assert eight_bits(np.array([[255]], np.uint16), 8).tolist() == [[255]]
    assert len(np.unique(eight_bits(np.arange(4096, dtype=np.uint16), 12))) == 256
    with pytest.raises(ValueError, match=r"holds the value 4096; .* use 12 bits, to 4095"):
        eight_bits(np.array([[4096]], np.uint16), 12)


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (9000, 14), (16384, 16)],
)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm", ".jp2"])
def test_the_largest_value_of_all_images_decides(tmp_path, suffix, largest, bits):
    root = as_png(tiny.make_data(tmp_path / "a", 3), tmp_path / "b", lambda image: image)
    dark = np.zeros((64, 320), np.uint16)
    cv2.imwrite(str(root / "train_images" / f"dark{suffix}"), dark)
    lit = dark.copy()
    lit[5, 7] = largest
    cv2.imwrite(str(root / "train_images" / f"lit{suffix}"), lit)
    assert bits_in_use(sorted((root / "train_images").iterdir())) == bits


def test_without_deep_images_and_where_none_can_be_read_there_are_16(tmp_path):
    root = tiny.make_data(tmp_path / "a", 3)
    (root / "train_images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "train_images" / "broken.tif").write_bytes(b"II")
    assert bits_in_use(sorted((root / "train_images").iterdir())) == 16


def test_a_training_on_twelve_bits_equals_that_on_the_same_eight(trained):
    plain, deep = (pd.read_csv(path / "metrics.csv") for path in trained)
    same = [name for name in plain if not any(w in name for w in ("second", "wait", "memory"))]
    pd.testing.assert_frame_equal(plain[same], deep[same])
    assert [runs.load(path).bits for path in trained] == [16, 12]


def test_every_command_reads_as_the_training_did(twins, trained, tmp_path):
    tables = []
    for root, run in zip(twins, trained, strict=True):
        out = tmp_path / root.name
        common = ["--device", "cpu", "--repeats", "1", "--resamples", "100", "--wandb", "disabled"]
        assert compare.main([str(run), "--out", str(out), *common]) == 0
        assert predict.main([str(run), str(root / "train_images"), "--out", f"{out}.csv"]) == 0
        table = pd.read_csv(f"{out}.csv").replace(r"\.png", "", regex=True)
        results = pd.read_csv(out / "results.csv").filter(regex="dice|iou|accuracy")
        tables.append((table, results))
    pd.testing.assert_frame_equal(tables[0][0], tables[1][0])
    pd.testing.assert_frame_equal(tables[0][1], tables[1][1])
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "deep.onnx"
    assert export.main([str(trained[1]), "--out", str(file), "--limit", "2"]) == 0
    session = onnxruntime.InferenceSession(str(file))
    assert session.get_modelmeta().custom_metadata_map["bits"] == "12"


def test_arrays_of_sixteen_bits(twins, trained):
    path = min((twins[1] / "train_images").iterdir())
    run = load_run(trained[1], "cpu")
    expected = run.predict(path).probabilities
    grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert (run.predict(grey).probabilities == expected).all()
    assert (run.predict(np.dstack([grey] * 3)).probabilities == expected).all()
    with pytest.raises(UserError, match=r"the image holds the value 65535; .* use 12 bits"):
        run.predict(np.full((64, 320), 65535, np.uint16))


def test_a_brighter_image_is_refused_by_name(trained, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "bright.png"), np.full((64, 320), 5000, np.uint16))
    out = tmp_path / "masks.csv"
    assert predict.main([str(trained[1]), str(tmp_path / "bright.png"), "--out", str(out)]) == 1
    assert "bright.png holds the value 5000; the 16-bit images of this data set use 12 bits" in (
        capsys.readouterr().err
    )
    with pytest.raises(LabelError, match=r"bright\.png holds the value 5000"):
        read_image(tmp_path / "bright.png", 12)


def test_an_older_run_goes_on_reading_as_it_did(trained, twins, tmp_path, capsys):
    older = shutil.copytree(trained[1], tmp_path / "older")
    config = json.loads((older / "config.json").read_text())
    del config["data"]["bits"]
    (older / "config.json").write_text(json.dumps(config))
    assert runs.load(older).bits == 16
    assert compare.main([str(older), str(trained[1]), "--out", str(tmp_path / "r")]) == 2
    assert "older: 16 bits" in capsys.readouterr().err
    config["data"]["bits"] = 11
    (older / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"data\.bits is 11, not one of"):
        runs.load(older)
