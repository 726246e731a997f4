"""Which decision of a grid to take, by what val says, so that it holds on other images too.

The single best of a fine grid on few images is partly luck: val may show a class on nine strips. So
each resample of val's groups names its own best, and the mean of these is taken. docs/log.md has
what that gains on strips that had no say, and why peaks come last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.comparison.bootstrap import draw_weights
from common.comparison.outcomes import PLAINEST
from common.metrics import ratio

SELDOM = 3
"""Images. A class that fewer show is decided as all classes together would be."""
RESAMPLES = 200
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Of positive Dice in what a decision is worth: what `most_positive` tries, in turn."""
# Which axes of the grid (probability, peak, total) are chosen together, in turn.
_TURNS = ((0, 2), (1,))


def choose(
    outcomes: np.ndarray, shown: np.ndarray, groups: Sequence[str], aim: str | float
) -> tuple[np.ndarray, np.ndarray]:
    """The grid's indices of each class's decision, (K, 3) int64, and which are pooled, (K,) bool.

    outcomes: (N, K, L, P, T) of images, as `outcomes.outcomes` gives them; shown: (N, K) bool,
    which classes an image shows; groups: of the N images. PLAINEST where no image shows any class.
    """
    weights = np.concatenate(list(draw_weights(groups, RESAMPLES, seed=0)))
    counts = shown.sum(axis=0)
    worths = [
        worth(outcomes[:, k], shown[:, k], weights, aim) if counts[k] else None
        for k in range(len(counts))
    ]
    pooled = counts < SELDOM
    known = [one for one in worths if one is not None]
    together = np.mean(known, axis=0) if known else None
    chosen = [_steadiest(together if few else one) for one, few in zip(worths, pooled, strict=True)]
    return np.array(chosen), pooled


def most_positive(
    outcomes: np.ndarray, shown: np.ndarray, groups: Sequence[str], least_empty: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """As `choose`, with the largest of SHARES that leaves enough pairs of image and absent class
    empty, by these outcomes: `least_empty` of them. None where none does.
    """
    for share in SHARES:
        chosen, pooled = choose(outcomes, shown, groups, share)
        taken = outcomes[:, np.arange(len(chosen)), chosen[:, 0], chosen[:, 1], chosen[:, 2]]
        if shown.all() or taken[~shown].mean() >= least_empty:
            return chosen, pooled
    return None


def _steadiest(worths: np.ndarray | None) -> np.ndarray:
    place = np.array(PLAINEST)
    for free in _TURNS if worths is not None else ():
        start = np.where(np.isin(range(3), free), 0, place)
        stop = [None if axis in free else start[axis] + 1 for axis in range(3)]
        part = tuple(map(slice, start, stop))
        place = start + _middle(worths[(slice(None), *part)], np.array(PLAINEST) - start)
    return place


def _middle(worths: np.ndarray, plainest: np.ndarray) -> np.ndarray:
    """The indices (3,) of the mean of the resamples' best, plainer ones where they tie.

    worths: (B, ...); resamples that show no image of the class, NaN, name none.
    """
    grid = worths.shape[1:]
    flat = worths.reshape(len(worths), -1)
    places = np.stack(np.unravel_index(np.arange(np.prod(grid)), grid), axis=1)
    plain_first = np.argsort(np.abs(places - plainest).sum(axis=1), kind="stable")
    best = flat[~np.isnan(flat).any(axis=1)][:, plain_first].argmax(axis=1)
    return np.rint(places[plain_first][best].mean(axis=0)).astype(np.int64)


def worth(
    outcomes: np.ndarray, shown: np.ndarray, weights: np.ndarray, aim: str | float
) -> np.ndarray:
    """What each decision on a class is worth by the aim, (B, ...); NaN where no image shows it.

    outcomes: (N, ...) of the class; shown, weights: as of `means`.

    kaggle: the mean outcome of all images. balanced: the mean of positive Dice and empty accuracy,
    so that a class on few images is not silenced by the many that are without it. A number is the
    share of positive Dice in such a mean.
    """
    positive, empty = means(outcomes, shown, weights)
    if aim == "kaggle":
        share = _column((weights @ shown) / weights.sum(axis=1), outcomes.ndim)
        return positive * share + np.where(share < 1, empty, 0) * (1 - share)
    share = 0.5 if aim == "balanced" else aim
    return np.where(np.isnan(empty), positive, share * positive + (1 - share) * empty)


def means(
    outcomes: np.ndarray, shown: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positive Dice and empty accuracy, (B, ...) each: mean outcomes of images with the class, and
    of those without; NaN where there are none.

    outcomes: (N, ...); shown: (N,) bool; weights: (B, N), how often each image counts.
    """
    sides = []
    for side in (weights * shown, weights * ~shown):
        total = _column(side.sum(axis=1), outcomes.ndim)
        sides.append(ratio(np.tensordot(side, outcomes.astype(np.float64), 1), total))
    return sides[0], sides[1]


def _column(values: np.ndarray, dimensions: int) -> np.ndarray:
    return values.reshape(-1, *[1] * (dimensions - 1))
