"""One run of the mean of several runs' weights: as fast as one of them, and often better than each.

    python -m common.average runs/A runs/B --out runs/AB

For runs on one split whose weights come from the same ones: one started from the other (--init), or
all from a third. What comes out is a run directory like theirs but for what resumes a training;
`common.compare` chooses its decision. The mean of weights is that of "model soups" (Wortsman et
al., ICML 2022).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common import cli


@dataclass
class Config:
    """Average the weights of runs into a new one."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Two or more run directories, or published folders."""
    out: Annotated[Path, tyro.conf.arg(help="Run directory to write; new, or an empty folder.")]

    def __post_init__(self) -> None:
        if len({path.resolve() for path in self.runs}) < max(2, len(self.runs)):
            raise ValueError("name at least two runs, each once: runs/A runs/B --out runs/AB")


def main(argv: list[str] | None = None) -> int:
    """Averages; returns the exit code."""
    return cli.run("common.training.averaging:average", Config, argv)


if __name__ == "__main__":
    sys.exit(main())
