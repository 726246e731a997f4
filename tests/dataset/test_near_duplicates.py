"""Copies are found, however mirrored, turned and moved; different strips are told apart."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.dataset.near_duplicates import SQUARE, STRIP, align, describe, hash_, pairs, turned
from common.dataset.splits import near_duplicate_pairs
from common.labels import load
from common.pixels import read_image
from data import synthetic

SHAPE = (256, 1600)
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "same": lambda image: image,
    "JPEG quality 50": lambda image: cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE
    ),
    "brighter": lambda image: np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8),
    "darker by a quarter": lambda image: (image * 0.75).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "half a turn": lambda image: np.rot90(image, 2),
    "a quarter turn": lambda image: np.rot90(image),
    "mirrored, darker, JPEG": lambda image: CHANGES["JPEG quality 50"](
        CHANGES["darker by a quarter"](image[:, ::-1])
    ),
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
    return pairs([describe(image) for image in images]).tolist()


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    return [synthetic.strip(5, i, SHAPE)[0] for i in range(24) if synthetic.source(5, i) == i]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_generated_strips_are_found(originals: list[np.ndarray], change: str) -> None:
    n = len(originals)
    copies = [CHANGES[change](image) for image in originals]
    assert found(originals + copies) == [[i, i + n] for i in range(n)]


@pytest.mark.parametrize("shift", [7, 32, 50, 95])
@pytest.mark.parametrize("change", ["same", "half a turn"])
def test_neighbouring_frames_are_found(
    originals: list[np.ndarray], shift: int, change: str
) -> None:
    """Windows of 1,500 columns that overlap, at whole and at broken cells of the thumbnail.

    Of strips that are mostly steel: of a narrow rest of it, too little is in both.
    """
    steel = [image for image in originals if (image > 10).mean() > 0.5]
    n = len(steel)
    assert n > 15
    first = [image[:, :1500] for image in steel]
    second = [CHANGES[change](image[:, shift : shift + 1500]) for image in steel]
    assert found(first + second) == [[i, i + n] for i in range(n)]


def test_all_eight_copies_of_a_square_are_found() -> None:
    random = np.random.default_rng(0)
    patches = [
        cv2.GaussianBlur(random.normal(0, 30, (200, 200)) + 120, (0, 0), 2).astype(np.uint8)
        for _ in range(12)
    ]
    turns = [np.rot90(p.T if k > 3 else p, k) for k in range(8) for p in patches]
    assert found(turns) == [[i, j] for i in range(96) for j in range(i + 1, 96) if i % 12 == j % 12]


@pytest.mark.parametrize("change", ["JPEG quality 50", "darker by a quarter", "a pixel down"])
def test_copies_of_real_strips_are_found(real_data: Path, change: str) -> None:
    labels = load(real_data / "severstal_sample")
    images = [read_image(labels.path(name)) for name in labels.images[::2]]
    copies = [CHANGES[change](image[:, ::-1]) for image in images]
    assert found(images + copies) == [[i, i + len(images)] for i in range(len(images))]


def test_no_two_of_the_real_strips_are_taken_for_one(real_data: Path) -> None:
    """Bland ones least of all."""
    assert len(near_duplicate_pairs(load(real_data / "severstal_sample"))) == 0


def test_regular_patterns_are_told_apart() -> None:
    """Chequer plate with different scratches, at the same place of the pattern."""
    y, x = np.mgrid[:256, :1600]
    plate = 90 + 40 * ((np.sin(x / 9 + y / 9) > 0.8) | (np.sin(x / 9 - y / 9) > 0.8))
    random = np.random.default_rng(3)
    strips = []
    for _ in range(20):
        marks = cv2.GaussianBlur(random.normal(0, 60, SHAPE), (0, 0), 4)
        strips.append(np.clip(plate + marks + random.normal(0, 3, SHAPE), 0, 255).astype(np.uint8))
    assert found(strips) == []
    assert found([strips[0], strips[0][:, ::-1]]) == [[0, 1]]


def test_flat_images_are_like_no_other() -> None:
    flat = [
        np.full(shape, grey, np.uint8) for grey in (0, 0, 128, 255) for shape in (SHAPE, (9, 9))
    ]
    with np.errstate(all="raise"):
        assert found(flat) == []
    assert not describe(flat[2]).any()


def test_bland_strips_are_told_apart() -> None:
    """Faint noise under the same light, within the same black border."""
    random = np.random.default_rng(0)
    light = 90 + 30 * np.sin(np.linspace(0, 3, 256))[:, None] * np.ones(1600)
    light[:, 1100:] = 2
    strips = [np.clip(light + random.normal(0, 2, SHAPE), 0, 255) for _ in range(30)]
    assert found([strip.astype(np.uint8) for strip in strips]) == []


def test_any_shape_is_described() -> None:
    random = np.random.default_rng(1)
    shapes = {(1, 1): SQUARE, (5, 3): SQUARE, (40, 16): STRIP, (1000, 30): STRIP, (30, 59): SQUARE}
    for shape, cells in shapes.items():
        detail = describe(random.integers(0, 255, shape, dtype=np.uint8))
        assert (detail.shape, detail.dtype) == (cells, np.int8)


def test_the_eight_maps() -> None:
    picture = np.array([[1, 2], [3, 4]])
    eight = {turned(picture, k).tobytes() for k in range(8)}
    assert eight == {np.rot90(p, k).tobytes() for p in (picture, picture.T) for k in range(4)}
    assert turned(picture, 1).tolist() == [[2, 1], [4, 3]]
    assert turned(picture, 2).tolist() == [[3, 4], [1, 2]]
    assert turned(picture, 4).tolist() == [[1, 3], [2, 4]]
    assert turned(picture, 5).tolist() == [[3, 1], [4, 2]]


@pytest.mark.parametrize("shape", [STRIP, SQUARE])
def test_hash_and_agreement_know_no_map(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(2)
    details = random.integers(-90, 91, (30, *shape)).astype(np.int8)
    others = np.roll(details, 1, axis=0)
    for k in range(8 if shape == SQUARE else 4):
        copies = np.ascontiguousarray(turned(details, k))
        assert (hash_(copies) == hash_(details)).mean() > 0.999
        agreement, how = align(details, copies)
        np.testing.assert_allclose(agreement, 1, atol=1e-3)
        for detail, copy, (own, down, right) in zip(details, copies, how, strict=True):
            assert (turned(copy, own) == detail).all()
            assert (down, right) == (0, 0)
        assert align(details, np.ascontiguousarray(turned(others, k)))[0].max() < 0.2
