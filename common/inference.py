"""A trained run applied to images of any size: resize, network, back to the image's own size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common.blocks import fuse
from common.resize import resize_image
from common.runs import Run
from common.thresholds import Thresholds, decide_logits

BAND = 1 << 23  # pixels whose logits are held at once


class Segmenter:
    """The best network of a run, batch norms folded, on one device.

    precision: fp32, or bf16 for mixed precision.
    """

    def __init__(self, run: Run, device: torch.device, precision: str = "fp32") -> None:
        self.run = run
        self.device = device
        self.network: nn.Module = fuse(run.build_model()).to(
            device, memory_format=torch.channels_last
        )
        self._mixed = precision == "bf16"

    def preprocess(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Grey images (H, W) uint8 of any sizes -> (N, 1, h, w) float32, normalised, on device."""
        pixels = np.stack([resize_image(image, self.run.size) for image in images])
        mean, std = self.run.normalisation
        batch = torch.from_numpy(pixels)[:, None].to(self.device, torch.float32)
        return (batch / 255 - mean) / std

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> torch.Tensor:
        """The network's logits (N, C, h, w) float32 at its own size."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
            # Classes plane by plane, not pixel by pixel: the steps behind are far faster on those.
            return self.network(batch).float().contiguous()

    @torch.inference_mode()
    def probabilities(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Class probabilities (N, C, H, W) float32 of images of one size, at that size.

        Logits are upsampled (bilinear), then decided: an upsampled label map would have steps.
        """
        return at_size(self.logits(self.preprocess(images)), images[0].shape)


def at_size(logits: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Softmax over classes of logits (N, C, h, w) brought to (N, C, *size)."""
    if len(logits) > 1 or size[0] * size[1] <= BAND:
        return upsample(logits, size).softmax(1)
    large = logits.new_empty(*logits.shape[:2], *size)
    for rows, band in upsampled_bands(logits, size):
        large[:, :, rows] = band.softmax(1)
    return large


def upsampled_bands(
    logits: torch.Tensor, size: tuple[int, int]
) -> Iterator[tuple[slice, torch.Tensor]]:
    """`upsample` of logits (1, C, h, w) by bands of rows: (rows, logits (1, C, rows, W)) each.

    An image of BAND pixels or fewer is one band; of a larger one only a band is held at a time.
    """
    height, width = size
    step = max(1, BAND // width)
    if step >= height or logits.shape[-2:] == size:
        yield slice(0, height), upsample(logits, size)
        return
    rows = torch.arange(height, dtype=torch.float64, device=logits.device)
    source = ((rows + 0.5) * logits.shape[2] / height - 0.5).clamp(0, logits.shape[2] - 1)
    above = source.long()
    for start in range(0, height, step):
        own = slice(start, min(start + step, height))
        first, last = int(above[own.start]), min(int(above[own.stop - 1]) + 1, logits.shape[2] - 1)
        wide = upsample(logits[:, :, first : last + 1], (last + 1 - first, width))
        upper = above[own] - first
        lower = (upper + 1).clamp(max=last - first)
        share = (source[own] - above[own]).to(logits.dtype)[:, None]
        yield own, torch.lerp(wide[:, :, upper], wide[:, :, lower], share)


def decide_bands(
    logits: torch.Tensor, size: tuple[int, int], thresholds: Thresholds | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """`decide_logits` of one image's logits (1, C, h, w) brought to `size`, both as (H, W)."""
    label_map, drawn = np.empty(size, np.uint8), None
    for rows, band in upsampled_bands(logits, size):
        classes, probability = decide_logits(band, thresholds)
        label_map[rows] = classes[0].numpy(force=True)
        if probability is not None:
            drawn = np.empty(size, np.float32) if drawn is None else drawn
            drawn[rows] = probability[0].numpy(force=True)
    return label_map, drawn


def upsample(logits: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Logits (N, C, h, w) at (N, C, *size), bilinear between pixel centres."""
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)
