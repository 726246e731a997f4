"""The U-Net of both U-Net variants.

    image -> encode1 ------------------------------------------------- + -> decode1 -> head
               pool -> encode2 ------------------------- + -> decode2 -> up1
                         pool -> encode3 - + -> decode3 -> up2
                                   pool -> bottleneck -> up3

Each + is a concatenation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.blocks import ConvBnAct, crop_to, pad_to_multiple

STRIDE = 8


class UNet(nn.Module):
    """Three levels, 18 3x3 convolutions, padded so that skips line up.

    14.3 million parameters at `base_channels` 64; all channels scale with it.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 5, base_channels: int = 64) -> None:
        super().__init__()
        c = base_channels
        self.encode1 = _pair(in_channels, c, c)
        self.encode2 = _pair(c, 2 * c, 4 * c)
        self.encode3 = _pair(4 * c, 4 * c, 8 * c)
        self.bottleneck = _pair(8 * c, 4 * c, 4 * c)
        self.up3 = _up(4 * c, 8 * c)
        self.decode3 = _pair(16 * c, 8 * c, 8 * c)
        self.up2 = _up(8 * c, 4 * c)
        self.decode2 = _pair(8 * c, 2 * c, 2 * c)
        self.up1 = _up(2 * c, c)
        self.decode1 = _pair(2 * c, c, c)
        self.head = nn.Conv2d(c, num_classes, 3, padding=1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) float -> logits (N, num_classes, H, W), any H and W."""
        height, width = images.shape[-2:]
        skip1 = self.encode1(pad_to_multiple(images, STRIDE))
        skip2 = self.encode2(self.pool(skip1))
        skip3 = self.encode3(self.pool(skip2))
        features = self.bottleneck(self.pool(skip3))
        features = self.decode3(torch.cat([skip3, self.up3(features)], 1))
        features = self.decode2(torch.cat([skip2, self.up2(features)], 1))
        features = self.decode1(torch.cat([skip1, self.up1(features)], 1))
        return crop_to(self.head(features), height, width)


def _pair(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ConvBnAct(inputs, middle), ConvBnAct(middle, outputs))


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Twice the size."""
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
