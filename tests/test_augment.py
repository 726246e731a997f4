"""Augmentation: index arithmetic against numpy, light and borders against their formulas."""

import numpy as np
import pytest
import torch
from common.augment import Augmentation, Choices, draw, row_and_column_indices, vary_light

STILL = {
    "flip_rows": False,
    "flip_columns": False,
    "shift_rows": 0.0,
    "shift_columns": 0.0,
    "brightness": 0.0,
    "contrast": 1.0,
    "border": 0.0,
}


def choices(**changes: float) -> Choices:
    return Choices(**{name: torch.tensor([value]) for name, value in (STILL | changes).items()})


def moved(image: np.ndarray, **changes: float) -> np.ndarray:
    rows, columns = row_and_column_indices(choices(**changes), image.shape)
    return image[rows[0].numpy()[:, None], columns[0].numpy()[None, :]]


IMAGE = np.arange(24, dtype=np.uint8).reshape(4, 6)


def test_without_choices_nothing_moves() -> None:
    np.testing.assert_array_equal(moved(IMAGE), IMAGE)


def test_flips_are_numpy_flips() -> None:
    np.testing.assert_array_equal(moved(IMAGE, flip_rows=True), IMAGE[::-1])
    np.testing.assert_array_equal(moved(IMAGE, flip_columns=True), IMAGE[:, ::-1])


def test_a_shift_repeats_the_edge() -> None:
    shifted = moved(IMAGE, shift_columns=2 / 6)
    np.testing.assert_array_equal(shifted, IMAGE[:, [2, 3, 4, 5, 5, 5]])


def test_light_follows_its_formula_and_keeps_targets() -> None:
    images = torch.rand(1, 1, 4, 6, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    targets = torch.ones(1, 4, 6, dtype=torch.long)
    out, same = vary_light(choices(brightness=0.1, contrast=1.5), images, targets)
    mean = images.mean()
    torch.testing.assert_close(out, (images - mean) * 1.5 + mean + 0.1)
    assert torch.equal(same, targets)


@pytest.mark.parametrize(("border", "black"), [(-1 / 3, [0, 1]), (1 / 3, [4, 5])])
def test_a_border_blackens_image_and_truth(border: float, black: list[int]) -> None:
    images, targets = torch.full((1, 1, 4, 6), 0.5), torch.ones(1, 4, 6, dtype=torch.long)
    out, truth = vary_light(choices(border=border), images, targets)
    rest = [c for c in range(6) if c not in black]
    assert (out[..., black] == 0).all()
    assert (truth[..., black] == 0).all()
    assert (out[..., rest] > 0).all()
    assert (truth[..., rest] == 1).all()


def test_draw_is_seeded_and_within_bounds() -> None:
    settings = Augmentation()
    first = draw(settings, 4000, torch.Generator().manual_seed(3))
    again = draw(settings, 4000, torch.Generator().manual_seed(3))
    other = draw(settings, 4000, torch.Generator().manual_seed(4))
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(again).values()))
    assert not torch.equal(first.brightness, other.brightness)
    assert first.shift_rows.abs().max() <= settings.shift
    assert first.brightness.abs().max() <= settings.brightness
    assert (first.contrast - 1).abs().max() <= settings.contrast
    assert first.flip_rows.float().mean() == pytest.approx(0.5, abs=0.03)
    assert (first.border != 0).float().mean() == pytest.approx(settings.border, abs=0.02)
