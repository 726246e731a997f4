"""Repeat factors followed by hand; draws that keep their total and their mean."""

import numpy as np
import pytest

from common.dataset.sampling import repeat_factors, rounded


def test_factors_of_lvis_by_hand() -> None:
    """Eight images: six show class 1, one of these class 2 as well, two are clean."""
    present = np.zeros((8, 3), bool)
    present[:6, 0] = True
    present[5, 1] = True
    rare, clean = np.sqrt(0.5 / (1 / 8)), np.sqrt(0.5 / (2 / 8))  # class 1 is not below a half
    expected = [1, 1, 1, 1, 1, rare, clean, clean]
    np.testing.assert_allclose(repeat_factors(present, threshold=0.5), expected)
    np.testing.assert_allclose(repeat_factors(present, threshold=0.1), np.ones(8))


def test_an_image_takes_the_largest_factor_of_its_classes() -> None:
    present = np.array([[True, True]] + [[True, False]] * 15)
    assert repeat_factors(present, 0.5)[0] == pytest.approx(np.sqrt(8))
    assert set(repeat_factors(present, 0.5)[1:]) == {1}


def test_draws_are_rounded_up_or_down_in_the_same_total() -> None:
    expected = np.array([0.25, 1.5, 0.25, 2.0, 0.5, 1.5])
    rng = np.random.default_rng(0)
    drawn = np.array([rounded(expected, rng) for _ in range(3000)])
    assert (drawn.sum(axis=1) == 6).all()
    assert (drawn >= np.floor(expected)).all()
    assert (drawn <= np.ceil(expected)).all()
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=0.04)
    assert len(np.unique(drawn, axis=0)) > 8  # neighbours are not bound together


def test_whole_expectations_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        np.testing.assert_array_equal(rounded(np.full(50_000, 4.0), rng), np.full(50_000, 4))


def test_a_sum_that_floats_miss_by_a_little_is_still_whole() -> None:
    expected = np.full(49, 7 / 49)
    assert expected.cumsum()[-1] != 7
    rng = np.random.default_rng(0)
    assert {int(rounded(expected, rng).sum()) for _ in range(50)} == {7}
