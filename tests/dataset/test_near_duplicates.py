"""Copies are found, different strips are told apart."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.dataset.near_duplicates import describe, pairs
from common.dataset.splits import near_duplicate_pairs
from common.labels import load, read_image
from data import synthetic

SHAPE = (256, 1600)
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "same": lambda image: image,
    "JPEG quality 50": lambda image: cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE
    ),
    "brighter": lambda image: np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8),
    "darker by a quarter": lambda image: (image * 0.75).astype(np.uint8),
    "a pixel right": lambda image: np.roll(image, 1, axis=1),
    "a pixel down": lambda image: np.roll(image, 1, axis=0),
    "a pixel cut off": lambda image: cv2.resize(image[1:, 1:], image.shape[::-1]),
    "half size": lambda image: cv2.resize(
        image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
    ),
    "noise": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255
    ).astype(np.uint8),
}


def found(images: list[np.ndarray]) -> list[list[int]]:
    hashes, details = zip(*map(describe, images), strict=True)
    return pairs(np.stack(hashes), np.stack(details), block=7).tolist()


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    return [synthetic.strip(5, i, SHAPE)[0] for i in range(24) if synthetic.source(5, i) == i]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_generated_strips_are_found(originals: list[np.ndarray], change: str) -> None:
    n = len(originals)
    copies = [CHANGES[change](image) for image in originals]
    assert found(originals + copies) == [[i, i + n] for i in range(n)]


@pytest.mark.parametrize("change", ["JPEG quality 50", "darker by a quarter", "a pixel down"])
def test_copies_of_real_strips_are_found(real_data: Path, change: str) -> None:
    labels = load(real_data / "severstal_sample")
    images = [read_image(labels.path(name)) for name in labels.images[::2]]
    copies = [CHANGES[change](image) for image in images]
    assert found(images + copies) == [[i, i + len(images)] for i in range(len(images))]


@pytest.mark.parametrize("name", ["severstal_sample", "neu_strips"])
def test_no_two_of_the_real_strips_are_taken_for_one(real_data: Path, name: str) -> None:
    """Bland ones least of all. The rotated patches of neu_strips are other pictures to the eye."""
    assert len(near_duplicate_pairs(load(real_data / name))) == 0


def test_flat_images_are_like_no_other() -> None:
    flat = [np.full(SHAPE, grey, np.uint8) for grey in (0, 0, 128, 255)]
    with np.errstate(all="raise"):
        assert found(flat) == []
    hash_, detail = describe(flat[2])
    assert not hash_.any()
    assert not detail.any()


def test_bland_strips_are_told_apart() -> None:
    """Faint noise under the same light, within the same black border."""
    random = np.random.default_rng(0)
    light = 90 + 30 * np.sin(np.linspace(0, 3, 256))[:, None] * np.ones(1600)
    light[:, 1100:] = 2
    strips = [np.clip(light + random.normal(0, 2, SHAPE), 0, 255) for _ in range(30)]
    assert found([strip.astype(np.uint8) for strip in strips]) == []


def test_any_shape_is_described() -> None:
    random = np.random.default_rng(1)
    for shape in ((1, 1), (5, 3), (40, 16), (1000, 30)):
        hash_, detail = describe(random.integers(0, 255, shape, dtype=np.uint8))
        assert (hash_.shape, hash_.dtype) == ((256,), np.int8)
        assert (detail.shape, detail.dtype) == ((4096,), np.int8)


def test_blocks_do_not_matter() -> None:
    random = np.random.default_rng(2)
    hashes = random.integers(-1, 2, (40, 256)).astype(np.int8)
    details = random.integers(-127, 128, (40, 4096)).astype(np.int8)
    for copy, original in ((13, 2), (14, 13), (39, 0)):
        hashes[copy], details[copy] = hashes[original], details[original]
    hashes[30] = hashes[31]  # of other detail, and so no near-duplicates
    details[33] = details[34]
    for block in (1, 8, 13, 14, 100):
        same = pairs(hashes, details, block).tolist()
        assert sorted(same) == [[0, 39], [2, 13], [2, 14], [13, 14]]
