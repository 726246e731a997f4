"""The U-Net, read on strips resized to 128x800."""

from torch import nn

from common.unet import UNet


def build_model(base_channels: int = 64, num_classes: int = 5) -> nn.Module:
    """(N, 1, H, W) float in, (N, num_classes, H, W) logits out, any H and W."""
    return UNet(in_channels=1, num_classes=num_classes, base_channels=base_channels)
