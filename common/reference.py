"""What the reference's numbers mean: the same predictions, scored its way and ours.

    python -m common.reference runs/A runs/B --out report/reference.md

The 2020 course project that this package measures itself against reports accuracies and Dice of
.93 to .99. Three habits of its evaluation make them: every network is scored at its own small size;
train and val are two independent draws with replacement from one list, so that 55 % of the val
images are in train; and the metric sets the background's row and column of the confusion matrix to
0, so that a missed or an invented defect costs nothing. The table takes one step after another from
our figures (top left) to figures of its kind (bottom right).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common.cli import run


@dataclass
class Config:
    """Score the same predictions by the reference's metric and split, and by ours."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories."""
    out: Path = Path("report/reference.md")
    """Markdown file to write."""
    data: Path | None = None
    """Data set root. Default: where the first run's data lay."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. auto takes a GPU where there is one."""
    batch_size: int = 8
    """Images in one forward pass."""
    seed: int = 0
    """Seeds the draw of the reference's val list."""


def main(argv: list[str] | None = None) -> int:
    """Prints and writes the section; returns the exit code."""
    return run("common.comparison.reference:score", Config, argv)


if __name__ == "__main__":
    sys.exit(main())
