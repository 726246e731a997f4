"""What is kept of one predicted image: counts, from which every figure of a comparison follows.

A 256x1600 prediction becomes a few hundred numbers, so a data set of any size is evaluated in
constant memory, and resampling images means adding up rows.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from common.files import publish
from common.labels import defect_classes
from common.metrics import confusion

SIZE_EDGES = (1_000, 4_000, 16_000, 64_000)
"""Borders between the size bins of truth components, in pixels of the image's own size."""
FOUND = 0.5
"""Share of a truth component's pixels that must carry its class for it to count as found."""
CALIBRATION_BINS = 10
CHECKSUM = 16  # bytes before a file's arrays
BAND = 1 << 22  # pixels that are counted at once


@dataclass(frozen=True)
class Truth:
    """The truth of one image, with its 8-connected components.

    label_map: (H, W) uint8. parts: (H, W) int32, 0 background, else the component's number, from 1.
    classes, bins, areas: (P + 1,) class, size bin and pixels of each component; entry 0 stands for
    background.
    """

    label_map: np.ndarray
    parts: np.ndarray
    classes: np.ndarray
    bins: np.ndarray
    areas: np.ndarray


@dataclass(frozen=True)
class Sums:
    """What a tally needs of the probabilities of an image, or of a part of it; they add up.

    highest: (K,) float32, calibration: (CALIBRATION_BINS, 3) float64, both as in a Tally.
    """

    highest: np.ndarray
    calibration: np.ndarray

    @classmethod
    def unknown(cls, classes: int) -> Sums:
        """Of an image whose probabilities nobody has: NaN, and no pixel in the calibration."""
        return cls(np.full(classes, np.nan, np.float32), np.zeros((CALIBRATION_BINS, 3)))

    def __add__(self, other: Sums) -> Sums:
        highest = np.maximum(self.highest, other.highest)
        return Sums(highest, self.calibration + other.calibration)


