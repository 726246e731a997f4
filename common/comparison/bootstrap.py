"""Bootstrap intervals: how far a figure could have come out otherwise.

With other images, and where a variant was trained with several seeds, with other seeds: each
resample draws both.

Images of one group (near-duplicates, one coil) are no independent evidence, so whole groups are
drawn with replacement (the cluster bootstrap; Davison & Hinkley 1997, section 3.8). Intervals are
percentile intervals. The same seed gives the same draws, so the figures of two networks on the
same images are resampled together and their difference has an interval of its own (paired). What
the draws cannot show has no interval: NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
LEAST_GROUPS = 5  # fewer give so few different resamples that an interval would only look narrow
MOST_UNDEFINED = 0.05  # of the resamples; more, and what is left is not what could have come out
_BYTES = 64 * 2**20  # of weights held at a time

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]


def replicate(
    statistic: Statistic, groups: Sequence[str], resamples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """The statistic's figures on resamples of the images: name -> (resamples,) float64.

    statistic: takes weights (B, N), how often each of N images counts in each of B resamples, and
    returns name -> (B, ...). groups: the group of each image; all is NaN where there are fewer than
    LEAST_GROUPS.
    """
    parts = [statistic(weights) for weights in draw_weights(groups, resamples, seed)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if len(set(groups)) < LEAST_GROUPS:
        return {name: np.full_like(values, np.nan) for name, values in whole.items()}
    return whole


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


def draw_trainings(count: int, resamples: int, seed: int, variant: int) -> np.ndarray:
    """How much each of a variant's `count` trainings counts in each resample: (resamples, count).

    Rows sum to 1. variant: its number; variants draw independently of each other. One training
    fewer than there are is drawn, with replacement: drawing all would make the variance of a mean
    of so few too small, by (count - 1) / count (Rao & Wu 1988, section 3). One alone always counts.
    """
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(variant,)))
    drawn = max(count - 1, 1)
    return generator.multinomial(drawn, np.full(count, 1 / count), size=resamples) / drawn


def over_trainings(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Means (B, ...) of values (B, trainings, ...) by `draw_trainings`' shares (B, trainings).

    NaN only where a training that was drawn is.
    """
    shares = shares.reshape(shares.shape + (1,) * (values.ndim - 2))
    return np.where(shares > 0, values * shares, 0).sum(axis=1)


def interval(replicates: np.ndarray, comparisons: int = 1) -> tuple[float, float]:
    """Percentile interval of replicates (B,), undefined ones (NaN) left out.

    (NaN, NaN) where more than MOST_UNDEFINED are: a class that few groups show is missing from many
    resamples, and those that are left hardly differ.

    comparisons: among how many this is one. More than one widens it, so that all of them hold
    together with CONFIDENCE (Bonferroni). Their tails are too thin to be read off some thousand
    resamples: each end moves away from the median as that of a normal distribution would.
    """
    undefined = np.isnan(replicates)
    if undefined.mean() > MOST_UNDEFINED:
        return float("nan"), float("nan")
    defined = replicates[~undefined]
    tail = (1 - CONFIDENCE) / 2
    low, middle, high = np.quantile(defined, (tail, 0.5, 1 - tail))
    quantile = NormalDist().inv_cdf
    wider = quantile(tail / comparisons) / quantile(tail)
    return float(middle + wider * (low - middle)), float(middle + wider * (high - middle))
