"""What every decision on a grid would score on an image, class by class, from one look at it.

Components are found once for each probability; which of them a peak and an area keep follows from
sorting them into bins. So an image becomes a few thousand numbers, whatever the network finds.
"""

from __future__ import annotations

import numpy as np

from common.thresholds import box, components

PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PEAKS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""No higher than the probability, a peak asks for nothing; so the first does never."""
AREAS = (0, 64, 128, 256, 512, 1024, 2048, 4096)
"""Pixels of a 256x1600 strip; scaled to the median number of pixels of the images at hand."""
PLAINEST = (4, 0, 0)
"""The grid's place of a probability of one half, with neither peak nor area."""

_PEAKS = np.float32(PEAKS)  # to be compared with peaks as `common.thresholds.keep` does


def outcomes(probability: np.ndarray, truth: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Dice of one class on one image, (len(PROBABILITIES), len(PEAKS), len(areas)) float32.

    probability: (H, W) float32; truth: (H, W) bool; areas: ascending least areas from 0, pixels.
    Where the truth is empty, 1 if nothing is predicted, else 0.
    """
    size = int(truth.sum())
    scores = np.full((len(PROBABILITIES), len(PEAKS), len(areas)), float(size == 0), np.float32)
    for score, least in zip(scores, PROBABILITIES, strict=True):
        mask = (probability >= least).astype(np.uint8)
        inside = box(mask)
        if mask[inside].size == 0:
            break
        found = components(mask[inside], probability[inside])
        overlap = np.bincount(found.parts[truth[inside]], minlength=len(found.area))
        asks_nothing = np.searchsorted(_PEAKS, least, side="right") - 1
        peak_bin = np.searchsorted(_PEAKS, found.peak[1:], side="right") - 1
        bins = (
            np.maximum(peak_bin, asks_nothing),
            np.searchsorted(areas, found.area[1:], side="right") - 1,
        )
        predicted, right = (
            _at_least(bins, counts[1:], score.shape) for counts in (found.area, overlap)
        )
        np.divide(2 * right, predicted + size, out=score, where=predicted + size > 0)
    return scores


def _at_least(bins: tuple[np.ndarray, ...], values: np.ndarray, shape: tuple) -> np.ndarray:
    """Sums of the values in each bin and all higher ones, (P, A) int64."""
    sums = np.zeros(shape, np.int64)
    np.add.at(sums, bins, values)
    return sums[::-1, ::-1].cumsum(0).cumsum(1)[::-1, ::-1]