@dataclass(frozen=True)
class Tally:
    """Counts of N images predicted by one run; K defect classes, C = K + 1.

    confusion, confusion_thresholded: (N, C, C) int64 pixels, rows truth, columns prediction.
    alarms, alarms_thresholded: (N,) int64, 8-connected components in the prediction.
    probability: (N, K) float32, the highest probability of each class anywhere in the image; NaN
    where only the decision is known, and then the calibration is 0.
    components, found, found_thresholded: (N, K, len(SIZE_EDGES) + 1) int64, truth components by
    class and size, and those of them of which the prediction covers at least the share FOUND.
    calibration: (N, CALIBRATION_BINS, 3) float64, a bin of P(defect) each: pixels, their summed
    P(defect), and how many of them are defects in the truth.
    size: (N, 2) int64, height and width.
    Fields without `thresholded` in their name belong to the most probable class a pixel.
    """

    confusion: np.ndarray
    confusion_thresholded: np.ndarray
    alarms: np.ndarray
    alarms_thresholded: np.ndarray
    probability: np.ndarray
    components: np.ndarray
    found: np.ndarray
    found_thresholded: np.ndarray
    calibration: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.alarms)

    def save(self, path: Path) -> None:
        """Publishes a checksum and the arrays as .npz. Raises OSError where the disk refuses."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self))
        publish(path, _checksum(buffer.getvalue()) + buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Tally | None:
        """What `save` has written; None where it was damaged since."""
        content = path.read_bytes()
        checksum, arrays = content[:CHECKSUM], content[CHECKSUM:]
        if checksum != _checksum(arrays):
            return None
        with np.load(io.BytesIO(arrays)) as saved:
            return cls(**{field.name: saved[field.name] for field in fields(cls)})


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()


def concatenate(tallies: Sequence[Tally]) -> Tally:
    """One tally of all images, in order."""
    names = [field.name for field in fields(Tally)]
    return Tally(**{name: np.concatenate([getattr(t, name) for t in tallies]) for name in names})


def take(tally: Tally, rows: Sequence[int]) -> Tally:
    """The tally of these of its images, in this order."""
    return Tally(**{name: values[rows] for name, values in vars(tally).items()})


def truth_of(label_map: np.ndarray, num_classes: int) -> Truth:
    """Finds the components of a label map (H, W) uint8, class by class."""
    parts = np.zeros(label_map.shape, np.int32)
    classes, areas = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]
    number = 0
    for k in range(1, num_classes):
        mask = (label_map == k).astype(np.uint8)
        if not mask.any():
            continue
        count, own, stats, _ = cv2.connectedComponentsWithStats(mask)
        np.add(own, number, out=own, where=mask.view(bool))
        parts += own
        number += count - 1
        classes.append(np.full(count - 1, k))
        areas.append(stats[1:, cv2.CC_STAT_AREA].astype(np.int64))
    area = np.concatenate(areas)
    bins = np.searchsorted(SIZE_EDGES, area, side="right")
    return Truth(label_map, parts, np.concatenate(classes), bins, area)


def sums_of(probabilities: np.ndarray, label_map: np.ndarray) -> Sums:
    """The sums of probabilities (C, H, W) float32, summing to 1 over C; label_map: the truth."""
    highest = probabilities[1:].max(axis=(1, 2))
    return Sums(highest, _calibration(1 - probabilities[0], label_map > 0))


def tally_image(truth: Truth, sums: Sums, plain: np.ndarray, thresholded: np.ndarray) -> Tally:
    """The tally (N = 1) of one image.

    plain, thresholded: (H, W) uint8, the label maps decided without and with thresholds and least
    areas.
    """
    num_classes = len(sums.highest) + 1
    one = {
        "confusion": _confusion(plain, truth.label_map, num_classes),
        "confusion_thresholded": _confusion(thresholded, truth.label_map, num_classes),
        "alarms": np.int64(count_components(plain)),
        "alarms_thresholded": np.int64(count_components(thresholded)),
        "probability": sums.highest,
        "components": _count(truth, np.ones(len(truth.areas), bool), num_classes),
        "found": _count(truth, _found(truth, plain), num_classes),
        "found_thresholded": _count(truth, _found(truth, thresholded), num_classes),
        "calibration": sums.calibration,
        "size": np.array(truth.label_map.shape),
    }
    return Tally(**{name: value[None] for name, value in one.items()})


def count_components(label_map: np.ndarray) -> int:
    """8-connected components of all defect classes of a label map (H, W) uint8."""
    masks = ((label_map == k).astype(np.uint8) for k in defect_classes(label_map))
    return sum(cv2.connectedComponents(mask)[0] - 1 for mask in masks)


def _confusion(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Confusion matrix (C, C) int64 of two label maps (H, W), counted by bands of rows."""
    step = max(1, BAND // truth.shape[1])
    return sum(
        confusion(prediction[None, y : y + step], truth[None, y : y + step], num_classes)[0].numpy()
        for y in range(0, len(truth), step)
    )


def _found(truth: Truth, prediction: np.ndarray) -> np.ndarray:
    """Which truth components (P + 1,) the prediction covers at least by the share FOUND."""
    right = truth.parts[(prediction == truth.label_map) & (truth.label_map > 0)]
    return np.bincount(right, minlength=len(truth.areas)) >= FOUND * truth.areas


def _count(truth: Truth, chosen: np.ndarray, num_classes: int) -> np.ndarray:
    """The truth components `chosen` (P + 1,) by class and size, (K, bins) int64."""
    counts = np.zeros((num_classes, len(SIZE_EDGES) + 1), np.int64)
    np.add.at(counts, (truth.classes, truth.bins), chosen)
    return counts[1:]


def _calibration(defect: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pixels, summed probability and defect pixels (bins, 3) a bin of the probability (H, W)."""
    defect = defect.clip(0, 1).ravel()
    bins = (defect * CALIBRATION_BINS).astype(np.int64).clip(max=CALIBRATION_BINS - 1)
    columns = (None, defect, truth.ravel())
    return np.stack(
        [np.bincount(bins, weights, minlength=CALIBRATION_BINS) for weights in columns], axis=1
    ).astype(np.float64)
