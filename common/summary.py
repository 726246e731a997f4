"""A short table of finished runs, from their run directories alone.

    python -m common.summary runs/A runs/B
    python -m common.summary --images runs/A --part test

Figures are of the val part; `common.compare` scores runs on images that none of them has seen.
--images prints the names of a run's images, for whoever predicts or trains elsewhere.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro

from common.cli import run
from common.config import completed
from common.errors import UserError
from common.tables import read_rows


@dataclass
class Config:
    """Print what each run reached on its val part, beside the baselines."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories."""
    images: Path | None = None
    """A run directory: print the names of its images in place of the table, one a line."""
    part: Literal["train", "val", "test"] = "test"
    """With --images: which of them."""

    def __post_init__(self) -> None:
        if bool(self.runs) == bool(self.images):
            raise ValueError(
                "name at least one run directory, python -m common.summary runs/A, or one with "
                "--images"
            )


def table(paths: tuple[Path, ...]) -> pd.DataFrame:
    """A row a run: size, parameters, best val figures and the baselines on the same images.

    Dice figures are at the run's own size; seconds are those of all epochs. Where there are folds,
    a column says which, as "0 of 5": each has a val part of its own.
    """
    from common import runs  # these not above: PyTorch takes seconds to load
    from common.blocks import parameters
    from common.metrics import merit

    rows = []
    for path in paths:
        record = runs.load(path)
        metrics = record.metrics()
        best = max(metrics.to_dict("records"), key=merit)
        model = runs.new_model(record.variant, record.model)
        options = completed(record.options)
        rows.append(
            {
                "run": record.name,
                "fold": f"{options['fold']} of {options['folds']}" if options["folds"] else "",
                "size": f"{record.size[0]}x{record.size[1]}",
                "parameters": f"{parameters(model) / 1e6:.2f} M",
                "epochs": len(metrics),
                "val positive Dice": best.get("val/dice_positive"),
                "empty": record.baselines.get("empty"),
                "one class": record.baselines.get("one_class"),
                "val mean Dice": best["val/dice_mean"],
                "val Kaggle Dice": best.get("val/kaggle_dice"),
                "seconds": round(metrics["epoch_seconds"].sum()),
            }
        )
    found = pd.DataFrame(rows).astype({"empty": float, "one class": float})
    return found if found["fold"].any() else found.drop(columns="fold")


def images_of(path: Path, part: str) -> list[str]:
    """Names of the images in a part of the run's split. Raises UserError for a damaged one."""
    from common import runs
    from common.dataset.splits import COLUMNS

    rows, problems = read_rows(runs.load(path).path / "split.csv", COLUMNS)
    if problems:
        raise UserError(problems[0])
    return [image for _, (image, its, _) in rows if its == part]


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code."""

    def show(config: Config) -> None:
        if config.images:
            print(*images_of(config.images, config.part), sep="\n")
            return
        print(table(config.runs).to_string(index=False, float_format="{:.3f}".format))
        print("empty, one class: positive Dice of predicting nothing, and one class everywhere")

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
