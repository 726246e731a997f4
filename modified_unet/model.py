"""The slim-deep U-Net: every pixel of the strip, on a small grid.

    image -> s2d -> fine -------------------------------------------------- + -> refine -> head
                     s2d -> stem -> context ---------------- + -> decode4 -> up2            d2s
                                      pool -> encode8 - + -> decode8 -> up4
                                                pool -> encode16 -> up8

Space-to-depth (s2d) packs 2x2 pixels into channels, so that the grid shrinks and no pixel is lost;
depth-to-space (d2s, the pixel shuffle) leads back up. Names carry the stride they work at, or lead
to. Each + is a sum: it costs half the memory traffic of a concatenation, which is what limits a
network this light.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.blocks import ConvBnAct, crop_to, pad_to_multiple

STRIDE = 16
DROPOUT = 0.1


class MultiScaleBlock(nn.Module):
    """A chain of 3x3 convolutions, ever more dilated, all fused by a 1x1 and added to the input.

    The fusion's gain starts small: a deep stack begins near the identity and its sums stay in the
    range where bf16 is accurate. It is not zero, so that every weight learns from the first step.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        dilations: tuple[int, ...],
        groups: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        first, *others = dilations
        self.scales = nn.ModuleList(
            [
                ConvBnAct(channels, width, dilation=first),
                *(ConvBnAct(width, width, dilation=d, groups=groups) for d in others),
            ]
        )
        self.mix = nn.Sequential(
            nn.Conv2d(width * len(dilations), channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
        nn.init.constant_(self.mix[1].weight, 0.2)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        scales, last = [], features
        for scale in self.scales:
            last = scale(last)
            scales.append(last)
        return self.dropout(self.mix(torch.cat(scales, 1))).add_(features)


class Up(nn.Module):
    """Activation, 1x1 convolution and pixel shuffle to twice the size, plus the skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.LeakyReLU(0.01),
            nn.Conv2d(inputs, 4 * outputs, 1, bias=False),
            nn.BatchNorm2d(4 * outputs),
        )

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """(N, inputs, H, W), (N, outputs, 2H, 2W) -> (N, outputs, 2H, 2W)."""
        # Not in place: a view changed in place has slow gradients, no longer channels last.
        return depth_to_space(self.expand(features)) + skip


class SlimDeepUNet(nn.Module):
    """38 convolutions and 0.76 million parameters at `base_channels` 32, those of stride 4."""

    def __init__(self, base_channels: int = 32, num_classes: int = 5) -> None:
        super().__init__()
        c = base_channels
        half, even = max(c // 2, 1), c + c % 2  # grouped convolutions need an even width
        self.fine = ConvBnAct(4, half)
        self.stem = ConvBnAct(4 * half, c, kernel=1)
        self.context = MultiScaleBlock(c, half, (1, 2, 4, 8))
        self.down8 = ConvBnAct(c, 3 * c, kernel=1)
        self.encode8 = _blocks(3 * c, even, (2, 4))
        self.down16 = ConvBnAct(3 * c, 6 * c, kernel=1)
        self.encode16 = _blocks(6 * c, 2 * c, (1, 2, 4))
        self.up8 = Up(6 * c, 3 * c)
        self.decode8 = _blocks(3 * c, even, (4, 2))
        self.up4 = Up(3 * c, c)
        self.decode4 = MultiScaleBlock(c, half, (1, 2))
        self.up2 = Up(c, half)
        self.refine = ConvBnAct(half, half)
        self.head = nn.Conv2d(half, 4 * num_classes, 1)
        self.pool = nn.AvgPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) float -> logits (N, num_classes, H, W), any H and W."""
        height, width = images.shape[-2:]
        stride2 = self.fine(space_to_depth(pad_to_multiple(images, STRIDE)))
        stride4 = self.context(self.stem(space_to_depth(stride2)))
        stride8 = self.encode8(self.down8(self.pool(stride4)))
        features = self.encode16(self.down16(self.pool(stride8)))
        features = self.decode8(self.up8(features, stride8))
        features = self.decode4(self.up4(features, stride4))
        features = self.refine(self.up2(features, stride2))
        return crop_to(depth_to_space(self.head(features)), height, width)


def build_model(base_channels: int = 32, num_classes: int = 5) -> nn.Module:
    """(N, 1, H, W) float in, (N, num_classes, H, W) logits out, any H and W."""
    return SlimDeepUNet(base_channels, num_classes)


def space_to_depth(x: Tensor) -> Tensor:
    """(N, C, 2H, 2W) -> (N, 4C, H, W), channels last: pixel (i, j) of a 2x2 cell at (2i + j) C.

    As `pixel_unshuffle` but for the order of channels, in which whole pixels are copied: several
    times faster on a CPU.
    """
    n, c, height, width = x.shape
    cells = x.permute(0, 2, 3, 1).reshape(n, height // 2, 2, width // 2, 2, c)
    packed = cells.transpose(2, 3).reshape(n, height // 2, width // 2, 4 * c)
    return packed.permute(0, 3, 1, 2)


def depth_to_space(x: Tensor) -> Tensor:
    """(N, 4C, H, W) -> (N, C, 2H, 2W): the inverse of `space_to_depth`."""
    n, c, height, width = x.shape
    cells = x.permute(0, 2, 3, 1).reshape(n, height, width, 2, 2, c // 4)
    unpacked = cells.transpose(2, 3).reshape(n, 2 * height, 2 * width, c // 4)
    return unpacked.permute(0, 3, 1, 2)


def _blocks(channels: int, width: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """A block for each of `dilations`, which its second convolution has."""
    return nn.Sequential(
        *[MultiScaleBlock(channels, width, (1, d), groups=2, dropout=DROPOUT) for d in dilations]
    )
