"""Bootstrap intervals: how far a figure could have come out otherwise with other images.

Images of one group (near-duplicates, one coil) are no independent evidence, so whole groups are
drawn with replacement (the cluster bootstrap; Davison & Hinkley 1997, section 3.8). Intervals are
percentile intervals. The same seed gives the same draws, so the figures of two networks on the
same images are resampled together and their difference has an interval of its own (paired).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

CONFIDENCE = 0.95
_BYTES = 64 * 2**20  # of weights held at a time

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]


def replicate(
    statistic: Statistic, groups: Sequence[str], resamples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """The statistic's figures on resamples of the images: name -> (resamples,) float64.

    statistic: takes weights (B, N), how often each of N images counts in each of B resamples, and
    returns name -> (B,). groups: the group of each image.
    """
    parts = [statistic(weights) for weights in draw_weights(groups, resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def draw_weights(groups: Sequence[str], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields weights (B, N) float64 until there were `resamples` rows.

    A row draws as many groups as there are, with replacement; an image counts as often as its
    group was drawn.
    """
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    count = int(index.max()) + 1
    generator = np.random.default_rng(seed)
    rows = max(1, _BYTES // (8 * len(index)))
    for start in range(0, resamples, rows):
        drawn = generator.multinomial(
            count, np.full(count, 1 / count), size=min(rows, resamples - start)
        )
        yield drawn[:, index].astype(np.float64)


def interval(replicates: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile interval of replicates (B,), undefined ones (NaN) left out.

    (NaN, NaN) where none is defined.
    """
    defined = replicates[~np.isnan(replicates)]
    if defined.size == 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail))
    return float(low), float(high)
