"""Groups of images dealt out to parts so that each part has its share of everything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

ClassSet = tuple[int, ...]


def apportion(
    groups: Sequence[Sequence[ClassSet]], order: Sequence[int], fractions: Sequence[float]
) -> np.ndarray:
    """Part (0, 1, ...) of each group, int64, so that each part has its fraction of every trait.

    groups: the class sets of each group's images. Traits of an image are its class set, each class
    in it, and being an image at all. Greedy, in the manner of Sechidis et al., "On the
    Stratification of Multi-Label Data", 2011: groups that hold most of some trait come first, in
    `order` among equals; each goes to the part that so far lacks most of what it holds. No part
    stays empty where there are groups enough.
    """
    counts = _count_traits(groups)
    shares = counts / counts.sum(axis=0)
    fraction = np.array(fractions)[:, None]
    dealt = np.zeros(shares.shape[1])
    have = np.zeros((len(fraction), shares.shape[1]))
    part = np.empty(len(groups), np.int64)
    empty = set(range(len(fraction)))
    for position, row in enumerate(sorted(order, key=lambda row: -shares[row].max())):
        dealt += shares[row]
        # Rounded, so that a tie is a tie on every machine; the first part then takes it.
        lack = ((fraction * dealt - have) * shares[row]).sum(axis=1).round(12)
        if len(groups) - position == len(empty):
            lack[[k for k in range(len(fraction)) if k not in empty]] = -np.inf
        part[row] = lack.argmax()
        have[part[row]] += shares[row]
        empty.discard(int(part[row]))
    return part


def shuffled(names: Sequence[str], seed: int) -> list[int]:
    """Positions of the names in an order that depends on seed and names alone, not on a library."""
    key = [hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in names]
    return sorted(range(len(names)), key=key.__getitem__)


def _count_traits(groups: Sequence[Sequence[ClassSet]]) -> np.ndarray:
    """Images of each group that have each trait, (groups, traits) float64."""
    traits: dict[object, int] = {}
    cells = [
        (row, traits.setdefault(trait, len(traits)))
        for row, sets in enumerate(groups)
        for classes in sets
        for trait in ("image", classes, *classes)
    ]
    counts = np.zeros((len(groups), len(traits)))
    np.add.at(counts, tuple(np.transpose(cells)), 1)
    return counts
