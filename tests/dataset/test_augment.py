"""Augmentation: the gather against numpy, light and borders against their formulas."""

import numpy as np
import pytest
import torch

from common.dataset.augment import Augmentation, Choices, cut_out, draw, normalise

STILL = {
    "flip_rows": False,
    "flip_columns": False,
    "shift_rows": 0,
    "shift_columns": 0,
    "gain": 1.0,
    "offset": 0.0,
    "border": 0.0,
    "top": 0,
    "left": 0,
}
# Three images of 4x6 whose pixels are all different and not 0, so that black can be told.
STORE = np.arange(1, 73, dtype=np.uint8).reshape(3, 4, 6)


def choices(**changes: float) -> Choices:
    return Choices(**{name: torch.tensor([value]) for name, value in (STILL | changes).items()})


def cut(row: int = 1, size: tuple[int, int] = (4, 6), **changes: float) -> np.ndarray:
    """The picture cut out of STORE[row]; image and label come out alike from like stores."""
    store = torch.from_numpy(STORE)
    image, label = cut_out(choices(**changes), torch.tensor([row]), store, store, size)
    assert torch.equal(image, label)
    return image[0].numpy()


def test_without_choices_nothing_moves() -> None:
    for row in range(3):
        np.testing.assert_array_equal(cut(row), STORE[row])


def test_flips_are_numpy_flips() -> None:
    np.testing.assert_array_equal(cut(flip_rows=True), STORE[1][::-1])
    np.testing.assert_array_equal(cut(flip_columns=True), STORE[1][:, ::-1])
    both = cut(flip_rows=True, flip_columns=True)
    np.testing.assert_array_equal(both, STORE[1][::-1, ::-1])


def test_shifted_rows_repeat_the_edge() -> None:
    np.testing.assert_array_equal(cut(shift_rows=2), STORE[1][[2, 3, 3, 3]])
    np.testing.assert_array_equal(cut(shift_rows=-1), STORE[1][[0, 0, 1, 2]])


@pytest.mark.parametrize("shift", [-2, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_shifted_columns_leave_black_behind(shift: int, flip: bool) -> None:
    expected = np.zeros((4, 6), np.uint8)
    source = STORE[1][:, ::-1] if flip else STORE[1]
    if shift > 0:
        expected[:, :-shift] = source[:, shift:]
    else:
        expected[:, -shift:] = source[:, :shift]
    np.testing.assert_array_equal(cut(shift_columns=shift, flip_columns=flip), expected)


@pytest.mark.parametrize(("border", "black"), [(-1 / 3, [0, 1]), (1 / 3, [4, 5])])
def test_a_border_blackens_image_and_label(border: float, black: list[int]) -> None:
    expected = STORE[1].copy()
    expected[:, black] = 0
    np.testing.assert_array_equal(cut(border=border), expected)


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 3), (1, 2)])
def test_crops_are_slices_mirrored_and_bordered_on_their_own(row: int, top: int, left: int) -> None:
    place = {"row": row, "size": (2, 3), "top": top, "left": left}
    expected = STORE[row][top : top + 2, left : left + 3]
    np.testing.assert_array_equal(cut(**place), expected)
    np.testing.assert_array_equal(cut(**place, flip_rows=True), expected[::-1])
    np.testing.assert_array_equal(cut(**place, flip_columns=True), expected[:, ::-1])
    bordered = expected.copy()
    bordered[:, 0] = 0
    np.testing.assert_array_equal(cut(**place, border=-1 / 3), bordered)


def test_each_image_of_a_batch_follows_its_own_choices() -> None:
    flips = Choices(**{k: torch.tensor([v, v]) for k, v in STILL.items()} | {
        "flip_rows": torch.tensor([True, False]), "flip_columns": torch.tensor([False, True])
    })  # fmt: skip
    store = torch.from_numpy(STORE)
    images, _ = cut_out(flips, torch.tensor([2, 0]), store, store, (4, 6))
    np.testing.assert_array_equal(images[0].numpy(), STORE[2][::-1])
    np.testing.assert_array_equal(images[1].numpy(), STORE[0][:, ::-1])


def test_normalised_values_follow_the_formula() -> None:
    image = torch.from_numpy(STORE[:1])
    grey = STORE[:1].astype(np.float64) / 255
    plain = normalise(image, 0.3, 0.2)
    assert plain.shape == (1, 1, 4, 6)
    np.testing.assert_allclose(plain[:, 0], (grey - 0.3) / 0.2, atol=1e-5)
    lit = normalise(image, 0.3, 0.2, choices(gain=1.5, offset=0.1))
    np.testing.assert_allclose(lit[:, 0], (grey * 1.5 + 0.1 - 0.3) / 0.2, atol=1e-5)


def test_draw_is_seeded_and_within_bounds() -> None:
    settings = Augmentation()
    size = (100, 1000)
    first = draw(settings, 4000, size, torch.Generator().manual_seed(3))
    again = draw(settings, 4000, size, torch.Generator().manual_seed(3))
    other = draw(settings, 4000, size, torch.Generator().manual_seed(4))
    pairs = zip(vars(first).values(), vars(again).values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.gain, other.gain)
    assert first.shift_rows.abs().max() == settings.shift * 100
    assert first.shift_columns.abs().max() == settings.shift * 1000
    assert first.offset.abs().max() <= settings.offset
    assert (first.gain - 1).abs().max() <= settings.gain
    assert first.flip_rows.float().mean() == pytest.approx(0.5, abs=0.03)
    assert (first.border != 0).float().mean() == pytest.approx(settings.border, abs=0.02)
