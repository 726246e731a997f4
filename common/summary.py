"""A short table of finished runs, from their run directories alone.

    python -m common.summary runs/A runs/B

Figures are of the val part; `common.compare` scores runs on images that none of them has seen.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from common import runs
from common.cli import run
from common.config import completed
from common.metrics import merit


@dataclass
class Config:
    """Print what each run reached on its val part, beside the baselines."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("name at least one run directory: python -m common.summary runs/A")


def table(paths: tuple[Path, ...]) -> pd.DataFrame:
    """A row a run: size, parameters, best val figures and the baselines on the same images.

    Dice figures are at the run's own size; seconds are those of all epochs. Where there are folds,
    a column says which, as "0 of 5": each has a val part of its own.
    """
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
                "parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M",
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


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code."""

    def show(config: Config) -> None:
        print(table(config.runs).to_string(index=False, float_format="{:.3f}".format))
        print("empty, one class: positive Dice of predicting nothing, and one class everywhere")

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
