"""Augmentation in batches: one random choice an image, applied to all pixels at once on the device.

Choosing images, cropping, mirroring rows and shifting are all one gather of rows from the store;
the columns are mirrored after it, and exposure is fused with the normalisation that follows anyway.
The choices are drawn on the CPU from (seed, epoch, step), for the whole global batch: the same
images come out on any device and with any number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchvision.transforms.v2 import functional as F


@dataclass(frozen=True)
class Augmentation:
    """How strongly training images are varied; probabilities and shares lie in [0, 1]."""

    flip: float = 0.5
    """Probability of a horizontal, and independently of a vertical, mirror image."""
    shift: float = 0.04
    """Largest shift, as a share of height and width; rows repeat at the edge, columns go black."""
    gain: float = 0.2
    """Largest relative change of all grey values: exposure and contrast."""
    offset: float = 0.1
    """Largest offset added to grey values in [0, 1]."""
    border: float = 0.1
    """Probability of a black border at the left or right, as where a strip ends."""
    border_share: float = 0.3
    """Largest width of that border, as a share of the image."""
    hold: float = 0.5
    """Share of a defective strip's crops that are placed to hold a defect; others lie anywhere."""


@dataclass(frozen=True)
class Choices:
    """What was drawn for each of n images; all tensors have length n and lie on the CPU.

    shift_rows, shift_columns: pixels, int64. gain: factor; offset: in grey values of [0, 1].
    border: signed share of blackened columns, negative at the left, positive at the right.
    top, left: corner of the crop, int64; 0 of a whole image. Crops are not shifted beside.
    """

    flip_rows: torch.Tensor
    flip_columns: torch.Tensor
    shift_rows: torch.Tensor
    shift_columns: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    border: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor

    def __getitem__(self, part: slice) -> Choices:
        return Choices(**{name: value[part] for name, value in vars(self).items()})


def draw(
    augmentation: Augmentation, count: int, size: tuple[int, int], generator: torch.Generator
) -> Choices:
    """Draws the choices for `count` whole images of `size` (height, width)."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def happens(probability: float) -> torch.Tensor:
        return torch.rand(count, generator=generator) < probability

    a = augmentation
    return Choices(
        flip_rows=happens(a.flip),
        flip_columns=happens(a.flip),
        shift_rows=(uniform(-a.shift, a.shift) * size[0]).round().long(),
        shift_columns=(uniform(-a.shift, a.shift) * size[1]).round().long(),
        gain=uniform(1 - a.gain, 1 + a.gain),
        offset=uniform(-a.offset, a.offset),
        border=uniform(-a.border_share, a.border_share) * happens(a.border),
        top=torch.zeros(count, dtype=torch.int64),
        left=torch.zeros(count, dtype=torch.int64),
    )


def cut_out(
    choices: Choices,
    rows: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    size: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cropped, mirrored, shifted, bordered pixels of the images `rows` (n,) of a store.

    images, labels: the store's (N, H, W) uint8 tensors, contiguous. size: height and width (h, w)
    of the crops, or of the whole images. Returns two (n, h, w) uint8 tensors on their device; under
    black columns the label is background.
    """
    device = images.device
    starts = to_device(_row_starts(choices, rows, images.shape, size), device)
    mirrored = to_device(choices.flip_columns.nonzero()[:, 0], device)
    lit = ~to_device(black_columns(choices, size[1]), device)[:, None, :]
    batches = []
    for store in (images, labels):
        batch = _stretches(store, starts, size[1])
        batch.index_copy_(0, mirrored, F.horizontal_flip(batch.index_select(0, mirrored)))
        batches.append(batch.mul_(lit))
    return tuple(batches)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on `device`, without waiting for it: a GPU takes only pinned memory so."""
    if tensor.device == device:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def black_columns(choices: Choices, width: int) -> torch.Tensor:
    """Columns (n, W) bool that are black: beyond a shifted image's edge, or under its border."""
    column = torch.arange(width)
    source = column + choices.shift_columns[:, None]
    share = (column + 0.5) / width
    border = choices.border[:, None]
    beyond = (source < 0) | (source >= width)
    return beyond | (share < -border) | ((border > 0) & (share > 1 - border))


def normalise(
    images: torch.Tensor, mean: float, std: float, choices: Choices | None = None
) -> torch.Tensor:
    """(gain * grey / 255 + offset - mean) / std of grey (n, H, W) uint8, as (n, 1, H, W) float32.

    Without choices gain is 1 and offset 0. Values are not cut at black and white.
    """
    if choices is None:
        # One pass over memory, which is what limits this, instead of two.
        black = images.new_full((), -mean / std, dtype=torch.float32)
        return torch.add(black, images, alpha=1 / (255 * std))[:, None]
    scale = to_device((choices.gain / (255 * std)).view(-1, 1, 1), images.device)
    offset = to_device(((choices.offset - mean) / std).view(-1, 1, 1), images.device)
    return (images * scale).add_(offset)[:, None]


def _row_starts(
    choices: Choices, rows: torch.Tensor, shape: torch.Size, size: tuple[int, int]
) -> torch.Tensor:
    """Where in the flat store each row (n, h) of each picture begins, shifted columns included."""
    count, height, width = shape
    row = torch.arange(size[0])
    row = torch.where(choices.flip_rows[:, None], row.flip(0), row)
    row = (row + (choices.top + choices.shift_rows)[:, None]).clamp_(0, height - 1)
    # Mirroring comes after the gather, so a mirrored image is shifted the other way before it.
    shift = torch.where(choices.flip_columns, -choices.shift_columns, choices.shift_columns)
    starts = (rows[:, None] * height + row) * width + (choices.left + shift)[:, None]
    # Only at the store's two ends can a shifted row reach outside; it is taken unshifted there.
    return starts.clamp_(0, count * height * width - size[1])


def _stretches(store: torch.Tensor, starts: torch.Tensor, width: int) -> torch.Tensor:
    """(n, h, width): `width` consecutive pixels of the flat store from each of `starts` (n, h).

    A view whose rows overlap makes every position a row, so that this is one gather of rows.
    """
    overlapping = store.as_strided((store.numel() - width + 1, width), (1, 1))
    return overlapping.index_select(0, starts.flatten()).view(*starts.shape, width)
