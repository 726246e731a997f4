"""What a training prints: how it begins, a line an epoch, and what to do next. Rank 0 only."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import torch

from common.blocks import parameters
from common.dataset import splits
from common.distributed import is_main, world_size
from common.progress import tqdm
from common.training.state import Training

DICE = "val/dice_class_"  # and the class: pooled Dice


def say(text: str) -> None:
    """Prints a line above any progress bar, once over all processes; a log file has it at once."""
    if is_main():
        tqdm.write(text)
        sys.stdout.flush()


def opening(training: Training, resumed: bool) -> None:
    """Data, split, leak, network, device and the baselines to beat."""
    config, data = training.config, training.data
    parts = data.split["split"].value_counts()
    places = f"{world_size()} x {training.device.type}" if world_size() > 1 else training.device
    say(
        f"{config.variant}: {config.height}x{config.width}, "
        f"{parameters(training.model) / 1e6:.2f} M parameters, loss {config.loss}, "
        f"{config.precision} on {places}"
        + (f" ({torch.get_num_threads()} threads)" if training.device.type == "cpu" else "")
    )
    say(
        f"data {data.labels.root}: {len(data.split)} images, {data.labels.num_classes} classes; "
        + ", ".join(f"{part} {parts.get(part, 0)}" for part in ("train", "val", "test"))
    )
    if config.split is None:
        say(splits.leak_line(data.split))
    else:  # its groups are as given: what a random split would have done, they need not tell
        say(f"split {config.split}: {data.split['group'].nunique()} groups")
    lost = [
        f"{count} of {masks} of class {title}"
        for title, (count, masks) in zip(data.labels.class_titles, data.lost_masks(), strict=True)
        if count
    ]
    if lost:
        say(
            f"masks without a pixel left at {config.height}x{config.width}: {', '.join(lost)}; "
            "their images train as if these defects were not there"
        )
    floor = training.baselines
    say(
        f"val baselines: empty prediction: positive Dice {floor['empty']:.3f}, Kaggle Dice "
        f"{floor['empty_kaggle']:.3f}; one class everywhere: positive Dice {floor['one_class']:.3f}"
    )
    if resumed:
        say(f"resuming {training.folder} at epoch {training.progress.epoch + 1}")


def epoch(
    row: dict[str, float],
    epochs: int,
    improved: bool,
    titles: Sequence[str],
    val_classes: Sequence[int],
) -> None:
    """The one line of an epoch. titles: what to call the defect classes, in order; val_classes:
    those that the val part holds.
    """
    missed = [titles[k - 1] for k in val_classes if row[f"{DICE}{k}"] == 0]
    say(
        f"epoch {row['epoch'] + 1:3d}/{epochs}  loss {row['train/loss']:.4f}  "
        f"val loss {row['val/loss']:.4f}  mean Dice {row['val/dice_mean']:.3f}  "
        f"positive Dice {row['val/dice_positive']:.3f}  Kaggle {row['val/kaggle_dice']:.3f}  "
        f"{row['images_per_second']:.1f} images/s  {row['epoch_seconds']:.0f} s"
        + (f"  never found: class {', '.join(missed)}" if missed else "")
        + ("  *" if improved else "")
    )


def closing(training: Training) -> None:
    """The best epoch, classes never found, where the run lies and the exact next commands."""
    progress, folder = training.progress, training.folder
    best = progress.history[progress.best_epoch]
    say(
        f"best epoch {progress.best_epoch + 1}: mean Dice {best['val/dice_mean']:.3f}, positive "
        f"Dice {best['val/dice_positive']:.3f}, Kaggle Dice {best['val/kaggle_dice']:.3f}"
    )
    for k, title in enumerate(training.data.labels.class_titles, start=1):
        if k not in training.data.val_classes:  # whose Dice is 0 as soon as one pixel is invented
            say(f"class {title} does not occur in the val part: nothing is known of it")
        elif best[f"{DICE}{k}"] == 0:
            say(f"class {title} is never found on the val part (Dice 0)")
    typed = shlex.quote(str(folder))
    say(f"run directory: {folder}\nnext: python -m common.compare {typed} --out report")
    if (folder / "wandb").is_dir():
        say(f"      wandb leet {typed}/wandb   (dashboard in the terminal)")
