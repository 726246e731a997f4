"""Training from the command line to a complete run directory."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from common import labels, runs, summary
from common.dataset import splits
from tests.tiny import make_data

VARIANTS = ("unet_64x400", "unet_128x800", "modified_unet")
NAMES = {
    "train/loss",
    "val/loss",
    "val/dice_positive",
    "val/iou_mean",
    "val/kaggle_dice",
    "val/accuracy",
    "val/dice_class_1",
    "val/dice_class_4",
    "val/reference_iou",
    "lr",
    "images_per_second",
    "data_wait_fraction",
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_writes_a_whole_run_directory(
    train, variant: str, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "run"
    assert train(variant, "--out", out, "--wandb", "offline") == 0
    table = pd.read_csv(out / "metrics.csv")
    assert len(table) == 1
    assert set(table.columns) >= NAMES
    assert 0 < table["train/loss"].item() < 10
    assert sorted(pd.read_csv(out / "split.csv").columns) == ["group", "image", "split"]
    assert list((out / "samples").glob("*.png"))
    assert list((out / "wandb").glob("offline-run-*/*.wandb"))
    run = runs.load(out)
    assert (run.variant, run.size, run.num_classes) == (variant, (32, 200), 5)
    assert run.build_model()(torch.zeros(1, 1, 32, 200)).shape == (1, 5, 32, 200)
    said = capsys.readouterr().out
    assert str(out) in said
    assert "python -m common.compare" in said
    assert "would have leaked" in said


def test_the_same_command_gives_the_same_metrics(train, tmp_path: Path) -> None:
    tables = []
    for name in ("a", "b"):
        assert train("modified_unet", "--out", tmp_path / name, "--epochs", 2, "--seed", 7) == 0
        tables.append(pd.read_csv(tmp_path / name / "metrics.csv", dtype=str))
    timing = [c for c in tables[0] if any(w in c for w in ("second", "wait", "memory"))]
    pd.testing.assert_frame_equal(tables[0].drop(columns=timing), tables[1].drop(columns=timing))
    assert train("modified_unet", "--out", tmp_path / "c", "--epochs", 2, "--seed", 8) == 0
    other = pd.read_csv(tmp_path / "c" / "metrics.csv", dtype=str)
    assert other["train/loss"][0] != tables[0]["train/loss"][0]


def test_best_is_the_epoch_with_the_highest_mean_dice(trained_run: Path) -> None:
    table = pd.read_csv(trained_run / "metrics.csv")
    best = torch.load(trained_run / "best.pt", weights_only=True)
    assert best["epoch"] == table["val/dice_mean"].fillna(0).idxmax()
    assert best["metrics"]["val/loss"] == pytest.approx(table["val/loss"][best["epoch"]])


def test_where_dice_tells_nothing_the_lower_loss_is_best(
    train, dataset: Path, tmp_path: Path, capsys
) -> None:
    data = labels.load(dataset)
    split = splits.make_split(data)
    split["split"] = [
        "train" if data.classes(name) else "val" if i % 2 else "test"
        for i, name in enumerate(split["image"])
    ]
    splits.write(split, tmp_path / "clean_val.csv")
    out = tmp_path / "run"
    options = ("--split", tmp_path / "clean_val.csv", "--epochs", 4)
    assert train("modified_unet", "--out", out, *options) == 0
    table = pd.read_csv(out / "metrics.csv")
    # Where anything is invented the mean Dice is 0, else undefined.
    assert table["val/dice_mean"].fillna(0).eq(0).all()
    best = torch.load(out / "best.pt", weights_only=True)["epoch"]
    assert best == table["val/loss"].idxmin() != 0
    json.loads((out / "config.json").read_text(), parse_constant=pytest.fail)
    assert summary.main([str(out)]) == 0
    assert f"{out.name} " in capsys.readouterr().out


def test_masks_that_vanish_at_the_inputs_size_are_counted(train, tmp_path: Path, capsys) -> None:
    root = make_data(tmp_path / "data")
    table = pd.read_csv(root / "train.csv")
    clean = sorted({p.name for p in (root / "train_images").iterdir()} - set(table["ImageId"]))
    dots = pd.DataFrame({"ImageId": clean[:3], "ClassId": 1, "EncodedPixels": "196 2 260 2"})
    pd.concat([table, dots]).to_csv(root / "train.csv", index=False)
    options = ("--data", root, "--store", tmp_path / "store", "--out", tmp_path / "run")
    assert train("modified_unet", *options, "--height", 16, "--width", 80) == 0
    said = capsys.readouterr().out
    masks = (table["ClassId"] == 1).sum() + 3
    assert re.search(rf"without a pixel left at 16x80: 3 of {masks} of class 1", said)


def test_limit_keeps_whole_groups_and_every_part(train, tmp_path: Path, dataset: Path) -> None:
    out = tmp_path / "run"
    assert train("unet_64x400", "--out", out, "--limit", 20) == 0
    split = pd.read_csv(out / "split.csv")
    assert set(split["split"]) == {"train", "val", "test"}
    assert len(split) <= 24
    assert split.groupby("group")["split"].nunique().max() == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "many"], "many"),
        (["--lr", "-1"], "--lr"),
        (["--loss", "focal"], "lovasz"),
        (["--precision", "fp8"], "precision"),
        (["--sampling", "square"], "balanced"),
        (["--crop", "64"], "--crop must be HxW"),
        (["--crop", "40x200"], "--crop 40x200 is larger than the input, 32x200"),
        (["--crop", "32x208"], "--crop 32x208 is larger than the input, 32x200"),
        (["--crop", "32x100"], "--crop 32x100: both sides must be multiples of 8"),
        (["--crop", "0x64"], "--crop 0x64: both sides must be multiples of 8"),
        (["--no-such-option", "1"], "no-such-option"),
        (["--data", "/no/such/folder"], "/no/such/folder"),
        (["--device", "tpu"], "--device"),
        (["--device", "cuda:first"], "--device"),
        (["--limit", "2"], "--limit"),
        (["--resume", "/no/such/run"], "/no/such/run"),
        (["--split", "/no/such/split.csv"], "/no/such/split.csv"),
    ],
)
def test_bad_options_exit_with_2_and_say_why(
    train, tmp_path: Path, capsys, options: list[str], words: str
) -> None:
    out = tmp_path / "run"
    try:
        code = train("unet_64x400", "--out", out, *options)
    except SystemExit as exit_:
        code = exit_.code
    captured = capsys.readouterr()
    assert code == 2
    assert words in captured.err + captured.out
    assert "Traceback" not in captured.err
    assert not out.exists()


def test_a_loss_that_is_none_is_refused_before_any_image_is_read(
    train, tmp_path: Path, capsys
) -> None:
    assert train("unet_64x400", "--store", tmp_path / "store", "--loss", "foo") == 2
    assert "--loss: unknown loss 'foo': give one of ce, bce" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_a_used_folder_is_refused(train, trained_run: Path, capsys) -> None:
    before = (trained_run / "metrics.csv").read_bytes()
    assert train("modified_unet", "--out", trained_run) == 2
    assert "--resume" in capsys.readouterr().err
    assert (trained_run / "metrics.csv").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_said(train, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert train("unet_64x400", "--out", tmp_path / "file" / "run") == 2
    assert "--out" in capsys.readouterr().err


def test_real_strips_train(train, real_data: Path, tmp_path: Path) -> None:
    for name in ("severstal_sample", "neu_strips"):
        out = tmp_path / name
        options = ("--data", real_data / name, "--limit", 40, "--out", out, "--batch-size", 8)
        assert train("unet_64x400", *options) == 0
        assert (out / "best.pt").exists()
        config = json.loads((out / "config.json").read_text())
        assert config["model"]["num_classes"] == (4 if name == "neu_strips" else 5)
