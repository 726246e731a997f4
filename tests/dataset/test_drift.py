"""The figures by which new images are compared with the training data."""

import json

import numpy as np
import pytest

from common.dataset.drift import FIGURES, reference, statistics, warning


def strip(brightness: int, contrast: int, black_columns: int) -> np.ndarray:
    """Stripes of two grey values, black at the right."""
    image = np.full((20, 100), brightness - contrast, np.uint8)
    image[::2] = brightness + contrast
    image[:, 100 - black_columns :] = 3
    return image


def test_figures_of_known_images() -> None:
    assert statistics(strip(100, 20, 0)) == pytest.approx([100 / 255, 20 / 255, 0])
    assert statistics(strip(100, 20, 25))[2] == 0.25
    random = np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8)
    assert statistics(random)[:2] == pytest.approx([random.mean() / 255, random.std() / 255])
    dark = np.full((5, 5), 15, np.uint8)
    assert statistics(dark)[2] == 1
    dark[3, :] = 16  # not black from top to bottom
    assert statistics(dark)[2] == 0


def test_the_reference_leaves_out_the_extremes_and_is_json() -> None:
    rows = [np.array([value, 0.5, 0.0]) for value in np.linspace(0, 1, 101)]
    known = json.loads(json.dumps(reference(rows)))
    assert known == {
        "brightness": pytest.approx([0.01, 0.99]),
        "contrast": [0.5, 0.5],
        "black_share": [0, 0],
    }


@pytest.fixture
def known() -> dict[str, list[float]]:
    return reference(statistics(strip(b, 20, 0)) for b in range(90, 111))


def test_images_like_the_training_images_raise_no_warning(known) -> None:
    same = [statistics(strip(b, 20, 0)) for b in (80, 100, 101, 102, 180)]
    assert warning(known, same) is None  # two outliers of five are no drift
    assert warning(known, iter(same)) is None
    assert warning(known, []) is None


@pytest.mark.parametrize(
    ("image", "figure"),
    [
        (strip(150, 20, 0), "brightness 0.588"),
        (strip(100, 40, 0), "contrast 0.157"),
        (strip(100, 20, 60), "black share 0.600"),
    ],
)
def test_what_left_the_range_is_said_in_one_line(known, image: np.ndarray, figure: str) -> None:
    line = warning(known, [statistics(image)] * 3)
    assert figure in line
    assert "\n" not in line
    names = {name.replace("_", " ") for name in FIGURES}
    assert {name for name in names if name in line} >= {figure.rsplit(" ", 1)[0]}
    if not figure.startswith("black"):
        assert line.count("training") == 2  # "the training data" and one range
