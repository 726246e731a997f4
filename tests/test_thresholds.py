import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from common import thresholds as thresholds_module
from common.errors import UserError
from common.thresholds import (
    FILE,
    Thresholds,
    components,
    decide,
    decide_logits,
    drawn_probability,
    keep,
    load,
)  # fmt: skip

HALF = Thresholds((0.5, 0.5), (0, 0))


def one_pixel(*probabilities):
    return torch.tensor(probabilities).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("probabilities", "thresholds", "expected"),
    [
        ((0.6, 0.3, 0.1), None, 0),
        ((0.3, 0.3, 0.4), None, 2),
        ((0.4, 0.4, 0.2), None, 0),  # a tie: the lower class
        ((0.4, 0.35, 0.25), HALF, 0),  # no class reaches one half
        ((0.4, 0.5, 0.1), HALF, 1),  # reaching is enough
        ((0.7, 0.2, 0.1), Thresholds((0.2, 0.5), (0, 0)), 1),  # less likely than background
        ((0.3, 0.4, 0.3), Thresholds((0.4, 0.1), (0, 0)), 2),  # exceeds it threefold, not onefold
        ((0.0, 0.9, 0.1), Thresholds((0.95, 0.05), (0, 0)), 2),  # the only one that reaches its own
    ],
)
def test_decisions(probabilities, thresholds, expected):
    label_map = decide(one_pixel(*probabilities), thresholds)
    assert label_map.dtype == torch.uint8
    assert label_map.tolist() == [[[expected]]]


@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0.1, 8), tuned=st.booleans())
@settings(max_examples=60, deadline=None)
def test_logits_and_probabilities_decide_alike(seed, spread, tuned):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(2, 5, 9, 13, generator=generator)
    least = torch.rand(4, generator=generator).clamp(0.01, 0.99).tolist()
    thresholds = Thresholds(tuple(least), (0,) * 4) if tuned else None
    label_maps, drawn = decide_logits(logits, thresholds)
    assert torch.equal(label_maps, decide(logits.softmax(1), thresholds))
    assert drawn is None  # no peak is asked for


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_probability_drawn_is_that_of_the_class_of_each_pixel(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 4, 7, 9, generator=generator)
    thresholds = Thresholds((0.2, 0.4, 0.3), (0, 0, 0), (0.9, 0.4, 0.3))
    label_maps, drawn = decide_logits(logits, thresholds)
    for label_map, found, probabilities in zip(label_maps, drawn, logits.softmax(1), strict=True):
        expected = drawn_probability(label_map.numpy(), probabilities.numpy())
        inside = label_map.numpy() > 0
        assert found.numpy()[inside] == pytest.approx(expected[inside], abs=1e-6)
        assert (found.numpy()[~inside] == 0).all()


