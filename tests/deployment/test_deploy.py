import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.deployment.deploy import Resize, area_taps, linear_taps
from common.resize import resize_image


def strip(height, width, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (3, 3), 0)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((256, 1600), (128, 800)),  # 2x2: OpenCV rounds halves up
        ((256, 1600), (64, 400)),  # other whole factors: to even
        ((256, 1600), (256, 800)),
        ((200, 1600), (100, 400)),
        ((192, 1200), (32, 200)),  # 36 pixels a block: 1/36 is rounded before it is multiplied by
        ((300, 300), (30, 60)),
        ((256, 1600), (64, 512)),
        ((200, 1600), (64, 400)),
        ((200, 1600), (128, 800)),
        ((97, 331), (32, 96)),
        ((64, 320), (32, 96)),
        ((201, 1601), (200, 1600)),
    ],
)
def test_shrinking_is_opencvs_to_the_last_bit(source, target):
    images = np.stack([strip(*source, seed) for seed in range(3)])
    found = Resize(source, target)(torch.from_numpy(images)[:, None].float())
    assert found.shape == (3, 1, *target)
    for own, image in zip(found[:, 0].numpy(), images, strict=True):
        assert (own == resize_image(image, target)).all()


@given(
    target=st.tuples(st.integers(1, 40), st.integers(1, 60)),
    extra=st.tuples(st.integers(0, 60), st.integers(0, 90)),
)
@settings(max_examples=150, deadline=None)
def test_shrinking_is_opencvs_between_any_sizes(target, extra):
    source = target[0] + extra[0], target[1] + extra[1]
    image = strip(*source)
    if target == source:
        return
    found = Resize(source, target)(torch.from_numpy(image)[None, None].float())
    assert (found[0, 0].numpy() == resize_image(image, target)).all()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((200, 1600), (256, 1600)),
        ((50, 400), (64, 512)),
        ((64, 320), (80, 400)),  # tenths: many values are halves but for arithmetic's last bits
        ((97, 331), (128, 800)),
        ((48, 300), (64, 200)),  # one side shrinks
        ((9, 9), (20, 31)),
    ],
)
def test_enlarging_is_the_stores(source, target):
    image = strip(*source)
    found = Resize(source, target)(torch.from_numpy(image)[None, None].float())[0, 0].numpy()
    assert (found == resize_image(image, target)).all()


def test_area_taps_by_hand():
    index, weight = area_taps(6, 4)  # new pixels are one and a half old ones wide
    dense = torch.zeros(4, 6).scatter_add_(1, index.T, weight.T)
    expected = np.array([[2, 1, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0]]) / 3
    expected = np.concatenate([expected, np.roll(expected, 3, axis=1)])
    assert dense.numpy() == pytest.approx(expected)


def test_linear_taps_by_hand():
    index, weight = linear_taps(2, 4)
    dense = torch.zeros(4, 2).scatter_add_(1, index.T, weight.T)
    assert dense.tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
