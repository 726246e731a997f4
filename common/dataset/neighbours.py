"""Which of many hashes lie near one another, without comparing all with all.

Two hashes that share most of their bits also agree in all of some few. So the hashes are sorted
many times, each time by another choice of their bits, and compared with the next few in each order
(Charikar, "Similarity Estimation Techniques from Rounding Algorithms", 2002). Of the pairs that
this finds, each hash keeps its nearest. So the work, and what is found, grow as n log n and n,
whatever the hashes: a crowd of like ones is met at its borders only.
"""

from __future__ import annotations

import numpy as np

ORDERS, NEXT = 128, 8  # ways of sorting; neighbours looked at in each
KEY = 32  # bits that a way of sorting goes by
NEAREST = 8  # pairs that a hash keeps, at least
CLOSE = 0.85  # and all that share this fraction of their bits


def near(hashes: np.ndarray, alike: float) -> np.ndarray:
    """Pairs that share at least this fraction of their bits: (M, 2) int64 rows i < j, sorted.

    hashes: (N, B) bool, B divisible by 64. A pair goes unfound with a probability that falls with
    its likeness, and where both have NEAREST nearer ones. Of a crowd of more than NEXT copies not
    every pair is listed, but all hang together.
    """
    n, bits = hashes.shape
    words = np.packbits(hashes, axis=1).view(np.uint64)
    columns = np.ascontiguousarray(hashes.T)
    found = np.empty(0, np.int64)  # i * n + j
    for order in _orders(bits):
        row = np.lexsort(np.packbits(columns[order], axis=0)[::-1])
        ordered = words[row]
        for step in range(1, min(NEXT + 1, n)):
            differ = _distance(ordered[step:], ordered[:-step])
            where = np.flatnonzero(differ <= (1 - alike) * bits)
            one, other = row[where], row[where + step]
            new = np.minimum(one, other) * n + np.maximum(one, other)
            found = np.append(found, new)
        found = np.unique(found)
        if len(found) > 4 * NEAREST * n:
            found = _nearest(found, words)
    return np.stack(np.divmod(_nearest(found, words), max(n, 1)), axis=1)


def _distance(words: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.bitwise_count(words ^ others).sum(axis=1, dtype=np.int64)


def _nearest(found: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Of pairs i * N + j those that are close, or among the NEAREST of either hash."""
    ends = np.divmod(found, max(len(words), 1))
    differ = _distance(*(words[end] for end in ends))
    kept = differ <= (1 - CLOSE) * 64 * words.shape[1]
    both, which = np.concatenate(ends), np.tile(np.arange(len(found)), 2)
    order = np.lexsort((which, np.tile(differ, 2), both))
    first = np.searchsorted(both[order], both[order])  # where each hash's pairs begin
    kept[which[order[np.arange(len(order)) - first < NEAREST]]] = True
    return found[kept]


def signs(rows: int, columns: int) -> np.ndarray:
    """A matrix of -1 and 1, float32: random, the same on every machine and with every library."""
    words = np.random.PCG64(0).random_raw(-(-rows * columns // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8))[: rows * columns]
    return (2.0 * bits - 1).astype(np.float32).reshape(rows, columns)


def _orders(bits: int) -> np.ndarray:
    """Choices of KEY of the bits, (ORDERS, KEY) int64, all different bits in each."""
    words = np.random.PCG64(1).random_raw(ORDERS * bits)
    return words.reshape(ORDERS, bits).argsort(axis=1)[:, :KEY]