def test_logits_without_any_defect():
    logits = torch.tensor([9.0, 0, 0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    for thresholds in (None, HALF):
        label_map, _ = decide_logits(logits, thresholds)
        assert label_map.shape == (2, 4, 5)
        assert label_map.dtype == torch.uint8
        assert not label_map.any()


@pytest.mark.parametrize("decision", [decide, decide_logits])
def test_thresholds_of_another_number_of_classes_are_refused(decision):
    for count in (1, 3):  # one would fit any number of classes if it were not looked at
        with pytest.raises(UserError, match=f"for {count} defect classes, the network has 2"):
            decision(torch.rand(1, 3, 2, 2), Thresholds((0.5,) * count, (0,) * count))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_small_components_go_as_scipy_counts_them(seed):
    generator = np.random.default_rng(seed)
    label_map = generator.choice(4, (12, 17), p=[0.5, 0.2, 0.2, 0.1]).astype(np.uint8)
    areas = (3, 0, 6)
    expected = label_map.copy()
    for k, area in enumerate(areas, start=1):
        parts, count = ndimage.label(label_map == k, np.ones((3, 3)))  # neighbours by corners too
        for part in range(1, count + 1):
            if (parts == part).sum() < area:
                expected[parts == part] = 0
    before = label_map.copy()
    assert (keep(label_map, None, Thresholds((0.5,) * 3, areas)) == expected).all()
    assert (label_map == before).all()


def smoothed(values, mask):
    """The mean of the pixels of the mask among the 3x3 around each of them, written out."""
    result = np.zeros(values.shape)
    for y, x in np.argwhere(mask):
        around = slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2)
        result[y, x] = values[around][mask[around]].mean()
    return result


@pytest.mark.parametrize("band", [1, 50, 1000])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_components_without_a_peak_go(band, seed):
    """Also where the image is gone through by bands of one row, of three, of all."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet((0.6, 0.5, 0.5), (10, 14)).astype(np.float32)
    probabilities = probabilities.transpose(2, 0, 1)
    thresholds = Thresholds((0.3, 0.35), (2, 0), (0.6, 0.35))
    label_map = decide(torch.from_numpy(probabilities)[None], thresholds)[0].numpy()
    expected = label_map.copy()
    for k, peak, area in ((1, 0.6, 2), (2, 0.0, 0)):
        parts, count = ndimage.label(label_map == k, np.ones((3, 3)))
        peaks = smoothed(probabilities[k], label_map == k)
        for part in range(1, count + 1):
            inside = parts == part
            if inside.sum() < area or peaks[inside].max() < peak:
                expected[inside] = 0
    drawn = drawn_probability(label_map, probabilities)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds_module, "BAND", band)
        assert (keep(label_map, drawn, thresholds) == expected).all()


@pytest.mark.parametrize(
    ("values", "peak"),
    [
        ([[0.7]], 0.7),  # alone, it is its own mean
        ([[0.2, 0.8]], 0.5),
        ([[0.3, 0.3, 0.9, 0.3, 0.3]], 0.5),  # the bright pixel and its neighbours
        ([[0.9, 0.0, 0.3]], 0.9),  # what was not drawn does not count; the highest of two
    ],
)
def test_peaks(values, peak):
    values = np.float32(values)
    found = components((values > 0).astype(np.uint8), values)
    assert found.peak.max() == pytest.approx(peak)
    assert found.area[1:].sum() == (values > 0).sum()


def test_a_peak_no_higher_than_the_probability_asks_for_nothing():
    third = np.float32(1 / 3)  # sums of it may round below it
    label_map, drawn = np.ones((5, 5), np.uint8), np.full((5, 5), third)
    for peak in (float(third), 0.1):
        thresholds = Thresholds((float(third),), (0,), (peak,))
        assert not thresholds.asks_for_peaks
        assert keep(label_map, drawn, thresholds) is label_map
    assert Thresholds((0.4,), (0,)).peak == (0.4,)


@pytest.mark.parametrize(
    ("area", "total", "left"),
    [(0, 0, 7), (0, 7, 7), (0, 8, 0), (3, 0, 4), (3, 4, 4), (3, 5, 0), (5, 0, 0)],
)
def test_a_class_with_too_few_pixels_in_all_goes(area, total, left):
    """Components of 4, 2 and 1 pixels of class 2; those too small themselves do not count."""
    label_map = np.zeros((6, 9), np.uint8)
    label_map[0, 0:4] = label_map[2, 3:5] = label_map[4, 8] = 2
    label_map[5, 0] = 1
    kept = keep(label_map, None, Thresholds((0.5, 0.5), (0, area), total=(0, total)))
    assert (kept == 2).sum() == left
    assert (kept == 1).sum() == 1
    assert set(np.unique(kept)) <= {0, 1, 2}


def test_no_thresholds_drop_nothing():
    label_map = np.eye(4, dtype=np.uint8)
    assert keep(label_map, None, None) is label_map
    assert keep(label_map, None, Thresholds((0.5,), (0,))) is label_map


def test_saved_thresholds_come_back(tmp_path):
    assert load(tmp_path) is None
    thresholds = Thresholds((0.25, 0.5), (0, 600), (0.9, 0.5), "a coin", (7, 0))
    thresholds.save(tmp_path)
    assert load(tmp_path) == thresholds


@pytest.mark.parametrize(
    ("said", "aim"),
    [("", "unknown"), (', "chosen_by": "Kaggle Dice on val"', "Kaggle Dice on val")],
)
def test_a_file_of_before_asks_for_no_peak_and_no_total(tmp_path, said, aim):
    (tmp_path / FILE).write_text('{"probability": [0.25], "area": [7]' + said + "}")
    assert load(tmp_path) == Thresholds((0.25,), (7,), (0.25,), aim, (0,))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "Expecting"),
        ("[]", "list"),
        ('{"probability": [0.5]}', "area"),
        (
            '{"probability": [0.5, 0.5], "area": [0]}',
            "2 probabilities, 2 peaks, 1 areas and 2 totals",
        ),
        ('{"probability": [0.5], "area": [0], "peak": [0.5, 0.6]}', "1 probabilities, 2 peaks"),
        ('{"probability": [0.5], "area": [0], "peak": [1.0]}', "peaks must lie between 0 and 1"),
        ('{"probability": [0.0], "area": [0]}', "between 0 and 1"),
        ('{"probability": [NaN], "area": [0]}', "between 0 and 1"),
        ('{"probability": [0.5], "area": [-1]}', "areas must be at least 0"),
        ('{"probability": [0.5], "area": [0], "total": [-1]}', "totals must be at least 0"),
        ('{"probability": [0.5], "area": [0], "total": [1, 2]}', "2 totals"),
        ('{"probability": ["high"], "area": [0]}', "high"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, said):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path)
    assert str(tmp_path / FILE) in str(caught.value)
    assert "delete it" in str(caught.value)


def test_the_file_is_plain_json(tmp_path):
    Thresholds((0.25,), (7,), (0.5,), "a coin", (9,)).save(tmp_path)
    saved = json.loads((tmp_path / FILE).read_text())
    rules = {"probability": [0.25], "peak": [0.5], "area": [7], "total": [9]}
    assert saved == {**rules, "aim": "a coin"}


def test_thresholds_for_other_classes_are_refused(tmp_path):
    Thresholds((0.5, 0.5), (0, 0)).save(tmp_path)
    assert load(tmp_path, classes=2).area == (0, 0)
    with pytest.raises(UserError, match=r"for 2 defect classes, the run has 4\); delete it"):
        load(tmp_path, classes=4)
