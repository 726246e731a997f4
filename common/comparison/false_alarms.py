"""Thresholds for a rate of false alarms: the share of clean strips in which anything is found.

One probability and one least area serve all classes: with few clean strips more could not be
chosen. The largest component that a network sees in each strip says what every area would give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from common.dataset import splits
from common.dataset.stream import ahead
from common.errors import UserError
from common.inference import Segmenter
from common.labels import Labels
from common.machine import cores
from common.pixels import read_image
from common.progress import tqdm
from common.thresholds import Thresholds, components

PROBABILITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Choice:
    """Thresholds for a rate, and what they do: alarms of `clean` strips, found of `defective`."""

    probability: float
    area: int
    alarms: int
    clean: int
    found: int
    defective: int

    def thresholds(self, classes: int, rate: float) -> Thresholds:
        """The choice for so many defect classes. rate: what it was made for."""
        return Thresholds(
            probability=(self.probability,) * classes,
            area=(self.area,) * classes,
            aim=f"alarms, {100 * rate:g} per 100",
        )


def choices(
    segmenter: Segmenter, labels: Labels, rate: float, more_clean: Sequence[Path] = ()
) -> list[Choice]:
    """For each of PROBABILITIES the least area that keeps the rate on the val part.

    more_clean: further strips without a defect. Raises UserError where there are too few clean
    strips to show the rate, or no defective one.
    """
    names = splits.part_of(segmenter.run.path, "val", labels)
    defective = [name for name in names if labels.classes(name)]
    clean = [labels.path(name) for name in names if not labels.classes(name)] + [*more_clean]
    if len(clean) < 1 / rate or not defective:
        raise UserError(
            f"{len(clean)} clean and {len(defective)} defective strips cannot show a rate of "
            f"{rate:g}: that takes at least {math.ceil(1 / rate)} clean ones and a defective one.\n"
            "Name a folder of more clean strips: python -m common.alarms RUN --clean FOLDER --write"
        )
    alarm_areas = np.stack(list(largest_areas(segmenter, clean)))
    paths = [labels.path(name) for name in defective]
    found_areas = np.stack(list(largest_areas(segmenter, paths, labels)))
    return [
        choose(probability, alarm_areas[:, i], found_areas[:, i], rate)
        for i, probability in enumerate(PROBABILITIES)
    ]


def best(found: Sequence[Choice]) -> Choice:
    """The choice that finds the most defective strips."""
    return max(found, key=lambda choice: choice.found)


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
    segmenter: Segmenter, paths: Sequence[Path], labels: Labels | None = None
) -> Iterator[np.ndarray]:
    """For each strip the largest component found at each of PROBABILITIES, (P,) int64, 0 for none.

    labels: where given, only components count that touch a true defect.
    """
    with ThreadPoolExecutor(cores()) as pool:
        images = ahead(partial(read_image, bits=segmenter.run.bits), paths, pool, depth=8)
        bar = tqdm(images, "strips", len(paths), unit="image", leave=False)
        for path, image in zip(paths, bar, strict=True):
            # With one probability for all classes the likeliest defect is the one that counts.
            likeliest, best = segmenter.probabilities([image])[0, 1:].max(0)
            label_map = (best + 1).to(torch.uint8).numpy(force=True)
            likeliest = likeliest.numpy(force=True)
            shape = image.shape
            where = labels.label_map(path.name, shape) > 0 if labels else np.ones(shape, bool)
            yield np.array([_largest(label_map * (likeliest >= p), where) for p in PROBABILITIES])


def _largest(label_map: np.ndarray, where: np.ndarray) -> int:
    """Pixels of the largest component of any class that touches `where`."""
    largest = 0
    for k in np.unique(label_map[where & (label_map > 0)]):
        found = components((label_map == k).astype(np.uint8), None)
        touching = np.unique(found.parts[where & (found.parts > 0)])
        largest = max(largest, int(found.area[touching].max()))
    return largest
