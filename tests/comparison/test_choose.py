import numpy as np
import pytest

from common.comparison.choose import SELDOM, choose, means, most_positive, worth
from common.comparison.outcomes import PEAKS, PLAINEST, PROBABILITIES, TOTALS

GRID = (len(PROBABILITIES), len(PEAKS), len(TOTALS))


def test_the_plainest_place_is_one_half_and_asks_for_nothing():
    assert (PROBABILITIES[PLAINEST[0]], PEAKS[PLAINEST[1]], TOTALS[PLAINEST[2]]) == (0.5, 0, 0)


def test_means_are_those_of_the_images_with_and_without():
    outcomes = np.array([[0.5, 1.0], [0.7, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    shown = np.array([True, True, False, False])
    weights = np.array([[1, 1, 1, 1], [3, 1, 0, 2], [0, 0, 1, 1], [1, 0, 0, 0]], float)
    positive, empty = means(outcomes, shown, weights)
    nan = np.nan
    assert positive == pytest.approx(
        np.array([[0.6, 0.5], [0.55, 0.75], [nan, nan], [0.5, 1.0]]), nan_ok=True
    )
    assert empty == pytest.approx(
        np.array([[0.5, 0.5], [0.0, 1.0], [0.5, 0.5], [nan, nan]]), nan_ok=True
    )


@pytest.mark.parametrize(
    ("aim", "expected"), [("kaggle", (0.8 + 1.4) / 4), ("balanced", (0.8 + 1.4 / 3) / 2)]
)
def test_what_an_aim_weighs(aim, expected):
    """One image of four shows the class; of the others .4 stands for a mean."""
    outcomes = np.array([[0.8], [0.0], [1.0], [0.4]], np.float32)
    shown = np.array([True, False, False, False])
    assert worth(outcomes, shown, np.ones((1, 4)), aim) == pytest.approx(expected)
    without = worth(outcomes, ~np.ones(4, bool), np.ones((1, 4)), "balanced")
    assert np.isnan(without).all()  # no image shows it: false alarms alone say nothing
    assert worth(outcomes, np.ones(4, bool), np.ones((1, 4)), aim) == pytest.approx(2.2 / 4)


def images(best, count=6):
    """Outcomes of one class on `count` images with it, and as many without, left clean.

    best: the place of the grid that each image with the class has its Dice of 1 at; steps away from
    it cost a tenth each.
    """
    places = np.stack(np.indices(GRID), axis=-1)
    outcomes = [1 - np.abs(places - np.array(at)).sum(axis=-1) / 10 for at in best]
    outcomes += [np.ones(GRID)] * count
    shown = np.array([True] * len(best) + [False] * count)
    return (
        np.array(outcomes, np.float32)[:, None],
        shown[:, None],
        [str(i) for i in range(len(shown))],
    )


@pytest.mark.parametrize("aim", ["balanced", "kaggle"])
def test_what_all_images_agree_on_is_chosen(aim):
    chosen, pooled = choose(*images([(6, 2, 3)] * 6), aim)
    assert chosen.tolist() == [[6, 2, 3]]
    assert not pooled.any()


def test_an_image_that_the_best_hangs_on_does_not_decide_alone():
    """Of seven images three want 2, three want 6; the seventh alone would decide for 6.

    The single best is at 6; resamples are about as often at either end.
    """
    best = [(2, 0, 0)] * 3 + [(6, 0, 0)] * 4
    outcomes, shown, groups = images(best)
    single = worth(outcomes[:, 0], shown[:, 0], np.ones((1, len(shown))), "balanced")[0, :, 0, 0]
    assert single.argmax() == 6
    ((probability, peak, total),) = choose(outcomes, shown, groups, "balanced")[0]
    assert 3 <= probability <= 5
    assert (peak, total) == (0, 0)


def test_groups_are_drawn_whole():
    """Six images of one group have one voice, as much as the single image of another."""
    outcomes, shown, groups = images([(8, 0, 0)] * 6 + [(4, 0, 0)])
    together = ["coil"] * 6 + groups[6:]
    apart = choose(outcomes, shown, groups, "balanced")[0][0]
    grouped = choose(outcomes, shown, together, "balanced")[0][0]
    assert apart[0] == 8
    assert grouped[0] < 8


@pytest.mark.parametrize("count", [0, SELDOM - 1, SELDOM])
def test_a_class_on_few_images_is_decided_as_all_together(count):
    common, shown, groups = images([(7, 0, 4)] * 8, count=8)
    rare, rarely, _ = images([(1, 0, 0)] * count, count=16 - count)
    outcomes = np.concatenate([common, rare], axis=1)
    shown = np.concatenate([shown, rarely], axis=1)
    chosen, pooled = choose(outcomes, shown, groups, "balanced")
    assert pooled.tolist() == [False, count < SELDOM]
    assert chosen[0].tolist() == [7, 0, 4]
    if count == 0:
        assert chosen[1].tolist() == [7, 0, 4]
    elif count == SELDOM:
        assert chosen[1].tolist() == [1, 0, 0]


def test_without_any_defect_the_plainest_is_taken():
    outcomes, shown, groups = images([], count=5)
    for aim in ("balanced", "kaggle"):
        chosen, pooled = choose(outcomes, shown, groups, aim)
        assert chosen.tolist() == [list(PLAINEST)]
        assert pooled.all()


def test_a_choice_is_the_same_every_time():
    given = images([(i, 0, j) for i in range(3, 8) for j in range(4)])
    first, _ = choose(*given, "balanced")
    assert (choose(*given, "balanced")[0] == first).all()


def test_the_most_positive_leaves_as_much_empty_as_asked_for():
    """Each step down in probability finds .1 more of a defect, and invents on one image in ten."""
    steps = np.arange(GRID[0])[:, None, None]
    found = np.broadcast_to(0.95 - 0.1 * steps, GRID)
    clean = [np.broadcast_to((steps > i).astype(float), GRID) for i in range(len(PROBABILITIES))]
    outcomes = np.array([found] * 9 + clean, np.float32)[:, None]
    shown = np.array([[True]] * 9 + [[False]] * 9)
    groups = [str(i) for i in range(18)]
    left = []
    for least in (0.1, 0.5, 0.8):
        chosen, pooled = most_positive(outcomes, shown, groups, least)
        assert not pooled.any()
        left.append(outcomes[9:, 0][(slice(None), *chosen[0])].mean())
        assert left[-1] >= least
    assert left == sorted(left)
    assert most_positive(outcomes, shown, groups, 0.99) is None
    assert choose(outcomes, shown, groups, 0.5)[0].tolist() == (
        choose(outcomes, shown, groups, "balanced")[0].tolist()
    )
