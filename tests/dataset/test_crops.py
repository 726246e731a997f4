"""Crops hold a defect as often as stated, lie in the strip, and have their middle on steel."""

import numpy as np
import pytest

from common.dataset.crops import BLACK, DRAWS, pixel_counts, place
from common.dataset.store import Store

SIZE = (16, 24)
H, W = 32, 160


def strip(first: int = 0, last: int = W, defects: tuple[tuple[int, int, int], ...] = ()) -> Store:
    """A store of one strip, bright from column `first` to `last`, with defects (class, y, x)."""
    image = np.full((1, H, W), BLACK - 1, np.uint8)
    image[0, 5, first:last] = BLACK
    labels = np.zeros((1, H, W), np.uint8)
    for label, y, x in defects:
        labels[0, y : y + 2, x : x + 2] = label
    counts = np.bincount(labels.ravel(), minlength=5)[None]
    return Store(images=image, labels=labels, names=("strip.jpg",), pixel_counts=counts)


def places(store: Store, hold: float, count: int = 500) -> np.ndarray:
    draws = np.random.default_rng(0).random((count, DRAWS))
    return np.array([place(store, 0, SIZE, hold, numbers) for numbers in draws])


def held(store: Store, corners: np.ndarray) -> np.ndarray:
    """The label pixels of each class in each crop."""
    pieces = [store.labels[0, y : y + SIZE[0], x : x + SIZE[1]] for y, x in corners]
    assert {piece.shape for piece in pieces} == {SIZE}
    return np.array([np.bincount(piece.ravel(), minlength=5) for piece in pieces])


@pytest.mark.parametrize("corner", [(0, 0), (0, W - 2), (H - 2, 0), (H - 2, W - 2), (13, 77)])
def test_every_crop_holds_the_defect_where_all_are_to(corner: tuple[int, int]) -> None:
    store = strip(defects=((3, *corner),))
    assert held(store, places(store, hold=1))[:, 3].all()


def test_the_stated_share_holds_one_beside_those_that_do_by_chance() -> None:
    store = strip(defects=((3, 13, 77),))
    chance = (held(store, places(store, hold=0, count=4000))[:, 3] > 0).mean()
    assert 0.05 < chance < 0.3
    share = (held(store, places(store, hold=0.6, count=4000))[:, 3] > 0).mean()
    assert share == pytest.approx(0.6 + 0.4 * chance, abs=0.03)


def test_classes_of_a_strip_take_turns_whatever_their_area() -> None:
    small = ((1, 3, 3),)
    large = tuple((4, y, x) for y in range(0, H, 2) for x in range(100, W, 2))
    store = strip(defects=small + large)
    crops = held(store, places(store, hold=1, count=2000))
    assert (crops[:, 1] > 0).mean() == pytest.approx(0.5, abs=0.04)


def test_crops_of_clean_steel_reach_all_of_it() -> None:
    corners = places(strip(), hold=1, count=4000)
    assert set(corners[:, 0]) == set(range(H - SIZE[0] + 1))
    assert set(corners[:, 1]) == set(range(W - SIZE[1] + 1))


@pytest.mark.parametrize(("first", "last"), [(90, W), (0, 60), (40, 120), (0, 3), (W - 3, W)])
def test_the_middle_of_a_crop_is_no_black_border(first: int, last: int) -> None:
    lefts = places(strip(first, last), hold=0.5)[:, 1]
    middles = lefts + SIZE[1] // 2
    # Where the steel is narrower than half a crop at an end, the nearest crop that there is.
    low, high = SIZE[1] // 2, W - SIZE[1] + SIZE[1] // 2
    assert middles.min() == np.clip(first, low, high)
    assert middles.max() == np.clip(last - 1, low, high)


def test_a_defect_beyond_the_ends_is_held_and_black_steel_cropped_anywhere() -> None:
    store = strip(0, 50, defects=((2, 10, 140),))
    assert held(store, places(store, hold=1))[:, 2].all()
    assert len(set(places(strip(0, 0), hold=0.5)[:, 1])) > 100


def test_mean_pixels_of_a_crop_are_those_of_many() -> None:
    store = strip(defects=((1, 4, 10), (4, 20, 90), (4, 22, 90), (4, 24, 92)))
    expected = held(store, places(store, hold=0.5, count=4000)).mean(axis=0)
    (counts,) = pixel_counts(store, np.array([0]), SIZE, 0.5, seed=1)
    np.testing.assert_allclose(counts, expected, rtol=0.15)  # at the edges a crop sees less
    assert counts.sum() == pytest.approx(SIZE[0] * SIZE[1])


def test_a_clean_crop_is_background() -> None:
    counts = pixel_counts(strip(), np.array([0]), SIZE, 0.5, seed=0)
    np.testing.assert_allclose(counts, [[SIZE[0] * SIZE[1], 0, 0, 0, 0]])
