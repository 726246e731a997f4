"""What every decision on a grid would score on an image, class by class, from one look at it.

Components are found once for each probability; which of them a peak keeps follows from sorting them
into bins, and so does how many pixels that leaves in all. So an image becomes a few hundred
numbers, whatever the network finds.
"""

from __future__ import annotations

import numpy as np

from common.thresholds import box, components

PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PEAKS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""No higher than the probability, a peak asks for nothing; so the first does never."""
TOTALS = (0, 64, 128, 256, 512, 1024, 2048, 4096)
"""Pixels of a 256x1600 strip; scaled to the median number of pixels of the images at hand."""
PLAINEST = (4, 0, 0)
"""The grid's place of a probability of one half, with neither peak nor total."""

_PEAKS = np.float32(PEAKS)  # to be compared with peaks as `common.thresholds.keep` does


def outcomes(probability: np.ndarray, truth: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Dice of one class on one image, (len(PROBABILITIES), len(PEAKS), len(totals)) float32.

    probability: (H, W) float32; truth: (H, W) bool; totals: ascending least totals from 0, pixels.
    Where the truth is empty, 1 if nothing is predicted, else 0.
    """
    size = int(truth.sum())
    silent = float(size == 0)
    scores = np.full((len(PROBABILITIES), len(PEAKS), len(totals)), silent, np.float32)
    for score, least in zip(scores, PROBABILITIES, strict=True):
        mask = (probability >= least).astype(np.uint8)
        inside = box(mask)
        if mask[inside].size == 0:
            break
        found = components(mask[inside], probability[inside])
        overlap = np.bincount(found.parts[truth[inside]], minlength=len(found.area))
        asks_nothing = np.searchsorted(_PEAKS, least, side="right") - 1
        peak_bin = np.searchsorted(_PEAKS, found.peak[1:], side="right") - 1
        bins = np.maximum(peak_bin, asks_nothing)
        predicted, right = (_at_least(bins, counts[1:]) for counts in (found.area, overlap))
        dice = 2 * right / np.maximum(predicted + size, 1)
        drawn = predicted[:, None] >= np.maximum(totals, 1)
        np.copyto(score, dice[:, None], where=drawn, casting="same_kind")
    return scores


def _at_least(bins: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of the values in each bin and all higher ones, (len(PEAKS),)."""
    return np.bincount(bins, values, len(PEAKS))[::-1].cumsum()[::-1]
