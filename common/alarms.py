"""Choose thresholds for a false-alarm rate: the share of clean strips in which anything is found.

    python -m common.alarms runs/A --rate 0.01
    python -m common.alarms runs/A --rate 0.001 --clean line3/clean --write

On the val part, and on further clean strips where given, one probability and one least area for
all classes are chosen: those that find the most defective strips among all that raise an alarm in
at most this share of the clean ones. --write makes them the run's, for predict, export and compare.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import tyro
from scipy.stats import binomtest

from common import cli, runs
from common import labels as labels_module
from common.dataset import splits
from common.dataset.images import find_images
from common.dataset.stream import ahead
from common.devices import pick_device
from common.errors import UserError
from common.inference import Segmenter
from common.labels import Labels, read_image
from common.machine import cores
from common.progress import tqdm
from common.thresholds import FILE, Thresholds

PROBABILITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


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


@dataclass(frozen=True)
class Choice:
    """Thresholds for a rate, and what they do: alarms of `clean` strips, found of `defective`."""

    probability: float
    area: int
    alarms: int
    clean: int
    found: int
    defective: int

    def row(self) -> str:
        """A line under HEADER."""
        return (
            f"{self.probability:11g}{self.area:12}   {_share(self.alarms, self.clean):31}"
            f"{_share(self.found, self.defective)}"
        )


HEADER = (
    f"{'probability':>11}{'least area':>12}   {'clean strips with an alarm':31}defective ones found"
)


def alarms(config: Config) -> None:
    """Runs the command."""
    record = runs.load(config.run)
    labels = labels_module.load(config.data or record.data["root"])
    names = splits.part_of(record.path, "val", labels)
    defective = [name for name in names if labels.classes(name)]
    clean = [labels.path(name) for name in names if not labels.classes(name)]
    clean += find_images(config.clean) if config.clean else []
    if len(clean) < 1 / config.rate or not defective:
        raise UserError(
            f"{len(clean)} clean and {len(defective)} defective strips cannot show a rate of "
            f"{config.rate:g}: that takes at least {math.ceil(1 / config.rate)} clean ones and a "
            "defective one.\nName a folder of more clean strips with --clean."
        )
    segmenter = Segmenter(record, pick_device(config.device))
    alarm_areas = np.stack(list(largest_areas(segmenter, clean)))
    found_areas = np.stack(list(largest_areas(segmenter, *_with_truths(labels, defective))))
    choices = [
        choose(probability, alarm_areas[:, i], found_areas[:, i], config.rate)
        for i, probability in enumerate(PROBABILITIES)
    ]
    best = max(choices, key=lambda choice: choice.found)
    print(HEADER, *(choice.row() for choice in choices), sep="\n")
    print(
        f"best: probability {best.probability:g} and least area {best.area} px. In brackets the "
        "95 % interval, where the share among other strips may lie."
    )
    if config.write:
        _write(record, best, config.rate)


def choose(
    probability: float, alarm_areas: np.ndarray, found_areas: np.ndarray, rate: float
) -> Choice:
    """The smallest least area that keeps the rate.

    alarm_areas, found_areas: largest component of each clean, and each defective strip; 0 none.
    """
    allowed = int(rate * len(alarm_areas))
    largest = int(np.sort(alarm_areas)[::-1][allowed])
    area = largest + 1 if largest else 0
    least = max(area, 1)
    return Choice(
        probability=probability,
        area=area,
        alarms=int((alarm_areas >= least).sum()),
        clean=len(alarm_areas),
        found=int((found_areas >= least).sum()),
        defective=len(found_areas),
    )


def largest_areas(
    segmenter: Segmenter, paths: Sequence[Path], truths: Iterable[np.ndarray] | None = None
) -> Iterator[np.ndarray]:
    """For each strip the largest component found at each of PROBABILITIES, (P,) int64, 0 for none.

    truths: label maps (H, W); where given, only components count that touch a true defect.
    """
    truths = iter(truths) if truths is not None else None
    with ThreadPoolExecutor(cores()) as pool:
        images = ahead(read_image, paths, pool, depth=8)
        for image in tqdm(images, "strips", len(paths), unit="image", leave=False):
            # With one probability for all classes the likeliest defect is the one that counts.
            likeliest, best = segmenter.probabilities([image])[0, 1:].max(0)
            label_map = (best + 1).to(torch.uint8).numpy(force=True)
            likeliest = likeliest.numpy(force=True)
            truth = next(truths) > 0 if truths is not None else np.ones(image.shape, bool)
            yield np.array([_largest(label_map * (likeliest >= p), truth) for p in PROBABILITIES])


def _largest(label_map: np.ndarray, where: np.ndarray) -> int:
    """Pixels of the largest component of any class that touches `where`."""
    largest = 0
    for k in np.unique(label_map[where & (label_map > 0)]):
        mask = (label_map == k).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
        touching = np.unique(parts[where & (parts > 0)])
        largest = max(largest, int(stats[touching, cv2.CC_STAT_AREA].max()))
    return largest


def _with_truths(labels: Labels, names: Sequence[str]) -> tuple[list[Path], Iterator[np.ndarray]]:
    paths = [labels.path(name) for name in names]
    shapes = (read_image(path).shape for path in paths)
    return paths, (labels.label_map(*pair) for pair in zip(names, shapes, strict=True))


def _share(count: int, total: int) -> str:
    interval = binomtest(count, total).proportion_ci(method="exact")
    return f"{count} of {total} ({100 * interval.low:.2f} to {100 * interval.high:.2f} %)"


def _write(record: runs.Run, choice: Choice, rate: float) -> None:
    count = record.num_classes - 1
    thresholds = Thresholds(
        probability=(choice.probability,) * count,
        area=(choice.area,) * count,
        aim=f"alarms, {100 * rate:g} per 100",
    )
    try:
        thresholds.save(record.path)
    except OSError as error:
        raise UserError(f"cannot write {record.path / FILE}: {error.strerror or error}") from error
    print(f"written to {record.path / FILE}; delete it to have compare choose by Dice again")


def main(argv: list[str] | None = None) -> int:
    """Chooses; returns the exit code."""
    return cli.run(alarms, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
