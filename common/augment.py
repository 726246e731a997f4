"""Augmentation in batches: one random choice an image, applied to all pixels at once on the device.

Flips and shifts are index arithmetic, so they cost nothing beyond the gather that fetches a batch
from the store anyway; brightness, contrast and black borders act on the float images after it.
The choices are drawn on the CPU from (seed, epoch, step), for the whole global batch: the same
images come out on any device and with any number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Augmentation:
    """How strongly training images are varied; probabilities and shares lie in [0, 1]."""

    flip: float = 0.5
    """Probability of a horizontal, and independently of a vertical, mirror image."""
    shift: float = 0.04
    """Largest shift, as a share of height and width; the edge pixel is repeated."""
    brightness: float = 0.1
    """Largest offset added to grey values in [0, 1]."""
    contrast: float = 0.2
    """Largest relative change of contrast about the image's mean."""
    border: float = 0.1
    """Probability of a black border at the left or right, as where a strip ends."""
    border_share: float = 0.3
    """Largest width of that border, as a share of the image."""


@dataclass(frozen=True)
class Choices:
    """What was drawn for each of N images; all tensors have length N and lie on the CPU."""

    flip_rows: torch.Tensor
    flip_columns: torch.Tensor
    shift_rows: torch.Tensor
    shift_columns: torch.Tensor
    brightness: torch.Tensor
    contrast: torch.Tensor
    border: torch.Tensor

    def __getitem__(self, part: slice) -> Choices:
        return Choices(**{name: value[part] for name, value in vars(self).items()})


def draw(augmentation: Augmentation, count: int, generator: torch.Generator) -> Choices:
    """Draws the choices for `count` images.

    shifts are shares of the size in [-shift, shift]; brightness is an offset, contrast a factor;
    border is the signed share of blackened columns: negative at the left, positive at the right.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def happens(probability: float) -> torch.Tensor:
        return torch.rand(count, generator=generator) < probability

    a = augmentation
    return Choices(
        flip_rows=happens(a.flip),
        flip_columns=happens(a.flip),
        shift_rows=uniform(-a.shift, a.shift),
        shift_columns=uniform(-a.shift, a.shift),
        brightness=uniform(-a.brightness, a.brightness),
        contrast=uniform(1 - a.contrast, 1 + a.contrast),
        border=uniform(-a.border_share, a.border_share) * happens(a.border),
    )


def row_and_column_indices(
    choices: Choices, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Source rows (N, H) and columns (N, W), int64, of each image's mirrored, shifted pixels."""

    def indices(length: int, flip: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        base = torch.arange(length)
        base = torch.where(flip[:, None], base.flip(0), base)
        return (base + (shift * length).round().long()[:, None]).clamp_(0, length - 1)

    return (
        indices(size[0], choices.flip_rows, choices.shift_rows),
        indices(size[1], choices.flip_columns, choices.shift_columns),
    )


def vary_light(
    choices: Choices, images: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Brightness, contrast and black borders.

    images: (N, 1, H, W) float in [0, 1]; targets: (N, H, W) integer, on the images' device.
    Under a black border the target is background. Returns new tensors of the same kind.
    """
    device = images.device
    brightness, contrast, border = (
        value.to(device, non_blocking=True).view(-1, 1, 1, 1)
        for value in (choices.brightness, choices.contrast, choices.border)
    )
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = ((images - mean) * contrast + mean + brightness).clamp_(0, 1)
    width = images.shape[-1]
    column = (torch.arange(width, device=device) + 0.5) / width
    black = torch.where(border < 0, column < -border, column > 1 - border)
    return images.masked_fill(black, 0.0), targets.masked_fill(black[:, 0], 0)
