"""Compare trained runs on the images that none of them has seen; write tables, plots and a page.

    python -m common.compare runs/A runs/B runs/C --out report
    python -m common.compare runs/* --device cuda --batch-size 32
    python -m common.compare runs/* --aim alarms --alarms-per-100 2
    python -m common.compare runs/* --aim positive --empty-accuracy 0.9
    python -m common.compare runs/A rival=rival.csv

Every run is scored at the images' own size on the test images that all runs share. Runs that
differ only in their seed count as one variant, and so do the folds of one recipe: every image is
scored by the network that has not seen it. A run's decision is the one in its directory; where
there is none, or --aim asks for it, it is chosen on the run's val part and kept there: for Dice and
clean images alike, every class as much as any other (balanced, also where --aim is not given), for
Kaggle Dice, for few clean strips with an alarm, or for the most positive Dice that leaves a share
of absent classes empty. What was evaluated stays in the --out folder: a comparison that was cut
off, or is repeated with one run more, computes what is missing. Predictions that others made are
one decision: what takes probabilities or the network is unknown of them.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common.cli import run
from common.config import check_at_least


@dataclass
class Config:
    """Compare runs on the test images they share."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories; and NAME=FILE for predictions that others made, as a Kaggle table."""
    out: Path = Path("report")
    """Folder for tables, plots, predicted label maps and index.html."""
    data: Path | None = None
    """Data set root. Default: where the first run's data lay."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. auto takes a GPU where there is one."""
    precision: Literal["fp32", "bf16"] | None = None
    """bf16 runs the networks in mixed precision. Default: bf16 on a GPU that has it, else fp32."""
    aim: Literal["kaggle", "balanced", "positive", "alarms"] | None = None
    """What every run's decision is chosen anew for. Default: as its thresholds.json says."""
    alarms_per_100: float | None = None
    """With --aim alarms: of a hundred clean strips, in how many at most anything may be found."""
    empty_accuracy: float | None = None
    """With --aim positive: which share of absent classes must be left empty, as val tells."""
    batch_size: int = 8
    """Images in one forward pass of the evaluation; timing tries its own."""
    repeats: int = 20
    """Rounds of every time measurement."""
    resamples: int = 2000
    """Bootstrap resamples behind every interval."""
    seed: int = 0
    """Seeds the bootstrap."""
    wandb: Literal["online", "offline", "disabled"] | None = None
    """Weights & Biases mode. Default: WANDB_MODE, else online with a login, else offline."""

    def __post_init__(self) -> None:
        check_at_least(self, batch_size=1, repeats=1, resamples=100, seed=0)
        if (self.aim == "alarms") != (self.alarms_per_100 is not None):
            raise ValueError("--aim alarms and --alarms-per-100 N go together")
        if (self.aim == "positive") != (self.empty_accuracy is not None):
            raise ValueError("--aim positive and --empty-accuracy E go together")
        if self.empty_accuracy is not None and not 0 < self.empty_accuracy < 1:
            raise ValueError(
                f"--empty-accuracy must lie between 0 and 1, got {self.empty_accuracy:g}"
            )
        if self.alarms_per_100 is not None and not 0 < self.alarms_per_100 < 100:
            raise ValueError(
                f"--alarms-per-100 must lie between 0 and 100, got {self.alarms_per_100:g}"
            )

    @property
    def number(self) -> float | None:
        """What the aim is given: false alarms per 100 clean strips, or a least empty accuracy."""
        return self.empty_accuracy if self.aim == "positive" else self.alarms_per_100


def main(argv: list[str] | None = None) -> int:
    """Compares, prints the table and where the page lies; returns the exit code."""

    arguments = sys.argv[1:] if argv is None else argv

    def show(config: Config) -> None:
        from common.comparison import report  # these not above: PyTorch takes seconds to load
        from common.comparison.compare import compare

        whole = compare(config, f"python -m common.compare {shlex.join(arguments)}")
        print(report.summary(whole))
        for warning in report.warnings(whole):
            print(f"warning: {warning}")
        print(f"report: {(config.out / 'index.html').resolve()}")

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
