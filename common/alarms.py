"""Choose thresholds for a false-alarm rate: the share of clean strips in which anything is found.

    python -m common.alarms runs/A --rate 0.01
    python -m common.alarms runs/A --rate 0.001 --clean line3/clean --write

On the val part, and on further clean strips where given, one probability and one least area for
all classes are chosen: those that find the most defective strips among all that raise an alarm in
at most this share of the clean ones. --write makes them the run's, for predict, export and compare;
`common.compare --aim alarms` does so too, from the val part alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from common import cli
from common.dataset.images import find_images
from common.files import refusals_said

if TYPE_CHECKING:
    from common.comparison.false_alarms import Choice
    from common.runs import Run


@dataclass
class Config:
    """Choose a run's thresholds for a rate of false alarms."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    rate: float = 0.01
    """The largest share of clean strips that may raise an alarm."""
    clean: tuple[str, ...] = ()
    """More clean strips: folders, files, or glob patterns in quotes."""
    write: bool = False
    """Make the choice the run's thresholds.json."""
    data: Path | None = None
    """Data set root, for the val images. Default: where the run was trained."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. auto takes a GPU where there is one."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"--rate must lie between 0 and 1, got {self.rate}")


HEADER = (
    f"{'probability':>11}{'least area':>12}   {'clean strips with an alarm':31}defective ones found"
)


def alarms(config: Config) -> None:
    """Runs the command."""
    from common import runs  # these not above: PyTorch takes seconds to load
    from common.comparison import false_alarms
    from common.devices import pick_device
    from common.inference import Segmenter

    record = runs.load(config.run)
    labels = record.labels(config.data)
    more_clean = find_images(config.clean) if config.clean else []
    segmenter = Segmenter(record, pick_device(config.device))
    choices = false_alarms.choices(segmenter, labels, config.rate, more_clean)
    best = false_alarms.best(choices)
    print(HEADER, *map(_row, choices), sep="\n")
    print(
        f"best: probability {best.probability:g} and least area {best.area} px. In brackets the "
        "95 % interval, where the share among other strips may lie."
    )
    if config.write:
        _write(record, best, config.rate)


def _row(choice: Choice) -> str:
    """A line under HEADER."""
    return (
        f"{choice.probability:11g}{choice.area:12}   {_share(choice.alarms, choice.clean):31}"
        f"{_share(choice.found, choice.defective)}"
    )


def _share(count: int, total: int) -> str:
    from scipy.stats import binomtest  # slow to load, too

    interval = binomtest(count, total).proportion_ci(method="exact")
    return f"{count} of {total} ({100 * interval.low:.2f} to {100 * interval.high:.2f} %)"


def _write(record: Run, choice: Choice, rate: float) -> None:
    with refusals_said(f"to {record.path}"):
        file = choice.thresholds(record.num_classes - 1, rate).save(record.path)
    print(f"written to {file}; compare --aim balanced would choose by Dice again")


def main(argv: list[str] | None = None) -> int:
    """Chooses; returns the exit code."""
    return cli.run(alarms, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
