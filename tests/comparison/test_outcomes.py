import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.comparison.outcomes import PEAKS, PROBABILITIES, outcomes
from common.metrics import confusion, scores
from common.thresholds import Thresholds, decide, drawn_probability, keep

TOTALS = np.array([0, 2, 4])


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_they_are_the_dice_of_what_would_be_decided(data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    levels = st.sampled_from([0.05, 0.25, 0.45, 0.55, 0.7, 0.85, 0.95, 0.99])
    probability = data.draw(hnp.arrays(np.float32, shape, elements=levels))
    truth = data.draw(hnp.arrays(bool, shape))
    found = outcomes(probability, truth, TOTALS)
    assert found.shape == (len(PROBABILITIES), len(PEAKS), len(TOTALS))
    both = np.stack([1 - probability, probability])
    for i, least in enumerate(PROBABILITIES):
        label_map = decide(torch.from_numpy(both)[None], Thresholds((least,), (0,)))[0].numpy()
        drawn = drawn_probability(label_map, both)
        for j, peak in enumerate(PEAKS):
            for t, total in enumerate(TOTALS):
                rule = Thresholds((least,), (0,), (max(peak, least),), total=(int(total),))
                decided = keep(label_map, drawn, rule)
                matrix = confusion(decided[None], truth.astype(np.uint8)[None], 2)
                expected = scores(matrix)["kaggle_dice"]
                assert found[i, j, t] == pytest.approx(expected), (least, peak, total)


def test_worked_by_hand():
    """A defect of six pixels drawn at .45 with one pixel of .85, and a speck of two at .65."""
    probability = np.zeros((4, 8), np.float32)
    probability[1:3, 1:4] = 0.45
    probability[1, 2] = 0.85  # the mean of the six is .517, of the left or right four .55
    probability[1, 6:] = 0.65
    truth = np.zeros((4, 8), bool)
    truth[1:3, 1:4] = True
    found = outcomes(probability, truth, TOTALS)

    def at(least, peak, total):
        index = PROBABILITIES.index(least), PEAKS.index(peak), TOTALS.tolist().index(total)
        return pytest.approx(found[index])

    assert at(0.4, 0.0, 0) == 2 * 6 / (8 + 6)
    assert at(0.4, 0.0, 4) == 2 * 6 / (8 + 6)  # the speck is small, all together is not
    assert at(0.4, 0.6, 0) == 0  # what is left is the speck
    assert at(0.5, 0.0, 0) == 2 * 1 / (3 + 6)
    assert at(0.5, 0.0, 2) == 2 * 1 / (3 + 6)
    assert at(0.5, 0.0, 4) == 0  # three pixels are too few
    assert at(0.7, 0.5, 0) == 2 * 1 / (1 + 6)  # a peak below the probability asks for nothing
    assert at(0.9, 0.0, 0) == 0
    assert (outcomes(probability, np.zeros_like(truth), TOTALS)[-1] == 1).all()
