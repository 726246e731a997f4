from functools import reduce
from operator import add

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.comparison.tally import (
    CALIBRATION_BINS,
    SIZE_EDGES,
    Tally,
    concatenate,
    count_components,
    sums_of,
    tally_image,
    truth_of,
)

CLASSES = 4  # the background included


@st.composite
def cases(draw):
    """(truth, prediction, thresholded) label maps and probabilities of one image."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 8)))
    label_maps = hnp.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1), fill=st.just(0))
    raw = draw(hnp.arrays(np.float32, (CLASSES, *shape), elements=st.floats(0.125, 1, width=32)))
    return draw(label_maps), draw(label_maps), draw(label_maps), raw / raw.sum(axis=0)


def tally_of(truth, probabilities, plain, thresholded):
    """The tally, the probabilities looked at in two parts."""
    half = len(truth) // 2
    parts = (slice(half), slice(half, None)) if half else (slice(None),)
    sums = reduce(add, [sums_of(probabilities[:, rows], truth[rows]) for rows in parts])
    return tally_image(truth_of(truth, len(probabilities)), sums, plain, thresholded)


def parts_of(mask):
    """Masks of the 8-connected components, found by scipy."""
    numbered, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
    return [numbered == i for i in range(1, count + 1)]


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from([(1, 2, 3, 5), SIZE_EDGES]))
def test_agrees_with_counting_pixel_sets(case, edges):
    truth, plain, thresholded, probabilities = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.comparison.tally.SIZE_EDGES", edges)
        patch.setattr("common.comparison.tally.BAND", 10)
        tally = tally_image(
            truth_of(truth, CLASSES), sums_of(probabilities, truth), plain, thresholded
        )

    for t in range(CLASSES):
        for p in range(CLASSES):
            assert tally.confusion[0, t, p] == ((truth == t) & (plain == p)).sum()
            assert tally.confusion_thresholded[0, t, p] == ((truth == t) & (thresholded == p)).sum()
    defects = range(1, CLASSES)
    assert tally.alarms[0] == sum(len(parts_of(plain == k)) for k in defects)
    assert tally.alarms_thresholded[0] == sum(len(parts_of(thresholded == k)) for k in defects)
    assert (tally.probability[0] == [probabilities[k].max() for k in defects]).all()
    for k in defects:
        expected = np.zeros((3, len(edges) + 1))
        for part in parts_of(truth == k):
            size = sum(part.sum() >= edge for edge in edges)
            expected[0, size] += 1
            expected[1, size] += (plain[part] == k).mean() >= 0.5
            expected[2, size] += (thresholded[part] == k).mean() >= 0.5
        assert (tally.components[0, k - 1] == expected[0]).all()
        assert (tally.found[0, k - 1] == expected[1]).all()
        assert (tally.found_thresholded[0, k - 1] == expected[2]).all()
    assert tuple(tally.size[0]) == truth.shape
    assert tally.calibration[0, :, 0].sum() == truth.size
    assert tally.calibration[0, :, 1].sum() == pytest.approx((1 - probabilities[0]).sum(), 1e-4)
    assert tally.calibration[0, :, 2].sum() == (truth > 0).sum()


def test_calibration_bins_pixels_by_their_probability_of_a_defect():
    defect = np.array([[0.0, 0.05, 0.31, 0.39, 1.0]], np.float32)
    probabilities = np.stack([1 - defect, defect])
    truth = np.array([[0, 0, 1, 0, 1]], np.uint8)
    bins = tally_of(truth, probabilities, truth, truth).calibration[0]
    assert bins[0] == pytest.approx([2, 0.05, 0])
    assert bins[3] == pytest.approx([2, 0.7, 1])
    assert bins[CALIBRATION_BINS - 1] == pytest.approx([1, 1, 1])


def test_a_component_half_covered_is_found_and_less_is_not():
    truth = np.zeros((3, 12), np.uint8)
    truth[0, :4] = truth[2, :4] = 2
    prediction = np.zeros_like(truth)
    prediction[0, :2] = 2
    prediction[2, :1] = 2
    prediction[2, 1:4] = 1  # the right place, the wrong class
    probabilities = np.full((4, *truth.shape), 0.25, np.float32)
    tally = tally_of(truth, probabilities, prediction, prediction)
    assert tally.components[0, :, 0].tolist() == [0, 2, 0]
    assert tally.found[0, :, 0].tolist() == [0, 1, 0]


def test_diagonal_neighbours_are_one_component_and_classes_are_apart():
    assert count_components(np.array([[1, 0], [0, 1]], np.uint8)) == 1
    assert count_components(np.array([[1, 2]], np.uint8)) == 2
    assert count_components(np.zeros((2, 2), np.uint8)) == 0


def test_tallies_are_saved_and_joined_in_order(tmp_path):
    random = np.random.default_rng(0)

    def one():
        truth, plain, thresholded = random.integers(0, CLASSES, (3, 5, 6)).astype(np.uint8)
        probabilities = random.dirichlet(np.ones(CLASSES), (5, 6)).astype(np.float32)
        probabilities = np.moveaxis(probabilities, 2, 0)
        return tally_image(
            truth_of(truth, CLASSES), sums_of(probabilities, truth), plain, thresholded
        )

    tallies = [one() for _ in range(3)]
    joined = concatenate(tallies)
    joined.save(tmp_path / "chunk.npz")
    read = Tally.load(tmp_path / "chunk.npz")
    assert len(read) == 3
    for name, values in vars(read).items():
        assert values.dtype == getattr(tallies[0], name).dtype
        assert (values == np.concatenate([getattr(t, name) for t in tallies])).all()
