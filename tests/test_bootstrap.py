import numpy as np
import pytest
import scipy.stats

from common.comparison.bootstrap import draw_weights, interval, replicate

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


def test_undefined_replicates_are_left_out():
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(interval(np.array([np.nan, np.nan]))).all()


def test_one_group_has_no_spread():
    drawn = replicate(mean_of(np.arange(5.0)), ["x"] * 5, 100)["mean"]
    assert interval(drawn) == (2.0, 2.0)
