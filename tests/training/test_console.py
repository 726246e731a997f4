"""What a training says of classes that it does not find."""

from pathlib import Path
from types import SimpleNamespace

from common.training import console

ROW = {
    "epoch": 0, "train/loss": 1.0, "val/loss": 1.0, "val/dice_mean": 0.2,
    "val/dice_positive": 0.2, "val/kaggle_dice": 0.8, "images_per_second": 9.0,
    "epoch_seconds": 1.0, "val/dice_class_0": 0.9, "val/dice_class_1": 0.6,
    "val/dice_class_2": 0.0, "val/dice_class_3": 0.0,  # invented: val does not hold it
}  # fmt: skip


def test_classes_never_found_are_said_each_epoch_and_at_the_end(capsys) -> None:
    titles = ("1", "2 (patch)", "3")
    of = {"titles": titles, "val_classes": [1, 2]}
    console.epoch(ROW, 5, improved=True, **of)
    assert "never found: class 2 (patch)  *" in capsys.readouterr().out
    console.epoch(
        ROW | {"val/dice_class_2": 0.1}, 5, improved=True, titles=titles, val_classes=[1, 2]
    )
    assert "never found" not in capsys.readouterr().out
    console.closing(
        SimpleNamespace(
            progress=SimpleNamespace(best_epoch=0, history=[ROW]),
            folder=Path("runs/a"),
            data=SimpleNamespace(labels=SimpleNamespace(class_titles=titles), val_classes=[1, 2]),
        )
    )
    said = capsys.readouterr().out
    assert "class 1" not in said
    assert "class 2 (patch) is never found on the val part (Dice 0)" in said
    assert "class 3 does not occur in the val part" in said


def test_next_commands_can_be_typed_as_they_are(capsys) -> None:
    training = SimpleNamespace(
        progress=SimpleNamespace(best_epoch=0, history=[ROW]),
        folder=Path("my runs/a"),
        data=SimpleNamespace(labels=SimpleNamespace(class_titles=("1",)), val_classes=[1]),
    )
    console.closing(training)
    assert "next: python -m common.compare 'my runs/a' --out report" in capsys.readouterr().out
