from __future__ import annotations

import torch
from torch import nn

from common.blocks import ConvBnAct, crop_to, pad_to_multiple

STRIDE = 8


class UNet(nn.Module):
    def __init__(self, in_channels=1, num_classes=5, base_channels=64):
        super().__init__()
        c = base_channels

        def pair(i, m, o):
            return nn.Sequential(ConvBnAct(i, m), ConvBnAct(m, o))

        def up(i, o):
            return nn.ConvTranspose2d(i, o, 3, stride=2, padding=1, output_padding=1)

        self.encode1 = pair(in_channels, c, c)
        self.encode2 = pair(c, 2 * c, 4 * c)
        self.encode3 = pair(4 * c, 4 * c, 8 * c)
        self.bottleneck = pair(8 * c, 4 * c, 4 * c)
        self.up3 = up(4 * c, 8 * c)
        self.decode3 = pair(16 * c, 8 * c, 8 * c)
        self.up2 = up(8 * c, 4 * c)
        self.decode2 = pair(8 * c, 2 * c, 2 * c)
        self.up1 = up(2 * c, c)
        self.decode1 = pair(2 * c, c, c)
        self.head = nn.Conv2d(c, num_classes, 3, padding=1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        h, w = x.shape[-2:]
        x = pad_to_multiple(x, 8)
        s1 = self.encode1(x)
        s2 = self.encode2(self.pool(s1))
        s3 = self.encode3(self.pool(s2))
        y = self.bottleneck(self.pool(s3))
        y = self.decode3(torch.cat([s3, self.up3(y)], 1))
        y = self.decode2(torch.cat([s2, self.up2(y)], 1))
        y = self.decode1(torch.cat([s1, self.up1(y)], 1))
        return crop_to(self.head(y), h, w)
