import numpy as np
import pytest

from common.comparison.showcase import choose, image_dice
from common.comparison.tally import Tally


def tally(*images):
    """Tallies of (truth -> pixels right) per image: {class: (truth, hit)}, or alarms if clean."""
    confusion = np.zeros((len(images), 4, 4), np.int64)
    alarms = np.zeros(len(images), np.int64)
    for row, image in enumerate(images):
        if isinstance(image, int):
            confusion[row, 0, 0], confusion[row, 0, 1] = 100, image
            alarms[row] = image
        else:
            for k, (truth, hit) in image.items():
                confusion[row, k, k], confusion[row, k, 0] = hit, truth - hit
    nothing = np.zeros((len(images), 3))
    return Tally(
        confusion=confusion, confusion_thresholded=confusion, alarms=alarms,
        alarms_thresholded=alarms, probability=nothing, components=nothing[..., None],
        found=nothing[..., None], found_thresholded=nothing[..., None],
        calibration=nothing[..., None], size=nothing[:, :2],
    )  # fmt: skip


def test_dice_of_an_image_is_the_mean_over_its_classes():
    images = tally({1: (10, 10)}, {1: (10, 10), 2: (10, 0)}, {3: (9, 3)}, 0, 2)
    assert image_dice(images) == pytest.approx([1, 0.5, 2 * 3 / 12, 1, 0])


def test_kinds_take_turns_and_each_begins_with_its_worst():
    images = tally({1: (10, 9)}, {1: (10, 1)}, {2: (10, 8)}, 0, 5, {2: (10, 2)}, 1, {1: (10, 5)})
    assert choose([images]) == [1, 5, 4, 7, 2, 6, 0, 3]
    assert choose([images], limit=4) == [1, 5, 4, 7]


def test_the_worst_is_so_on_average_over_variants_and_no_image_comes_twice():
    a = tally({1: (10, 10)}, {1: (10, 5), 3: (10, 0)}, {1: (10, 6)})
    b = tally({1: (10, 0)}, {1: (10, 5), 3: (10, 10)}, {1: (10, 9)})
    assert choose([a, b]) == [0, 1, 2]
    assert sorted(choose([a, b])) == [0, 1, 2]
