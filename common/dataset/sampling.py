"""How often an epoch draws each image: all alike, or those with rare classes more often."""

from __future__ import annotations

import numpy as np

THRESHOLD = 0.5  # of frequency, from which on a class is not rare: best of three tried


def repeat_factors(present: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """How much more often than a common one each image is drawn: (n,) float64, at least 1.

    present: (n, C) bool, the defect classes that each image shows; images without any are a class
    of their own. A class that a share f of the images shows has the factor
    max(1, sqrt(threshold / f)), an image the largest factor of its classes: LVIS's repeat factor
    sampling (Gupta, Dollár and Girshick 2019, arXiv:1908.03195).
    """
    classes = np.column_stack([~present.any(axis=1), present])
    frequency = classes.mean(axis=0)
    factors = np.sqrt(np.maximum(1, threshold / np.maximum(frequency, 1 / len(present))))
    return np.where(classes, factors, 1).max(axis=1)


def rounded(expected: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers of draws (n,) int64: each of `expected` rounded up or down, in the same total.

    expected: (n,) float64 with a whole sum; a whole number stays what it is. The mean over many
    calls is `expected`: systematic sampling, in random order.
    """
    order = rng.permutation(len(expected))
    # A float32 leaves digits enough to the sums that whole ones stay below the next whole number.
    ends = np.floor(np.cumsum(expected[order]) + rng.random(dtype=np.float32))
    ends[-1] = np.round(expected.sum())
    draws = np.empty(len(expected), np.int64)
    draws[order] = np.diff(ends, prepend=0)
    return draws
