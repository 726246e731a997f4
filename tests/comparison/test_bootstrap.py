import numpy as np
import pytest
import scipy.stats

from common.comparison.bootstrap import (
    draw_trainings,
    draw_weights,
    interval,
    over_trainings,
    replicate,
)

RESAMPLES = 4000


def mean_of(values):
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def test_intervals_of_a_mean_agree_with_scipy():
    values = np.random.default_rng(0).exponential(size=40)
    groups = [str(i) for i in range(40)]

    ours = interval(replicate(mean_of(values), groups, RESAMPLES)["mean"])

    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=1
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.1 * (theirs.high - theirs.low))


def test_intervals_over_groups_agree_with_scipy_on_group_sums():
    random = np.random.default_rng(3)
    group = np.sort(random.integers(0, 30, size=200))
    values = random.normal(size=30)[group] + 0.1 * random.normal(size=200)

    ours = interval(replicate(mean_of(values), group, RESAMPLES)["mean"])

    sums = np.bincount(group, values)
    counts = np.bincount(group).astype(float)
    theirs = scipy.stats.bootstrap(
        (sums, counts),
        lambda a, n, axis: a.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=1,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours == pytest.approx(tuple(theirs), abs=0.1 * width)
    by_image = interval(replicate(mean_of(values), np.arange(200), RESAMPLES)["mean"])
    assert by_image[1] - by_image[0] < width / 1.5  # images of a group are no independent evidence


def test_a_paired_difference_is_narrower_than_its_parts():
    random = np.random.default_rng(0)
    difficulty = random.normal(size=60)
    groups = np.arange(60)
    a = replicate(mean_of(difficulty + 0.1 * random.normal(size=60)), groups, 1000, seed=5)["mean"]
    b = replicate(mean_of(difficulty + 0.1 * random.normal(size=60)), groups, 1000, seed=5)["mean"]
    low, high = interval(a - b)
    assert high - low < 0.3 * np.subtract(*interval(a)[::-1])


def test_weights_draw_whole_groups_as_often_as_there_are_groups(monkeypatch):
    monkeypatch.setattr("common.comparison.bootstrap._BYTES", 7 * 8 * 5)  # a few rows at a time
    groups = ["a", "b", "a", "c", "b", "b", "d"]
    chunks = list(draw_weights(groups, 13, seed=0))
    assert [len(chunk) for chunk in chunks] == [5, 5, 3]
    weights = np.concatenate(chunks)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [1, 4]] == weights[:, [5]]).all()
    assert (weights[:, [0, 1, 3, 6]].sum(axis=1) == 4).all()
    assert len(np.unique(weights, axis=0)) > 5
    again = np.concatenate(list(draw_weights(groups, 13, seed=0)))
    other = np.concatenate(list(draw_weights(groups, 13, seed=1)))
    assert (again == weights).all()
    assert (other != weights).any()


def test_few_undefined_replicates_are_left_out_and_many_leave_no_interval():
    drawn = np.linspace(0, 1, 1000)
    drawn[:50] = np.nan
    assert interval(drawn) == pytest.approx(tuple(np.quantile(drawn[50:], [0.025, 0.975])))
    drawn[50] = np.nan
    assert np.isnan(interval(drawn)).all()
    assert np.isnan(interval(np.array([np.nan, np.nan]))).all()


def test_one_of_several_comparisons_has_the_interval_of_its_share_of_the_risk():
    drawn = np.random.default_rng(0).normal(3, 2, 400_000)
    for comparisons in (1, 6, 45):
        z = scipy.stats.norm.ppf(1 - 0.025 / comparisons)
        expected = (3 - 2 * z, 3 + 2 * z)
        assert interval(drawn, comparisons) == pytest.approx(expected, abs=0.03)
    low, high = interval(np.exp(drawn / 4), 6)  # skewed as the interval is that it widens
    alone, middle = interval(np.exp(drawn / 4)), np.exp(3 / 4)
    assert (high - middle) / (middle - low) == pytest.approx(
        (alone[1] - middle) / (middle - alone[0]), rel=0.01
    )


def test_a_class_that_one_group_shows_has_no_interval():
    shown = np.arange(20) == 3
    share = replicate(
        lambda weights: {"share": np.divide(
            weights @ shown, weights @ shown, out=np.full(len(weights), np.nan),
            where=weights @ shown > 0,
        )},
        [str(i) for i in range(20)],
        1000,
    )["share"]  # fmt: skip
    assert np.nanstd(share) == 0  # what was once an interval without width
    assert np.isnan(interval(share)).all()


@pytest.mark.parametrize(("groups", "measured"), [(1, False), (4, False), (5, True)])
def test_few_groups_have_no_interval(groups, measured):
    names = [str(i % groups) for i in range(20)]
    drawn = replicate(mean_of(np.arange(20.0)), names, 200)["mean"]
    low, high = interval(drawn)
    assert (low < high) if measured else np.isnan([low, high]).all()


def test_trainings_alike_on_every_image_still_scatter_as_the_mean_of_their_scores():
    scores = np.array([0.5, 0.6, 0.9])
    shares = draw_trainings(3, 20_000, seed=0, variant=0)
    drawn = over_trainings(np.tile(scores, (20_000, 1)), shares)
    assert drawn.var() == pytest.approx(scores.var(ddof=1) / 3, rel=0.05)
    assert drawn.mean() == pytest.approx(scores.mean(), abs=0.005)
    assert interval(drawn) == pytest.approx((0.5, 0.9))


def test_trainings_are_drawn_by_seed_for_each_variant_by_itself():
    shares = draw_trainings(4, 500, seed=3, variant=1)
    assert shares.sum(axis=1) == pytest.approx(np.ones(500))
    assert (shares == draw_trainings(4, 500, seed=3, variant=1)).all()
    for other in (draw_trainings(4, 500, seed=3, variant=2), draw_trainings(4, 500, 4, 1)):
        assert abs(np.corrcoef(shares[:, 0], other[:, 0])[0, 1]) < 0.2
    assert (draw_trainings(1, 5, seed=0, variant=0) == 1).all()


def test_a_figure_is_undefined_only_where_a_training_that_was_drawn_is():
    values = np.array([[[1.0, 2.0], [np.nan, 4.0]]] * 2)  # (resamples, trainings, figures)
    mean = over_trainings(values, np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert mean == pytest.approx(np.array([[1, 2], [np.nan, 3]]), nan_ok=True)
