"""What each part of the slim network's recipe is worth: one change at a time, judged on val.

    python -m benchmarks.ablation --data data/severstal --out runs/ablation

Trains `modified_unet` by its recipe, then by each change of it, with every seed: what seeds differ
by is what chance alone makes. The test part is never looked at. Finished trainings are kept in
--out and not repeated, so an interrupted ablation goes on where it was.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from common import cli, runs
from common.comparison.report import markdown_table
from common.config import PROJECT
from common.dataset.augment import Augmentation
from common.dataset.prepare import default_root
from common.errors import UserError
from common.files import publish
from common.metrics import merit
from modified_unet import dataloader, train

CHANGES = {  # name: options of the training
    "recipe": [],
    "loss ce+dice": ["--loss", "ce+dice"],
    "loss bce+dice": ["--loss", "bce+dice"],
    "loss ce+lovasz": ["--loss", "ce+lovasz"],
    "loss bce+focal_tversky": ["--loss", "bce+focal_tversky"],
    "uniform sampling": ["--sampling", "uniform"],
    "whole strips": ["--crop", "none"],
    "no class balance": ["--class-balance", "none"],
    "no averaged weights": ["--ema", "0"],
    "no warm-up": ["--warmup", "0"],
    "half the learning rate": ["--lr", "1.5e-3"],
    "twice the learning rate": ["--lr", "6e-3"],
    "half as wide again": ["--base-channels", "48"],
}
AUGMENTATIONS = {  # name: what replaces the variant's augmentation
    "no augmentation": Augmentation(flip=0, shift=0, gain=0, offset=0, border=0),
    "flips only": Augmentation(shift=0, gain=0, offset=0, border=0),
    "no black borders": Augmentation(border=0),
}
COLUMNS = {
    "val/dice_mean": "mean Dice",
    "val/dice_positive_macro": "positive Dice, macro",
    "val/empty_accuracy": "empty accuracy",
    "val/kaggle_dice": "Kaggle Dice",
}


@dataclass
class Config:
    """Train the slim network with one change at a time."""

    data: Path | None = None
    """Data set root. Default: the one that a training takes."""
    out: Path = PROJECT / "runs" / "ablation"
    """Folder for the run directories and table.md."""
    size: str = "64x512"
    """Height and width of the network's input."""
    split: Path | None = None
    """split.csv to use as it is. Default: the one that a training makes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings."""
    epochs: int = 12
    """Epochs of each training."""
    batch_size: int = 8
    """Strips a step."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """bf16 trains in mixed precision."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def ablate(config: Config) -> pd.DataFrame:
    """Trains what is missing; returns and writes the table, a row a change and a column a figure.

    Cells hold the figure of each seed's best epoch. Raises UserError where a training fails.
    """
    default = dataloader.AUGMENTATION
    cases = {name: (options, default) for name, options in CHANGES.items()}
    cases |= {name: ([], augmentation) for name, augmentation in AUGMENTATIONS.items()}
    rows = {}
    for name, (options, augmentation) in cases.items():
        best = []
        for seed in config.seeds:
            folder = config.out / f"{name.replace(' ', '-')}-{seed}"
            own = [*_options(config), *options, "--seed", str(seed), "--out", str(folder)]
            with augmented_by(augmentation):
                code = train.main(own)
            if code:
                raise UserError(f"the training '{name}', seed {seed}, ended with exit code {code}.")
            best.append(max(runs.load(folder).metrics().to_dict("records"), key=merit))
        rows[name] = {
            title: " / ".join(f"{row[column]:.3f}" for row in best)
            for column, title in COLUMNS.items()
        }
        table = pd.DataFrame(rows).T
        publish(config.out / "table.md", markdown(table))
    return table


def _options(config: Config) -> list[str]:
    given = dataclasses.asdict(config) | {"data": config.data or default_root()}
    del given["out"], given["seeds"]
    pairs = [(f"--{key.replace('_', '-')}", str(v)) for key, v in given.items() if v is not None]
    return [*sum(pairs, ()), "--resume", "auto", "--wandb", "disabled"]


@contextmanager
def augmented_by(augmentation: Augmentation) -> Iterator[None]:
    """Puts another augmentation in the place of the variant's."""
    own, dataloader.AUGMENTATION = dataloader.AUGMENTATION, augmentation
    try:
        yield
    finally:
        dataloader.AUGMENTATION = own


def markdown(table: pd.DataFrame) -> str:
    """The table, ready for a README."""
    rows = [[name, *row] for name, row in table.iterrows()]
    return markdown_table(["change", *table.columns], rows) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    return cli.run(lambda config: print(markdown(ablate(config))), Config, argv)


if __name__ == "__main__":
    sys.exit(main())
