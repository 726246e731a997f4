import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from common.errors import UserError
from common.thresholds import FILE, Thresholds, decide, decide_logits, drop_small, load

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
    assert torch.equal(decide_logits(logits, thresholds), decide(logits.softmax(1), thresholds))


def test_logits_without_any_defect():
    logits = torch.tensor([9.0, 0, 0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    for thresholds in (None, HALF):
        label_map = decide_logits(logits, thresholds)
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
    assert (drop_small(label_map, Thresholds((0.5,) * 3, areas)) == expected).all()
    assert (label_map == before).all()


def test_no_thresholds_drop_nothing():
    label_map = np.eye(4, dtype=np.uint8)
    assert drop_small(label_map, None) is label_map
    assert drop_small(label_map, Thresholds((0.5,), (0,))) is label_map


def test_saved_thresholds_come_back(tmp_path):
    assert load(tmp_path) is None
    thresholds = Thresholds((0.25, 0.5), (0, 600), "a coin")
    thresholds.save(tmp_path)
    assert load(tmp_path) == thresholds


def test_a_file_of_before_does_not_say_what_chose_its_thresholds(tmp_path):
    (tmp_path / FILE).write_text('{"probability": [0.25], "area": [7]}')
    assert load(tmp_path) == Thresholds((0.25,), (7,), "unknown")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "Expecting"),
        ("[]", "list"),
        ('{"probability": [0.5]}', "area"),
        ('{"probability": [0.5, 0.5], "area": [0]}', "2 probabilities and 1 areas"),
        ('{"probability": [0.0], "area": [0]}', "between 0 and 1"),
        ('{"probability": [NaN], "area": [0]}', "between 0 and 1"),
        ('{"probability": [0.5], "area": [-1]}', "at least 0"),
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
    Thresholds((0.25,), (7,), "a coin").save(tmp_path)
    saved = json.loads((tmp_path / FILE).read_text())
    assert saved == {"probability": [0.25], "area": [7], "chosen_by": "a coin"}
