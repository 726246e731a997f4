"""Whether new images still look like those a network was trained on, by three plain figures."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

FIGURES = ("brightness", "contrast", "black_share")
EVERYTHING = (-np.inf, np.inf)  # the range of a figure that no reference has
BLACK = 16  # grey values below are the frame beside the strip, not steel


def statistics(image: np.ndarray) -> np.ndarray:
    """Of a grey image (H, W) uint8: [brightness, contrast, black share], float64.

    brightness and contrast: mean and standard deviation of the grey values, in [0, 1]. black
    share: share of columns that are black from top to bottom, as beside a strip's edge.
    """
    mean, deviation = cv2.meanStdDev(image)
    black = (image.max(axis=0) < BLACK).mean()
    return np.array([mean.item() / 255, deviation.item() / 255, black])


def reference(statistics: Iterable[np.ndarray]) -> dict[str, list[float]]:
    """The range of each figure over the training images: [1st, 99th percentile], for JSON."""
    low, high = np.percentile(np.stack(list(statistics)), [1, 99], axis=0)
    return {name: [float(a), float(b)] for name, a, b in zip(FIGURES, low, high, strict=True)}


def warning(known: dict[str, list[float]], new: Iterable[np.ndarray]) -> str | None:
    """One line where the median of the new images' `statistics` leaves a `reference` range.

    None where it does not, or where there are no new images.
    """
    rows = list(new)
    if not rows:
        return None
    medians = np.median(np.stack(rows), axis=0)
    left = [
        f"{name.replace('_', ' ')} {value:.3f} (training {low:.3f} to {high:.3f})"
        for name, value, (low, high) in zip(
            FIGURES, medians, (known.get(name, EVERYTHING) for name in FIGURES), strict=True
        )
        if not low <= value <= high
    ]
    if not left:
        return None
    return f"these images differ from the training data: {', '.join(left)}; do not trust the masks"
