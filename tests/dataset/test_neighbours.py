"""Near hashes are found without looking at all pairs."""

import numpy as np
import pytest

from common.dataset.neighbours import NEAREST, near, signs


def random_hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 256)) < 0.5


def test_hashes_that_share_most_bits_are_found() -> None:
    """2,000 hashes with a copy each, of which a sixth of the bits were turned over."""
    random = np.random.default_rng(1)
    first = random_hashes(2000)
    copies = first ^ (random.random(first.shape) < 1 / 6)
    expected = {(i, i + 2000) for i in range(2000)}
    pairs = near(np.concatenate([first, copies]), 0.72)
    found = set(map(tuple, pairs.tolist()))
    shared = (first == copies).mean(axis=1)
    assert not found - expected
    assert len(found) >= 0.999 * (shared >= 0.72).sum()
    assert pairs.dtype == np.int64
    assert (pairs == np.unique(pairs, axis=0)).all()


def test_the_bound_is_exact() -> None:
    first = random_hashes(1)[0]
    other = first.copy()
    other[:64] ^= True  # 192 of 256 bits are left
    assert near(np.stack([first, other]), 0.75).tolist() == [[0, 1]]
    assert near(np.stack([first, other]), 0.754).tolist() == []


def test_a_crowd_of_equal_hashes_hangs_together_at_little_cost() -> None:
    crowd = np.repeat(random_hashes(1), 500, axis=0)
    pairs = near(np.concatenate([crowd, random_hashes(50, seed=2)]), 0.9)
    assert pairs.max() < 500
    assert len(pairs) < 500 * 10  # of 124,750
    reached = {0}
    for i, j in pairs.tolist():  # sorted: i was reached before
        assert i in reached
        reached.add(j)
    assert len(reached) == 500


def test_a_hash_keeps_its_nearest_and_all_that_are_close() -> None:
    """300 around one centre, each of them apart from it by a quarter of the bits, and a pair."""
    random = np.random.default_rng(3)
    centre = random_hashes(1)
    crowd = centre ^ (random.random((300, 256)) < 0.12)  # any two share 0.79 of their bits
    pair = random_hashes(2, seed=4)
    pair[1] = pair[0] ^ (np.arange(256) < 60)
    close = crowd[:10] ^ (np.arange(256) < 20)
    found = near(np.concatenate([crowd, pair, close]), 0.7)
    assert len(found) < (NEAREST + 1) * 312  # of 48,516 pairs
    listed = set(map(tuple, found.tolist()))
    assert (300, 301) in listed
    assert {(i, 302 + i) for i in range(10)} <= listed


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one(count: int) -> None:
    assert near(random_hashes(count), 0.7).shape == (0, 2)


def test_signs_are_the_same_everywhere() -> None:
    assert signs(2, 6).tolist() == [[-1, 1, -1, 1, 1, 1], [1, 1, 1, -1, -1, -1]]
    many = signs(400, 256)
    assert set(np.unique(many)) == {-1, 1}
    assert abs(many.mean()) < 0.01
