import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from common import metrics
from common.comparison.glossary import describe
from common.comparison.scorecard import auroc, empty, figures, size_bins, size_recall
from common.comparison.tally import SIZE_EDGES, Tally

CLASSES = 3  # the background included


def random_tally(images=40, seed=0):
    """A tally with clean images, misses, false alarms and mix-ups."""
    random = np.random.default_rng(seed)
    matrices = random.integers(0, 50, (2, images, CLASSES, CLASSES))
    matrices *= random.random(matrices.shape) < 0.3
    matrices[:, :, 0, 0] = 1000
    # Both decisions are about one truth: errors of the second are put back to the background.
    matrices[1, :, :, 0] += matrices[0].sum(2) - matrices[1].sum(2)
    matrices[1, :, :, 0] = np.maximum(matrices[1, :, :, 0], 0)
    bins = len(SIZE_EDGES) + 1
    components = random.integers(0, 4, (images, CLASSES - 1, bins))
    return Tally(
        confusion=matrices[0],
        confusion_thresholded=matrices[1],
        alarms=random.integers(0, 5, images),
        alarms_thresholded=random.integers(0, 2, images),
        probability=random.random((images, CLASSES - 1)).round(1).astype(np.float32),
        components=components,
        found=(components * random.random(components.shape)).astype(np.int64),
        found_thresholded=(components * random.random(components.shape)).astype(np.int64),
        calibration=random.random((images, 10, 3)),
        size=np.full((images, 2), 40),
    )


@pytest.mark.parametrize("thresholded", [False, True])
def test_pixel_figures_are_those_of_the_metrics_module(thresholded):
    tally = random_tally()
    confusions = tally.confusion_thresholded if thresholded else tally.confusion
    expected = metrics.scores(confusions)
    ours = figures(tally, thresholded=thresholded)
    shared = set(ours) & set(expected)
    assert {"dice_mean", "kaggle_dice", "iou_class_2", "reference_dice"} <= shared
    for name in shared:
        assert ours[name][0] == pytest.approx(expected[name], nan_ok=True), name


@pytest.mark.parametrize("thresholded", [False, True])
def test_image_figures_agree_with_scikit_learn(thresholded):
    tally = random_tally()
    confusions = tally.confusion_thresholded if thresholded else tally.confusion
    ours = figures(tally, thresholded=thresholded)
    for k in range(1, CLASSES):
        truth = confusions[:, k].sum(axis=1) > 0
        predicted = confusions[:, :, k].sum(axis=1) > 0
        assert 0 < truth.sum() < len(truth)
        assert ours[f"precision_class_{k}"][0] == pytest.approx(precision_score(truth, predicted))
        assert ours[f"recall_class_{k}"][0] == pytest.approx(recall_score(truth, predicted))
        assert ours[f"f1_class_{k}"][0] == pytest.approx(f1_score(truth, predicted))
        expected = roc_auc_score(truth, tally.probability[:, k - 1])
        assert ours[f"auroc_class_{k}"][0] == pytest.approx(expected)


def test_false_alarms_are_counted_on_clean_images_only():
    tally = random_tally()
    tally.confusion[:4, 1:] = 0
    clean = tally.confusion[:, 1:].sum(axis=(1, 2)) == 0
    assert 4 <= clean.sum() < len(tally)
    expected = tally.alarms[clean].sum() / clean.sum()
    assert figures(tally)["false_alarms_per_clean_image"][0] == pytest.approx(expected)


def test_weights_count_images_as_often_as_they_say():
    tally = random_tally(12)
    weights = np.random.default_rng(1).integers(0, 3, (5, 12)).astype(float)
    weighted = figures(tally, weights)
    recalls = size_recall(tally, weights)
    for row, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(12), counts)
        repeated = Tally(**{name: values[rows] for name, values in vars(tally).items()})
        for name, values in figures(repeated).items():
            assert weighted[name][row] == pytest.approx(values[0], nan_ok=True), name
        np.testing.assert_allclose(recalls[row], size_recall(repeated)[0])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=9)
)
def test_auroc_is_the_chance_to_rank_a_pair_right(images):
    score, positive, weight = (np.array(column) for column in zip(*images, strict=True))
    wins, pairs = 0.0, 0
    for s, p, w in images:
        for s2, p2, w2 in images:
            if p and not p2:
                pairs += w * w2
                wins += w * w2 * ((s > s2) + (s == s2) / 2)
    expected = wins / pairs if pairs else math.nan
    ours = auroc(score, positive, weight[None].astype(float))
    assert ours == pytest.approx([expected], nan_ok=True)


