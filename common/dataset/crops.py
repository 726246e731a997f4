"""Where crops of a strip lie: often on a defect, never mostly in the black beyond its ends."""

from __future__ import annotations

import math

import numpy as np

from common.dataset.store import Store

BLACK = 16  # a column without a brighter grey value lies beyond the strip's ends
DRAWS = 5  # random numbers that a place takes
TRIALS = 2000  # crops that tell how many pixels of each class all hold


def place(
    store: Store, row: int, size: tuple[int, int], hold: float, draws: np.ndarray
) -> tuple[int, int]:
    """Top row and left column of a crop of `size` (height, width) from an image of the store.

    hold: probability that the crop of an image with defects is placed to hold one: a random pixel
    of a random class of those that it shows. draws: (DRAWS,) float in [0, 1), from which the place
    follows. The crop's middle column lies between the first and the last that are not black, as far
    as that pixel and the image's edges allow.
    """
    image, labels = store.images[row], store.labels[row]
    lit = np.flatnonzero(image.max(axis=0) >= BLACK)
    ends = lit[[0, -1]] if len(lit) else np.array([0, image.shape[1] - 1])
    rows = np.array([0, image.shape[0] - size[0]])
    columns = np.clip(ends - size[1] // 2, 0, image.shape[1] - size[1])
    present = np.flatnonzero(store.pixel_counts[row, 1:]) + 1
    if len(present) and draws[0] < hold:
        pixels = np.flatnonzero(labels == present[int(draws[1] * len(present))])
        y, x = divmod(pixels[int(draws[2] * len(pixels))], image.shape[1])
        rows = np.clip(rows, y - size[0] + 1, y)
        columns = np.clip(columns, x - size[1] + 1, x)
    (top, bottom), (left, right) = rows, columns
    return int(top + draws[3] * (bottom - top + 1)), int(left + draws[4] * (right - left + 1))


def pixel_counts(
    store: Store, rows: np.ndarray, size: tuple[int, int], hold: float, seed: int
) -> np.ndarray:
    """Label pixels of each class that a crop of each image holds on average: (n, C) float64.

    A crop anywhere has about its share of the image's pixels. Those that hold a defect are tried:
    TRIALS in all, and at least one in each image with defects.
    """
    counts = store.pixel_counts[rows] * (math.prod(size) / math.prod(store.labels.shape[1:]))
    defective = np.flatnonzero(store.pixel_counts[rows, 1:].any(axis=1))
    trials = -(-TRIALS // max(1, len(defective)))
    rng = np.random.default_rng(seed)
    for i in defective:
        held = np.zeros(counts.shape[1])
        for draws in rng.random((trials, DRAWS)):
            top, left = place(store, rows[i], size, 1, draws)
            piece = store.labels[rows[i], top : top + size[0], left : left + size[1]]
            held += np.bincount(piece.ravel(), minlength=len(held))
        counts[i] += hold * (held / trials - counts[i])
    return counts
