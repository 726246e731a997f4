"""Which of many hashes lie near one another, without comparing all with all.

Two hashes that share most of their bits also agree in all of some few. So the hashes are sorted
many times, each time by another choice of their bits, and compared with the next few in each order
(Charikar, "Similarity Estimation Techniques from Rounding Algorithms", 2002). The work grows as
n log n, whatever the hashes: a crowd of equal ones is met at its borders only.
"""

from __future__ import annotations

import numpy as np

ORDERS, NEXT = 128, 8  # ways of sorting; neighbours looked at in each
KEY = 32  # bits that a way of sorting goes by


def near(hashes: np.ndarray, alike: float) -> np.ndarray:
    """Pairs that share at least this fraction of their bits: (M, 2) int64 rows i < j, sorted.

    hashes: (N, B) bool, B divisible by 64. A pair goes unfound with a probability that falls with
    its likeness; among more than NEXT copies not every pair is listed, but all hang together.
    """
    n, bits = hashes.shape
    words = np.packbits(hashes, axis=1).view(np.uint64)
    columns = np.ascontiguousarray(hashes.T)
    found = np.empty(0, np.int64)
    for order in _orders(bits):
        key = np.packbits(columns[order], axis=0)
        row = np.lexsort(key[::-1])
        ordered = words[row]
        new = []
        for step in range(1, min(NEXT + 1, n)):
            differ = np.bitwise_count(ordered[step:] ^ ordered[:-step]).sum(1, dtype=np.int64)
            where = np.flatnonzero(differ <= (1 - alike) * bits)
            a, b = row[where], row[where + step]
            new.append(np.minimum(a, b) * n + np.maximum(a, b))
        found = np.union1d(found, np.concatenate(new)) if new else found
    return np.stack(np.divmod(found, max(n, 1)), axis=1)


def signs(rows: int, columns: int) -> np.ndarray:
    """A matrix of -1 and 1, float32: random, the same on every machine and with every library."""
    words = np.random.PCG64(0).random_raw(-(-rows * columns // 64)).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8))[: rows * columns]
    return (2.0 * bits - 1).astype(np.float32).reshape(rows, columns)


def _orders(bits: int) -> np.ndarray:
    """Choices of KEY of the bits, (ORDERS, KEY) int64, all different bits in each."""
    words = np.random.PCG64(1).random_raw(ORDERS * bits)
    return words.reshape(ORDERS, bits).argsort(axis=1)[:, :KEY]