def test_size_recall_is_found_over_present_for_all_and_each_class():
    tally = random_tally()
    recall = size_recall(tally)[0]
    assert recall.shape == (CLASSES, len(size_bins()))
    assert recall[0] == pytest.approx(
        tally.found.sum(axis=(0, 1)) / tally.components.sum(axis=(0, 1))
    )
    assert recall[2, 1] == tally.found[:, 1, 1].sum() / tally.components[:, 1, 1].sum()
    with_thresholds = size_recall(tally, thresholded=True)[0]
    assert with_thresholds[2, 1] == (
        tally.found_thresholded[:, 1, 1].sum() / tally.components[:, 1, 1].sum()
    )
    assert with_thresholds[2, 1] != recall[2, 1]
    nobody = Tally(**{**vars(tally), "components": tally.components * 0, "found": tally.found * 0})
    assert np.isnan(size_recall(nobody)).all()
    assert size_bins()[0] == (0, 1000)
    assert size_bins()[-1] == (64_000, None)


def test_the_empty_prediction_is_right_on_clean_images_and_nowhere_else():
    tally = random_tally()
    nothing = figures(empty(tally))
    expected = metrics.baselines(tally.confusion.sum(axis=2))["empty"]
    for name in ("accuracy", "dice_mean", "kaggle_dice", "dice_positive"):
        assert nothing[name][0] == pytest.approx(expected[name])
    assert 0 < nothing["kaggle_dice"][0] < 1
    assert nothing["false_alarms_per_clean_image"][0] == 0
    assert nothing["recall_class_1"][0] == 0
    assert nothing["auroc_class_1"][0] == 0.5
    assert np.isnan(nothing["precision_class_1"][0])
    for thresholded in (False, True):
        assert (size_recall(empty(tally), thresholded=thresholded) == 0).all()


def test_every_figure_is_described():
    about = describe(("1 (crack)", *map(str, range(2, CLASSES))))
    assert list(figures(random_tally())) == list(about)
    for name, entry in about.items():
        assert set(entry) == {"title", "explanation", "better", "unit"}
        assert entry["explanation"].endswith("."), name
        assert (entry["better"] is None) == name.startswith("reference_")
    assert about["false_alarms_per_clean_image"]["better"] == "lower"
    assert about["iou_class_1"]["title"].endswith(", class 1 (crack)")
    assert about["iou_class_2"]["title"].endswith(", class 2")


def test_a_class_that_a_resample_lacks_counts_for_nobody():
    """Else who predicts it there would be punished, and who never does would not."""
    tally = random_tally()
    matrices = np.zeros((2, 3, 3), dtype=np.int64)
    matrices[0, 1] = 2, 8, 5  # image 0 shows class 1; some of it is taken for class 2
    matrices[1, 2] = 3, 0, 7  # image 1 shows class 2
    pair = replace(
        tally, confusion=matrices, **{k: v[:2] for k, v in vars(tally).items() if k != "confusion"}
    )
    found = figures(pair, np.array([[1, 1], [1, 0], [0, 1]]))["dice_mean"]
    one, two = 2 * 8 / (2 * 8 + 7), 2 * 7 / (2 * 7 + 3)
    with_both = (one + 2 * 7 / (2 * 7 + 3 + 5)) / 2
    assert found == pytest.approx([with_both, one, two])
    alone = replace(pair, **{k: v[:1] for k, v in vars(pair).items()})
    assert figures(alone)["dice_mean"] == pytest.approx([one / 2])  # invented on all there is
