"""A run directory made before the package had rooms is still compared, used, exported, resumed.

`old_run/` was written by the commit 3571f05: twenty synthetic strips, a small network, the masks
that its `common.predict` wrote. Options that are absent there mean what was done then.
"""

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from common import compare, export, predict, rle, runs
from common.dataset import splits
from common.labels import load
from modified_unet import train

OLD = Path(__file__).parent / "old_run"
DATA = OLD / "data"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "run", tmp_path / "old"))


def test_its_network_and_split_are_read(old):
    run = runs.load(old)
    assert (run.variant, run.size, run.num_classes) == ("modified_unet", (32, 160), 5)
    assert len(splits.part_of(old, "train", load(DATA))) == 15
    assert run.build_model()(torch.zeros(1, 1, 32, 160)).shape == (1, 5, 32, 160)


def test_it_predicts_the_masks_it_predicted_then(old, tmp_path):
    with (OLD / "masks.csv").open() as file:
        then = {
            (row["ImageId"], row["ClassId"]): row["EncodedPixels"] for row in csv.DictReader(file)
        }
    images = sorted({str(DATA / "train_images" / name) for name, _ in then})
    out = tmp_path / "masks.csv"
    assert predict.main([str(old), *images, "--out", str(out), "--device", "cpu"]) == 0
    with out.open() as file:
        now = {
            (row["ImageId"], row["ClassId"]): row["EncodedPixels"] for row in csv.DictReader(file)
        }
    assert now.keys() == then.keys()
    for key, mask in then.items():  # not to the last bit: processors round differently
        differing = rle.decode(mask, (64, 320)) != rle.decode(now[key], (64, 320))
        assert differing.mean() < 0.001


def test_it_is_compared(old, tmp_path):
    options = ["--data", DATA, "--out", tmp_path / "report", "--device", "cpu", "--repeats", 1]
    options += ["--wandb", "disabled"]
    assert compare.main([str(old), *map(str, options)]) == 0
    table = pd.read_csv(tmp_path / "report" / "results.csv")
    assert table["name"].tolist() == ["empty prediction", "modified_unet 32x160"]
    assert table["kaggle_dice"].tolist() == pytest.approx([0.875, 0.875], abs=1e-3)


def test_it_is_exported(old, tmp_path):
    out = tmp_path / "old.onnx"
    assert export.main([str(old), "--out", str(out), "--data", str(DATA)]) == 0
    assert out.stat().st_size > 10_000


def test_it_is_resumed(old, tmp_path):
    options = ["--data", DATA, "--store", tmp_path / "store", "--epochs", 61]
    assert train.main(["--resume", str(old), *map(str, options)]) == 0
    metrics = pd.read_csv(old / "metrics.csv")
    # The losses that the commit which made this run reached when it went on by an epoch.
    assert metrics["train/loss"].iloc[-1] == pytest.approx(0.6429882, rel=1e-3)
    assert metrics["val/loss"].iloc[-1] == pytest.approx(0.3963923, rel=1e-3)
    saved = json.loads((old / "config.json").read_text())
    assert (saved["options"]["epochs"], saved["data"]["root"]) == (61, str(DATA.resolve()))
