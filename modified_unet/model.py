"""The slim-deep U-Net: every native pixel, a small grid.

    image -> unshuffle 2 -> fine ------------------------------------------- + -> refine -> head
                             unshuffle 2 -> stem -> context -------------- +        -> shuffle 2
                                       pool -> encode2 ------------ + decode1
                                                 pool -> encode3 -> decode2

Space-to-depth (unshuffle) brings the image onto a grid four times smaller a side without dropping
a pixel; below it the network works at strides 4, 8 and 16. Blocks see several scales at once,
average pooling leads down, pixel shuffle up, and skips are sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.blocks import ConvBnAct, crop_to, pad_to_multiple

STRIDE = 16


class MultiScaleBlock(nn.Module):
    """A chain of dilated 3x3 convolutions, all their outputs fused by a 1x1, plus the input.

    The gain of the fusion starts small, so that a deep stack begins near the identity: its sums
    stay in range in mixed precision.
    """

    def __init__(
        self, channels: int, width: int, dilations: tuple[int, ...], dropout: float = 0.0
    ) -> None:
        super().__init__()
        inputs = [channels] + [width] * (len(dilations) - 1)
        self.scales = nn.ModuleList(
            ConvBnAct(i, width, dilation=d) for i, d in zip(inputs, dilations, strict=True)
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(width * len(dilations), channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
        nn.init.constant_(self.fuse[1].weight, 0.2)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        scales, last = [], features
        for scale in self.scales:
            last = scale(last)
            scales.append(last)
        return features + self.dropout(self.fuse(torch.cat(scales, 1)))


class Up(nn.Module):
    """1x1 convolution and pixel shuffle to twice the size, added to the skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(inputs, 4 * outputs, 1, bias=False), nn.BatchNorm2d(4 * outputs)
        )

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """(N, inputs, H, W), (N, outputs, 2H, 2W) -> (N, outputs, 2H, 2W)."""
        return F.pixel_shuffle(self.expand(features), 2) + skip


class SlimDeepUNet(nn.Module):
    """Slim-deep U-Net on grey images; channels are those of strides 2, 4, 8 and 16."""

    def __init__(self, channels: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        c2, c4, c8, c16 = channels
        wide4, wide8, wide16 = c4 // 2, c8 // 2, c16 // 3
        self.fine = ConvBnAct(4, c2)
        self.stem = ConvBnAct(4 * c2, c4, kernel=1)
        self.context = MultiScaleBlock(c4, wide4, (1, 2, 4, 8))
        self.down2 = ConvBnAct(c4, c8, kernel=1)
        self.encode2 = _blocks(c8, wide8, (2, 4), dropout=0.1)
        self.down3 = ConvBnAct(c8, c16, kernel=1)
        self.encode3 = _blocks(c16, wide16, (1, 2, 4), dropout=0.1)
        self.up2 = Up(c16, c8)
        self.decode2 = _blocks(c8, wide8, (4, 2), dropout=0.1)
        self.up1 = Up(c8, c4)
        self.decode1 = MultiScaleBlock(c4, wide4, (1, 2))
        self.up0 = Up(c4, c2)
        self.refine = ConvBnAct(c2, c2)
        self.head = nn.Conv2d(c2, 4 * num_classes, 1)
        self.pool = nn.AvgPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) float -> logits (N, num_classes, H, W), any H and W."""
        height, width = images.shape[-2:]
        images = pad_to_multiple(images, STRIDE)
        fine = self.fine(F.pixel_unshuffle(images, 2))
        stride4 = self.context(self.stem(F.pixel_unshuffle(fine, 2)))
        stride8 = self.encode2(self.down2(self.pool(stride4)))
        stride16 = self.encode3(self.down3(self.pool(stride8)))
        features = self.decode2(self.up2(stride16, stride8))
        features = self.decode1(self.up1(features, stride4))
        features = self.refine(self.up0(features, fine))
        return crop_to(F.pixel_shuffle(self.head(features), 2), height, width)


def build_model(base_channels: int = 32, num_classes: int = 5) -> nn.Module:
    """The slim-deep U-Net; `base_channels` are those of its stride-4 stage, a multiple of 8.

    (N, 1, H, W) float in, (N, num_classes, H, W) logits out.
    """
    half = max(base_channels // 2, 4)
    channels = (half, base_channels, 3 * base_channels, 6 * base_channels)
    return SlimDeepUNet(channels, num_classes)


def _blocks(channels: int, width: int, dilations: tuple[int, ...], dropout: float) -> nn.Sequential:
    """One block for each of `dilations`, each beginning undilated."""
    return nn.Sequential(*[MultiScaleBlock(channels, width, (1, d), dropout) for d in dilations])
