"""Building blocks that the networks share, and the folding of batch normalisation for inference."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Conv2d(nn.Conv2d):
    """A convolution that keeps out of PyTorch's bf16 where that is wrong.

    On a CPU, the weights' gradient of a dilated convolution in bf16 is garbage, finite or not,
    where its channels are more than 16 and no multiple of 16 (seen with torch 2.14 and AVX-512).
    There it runs in float32. Weights and results are those of `nn.Conv2d`.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W')."""
        sides = (self.in_channels // self.groups, self.out_channels // self.groups)
        odd = max(self.dilation) > 1 and any(side % 16 for side in sides)
        if odd and features.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(features.float())
        return super().forward(features)


class ConvBnAct(nn.Sequential):
    """Convolution -> batch normalisation -> LeakyReLU, the size kept.

    `kernel` is odd; padding follows from it and `dilation`. The convolution has no bias: the
    normalisation brings one. `fuse` folds the first two into one convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            Conv2d(
                inputs,
                outputs,
                kernel,
                padding=dilation * (kernel // 2),
                dilation=dilation,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.01, inplace=True),
        )


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeats the last row and column of `(N, C, H, W)` until `multiple` divides both sides."""
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if below == right == 0:  # padding by nothing would copy
        return images
    return F.pad(images, (0, right, 0, below), mode="replicate")


def crop_to(features: Tensor, height: int, width: int) -> Tensor:
    """The top left `height` x `width` of `(N, C, H, W)`: undoes `pad_to_multiple`."""
    return features[..., :height, :width]


def fuse(model: nn.Module) -> nn.Module:
    """A copy for inference: eval mode, every BatchNorm2d folded into the convolution before it.

    Folds pairs that follow one another in an `nn.Sequential`, where the order of definition is the
    order of execution; outputs equal those of `model.eval()` up to float rounding.
    """
    fused = copy.deepcopy(model).eval()
    for sequence in [m for m in fused.modules() if isinstance(m, nn.Sequential)]:
        for index, (conv, norm) in enumerate(pairwise(list(sequence))):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[index] = fuse_conv_bn_eval(conv, norm)
                sequence[index + 1] = nn.Identity().eval()
    return fused


def conv_layers(model: nn.Module) -> int:
    """Number of convolutions, transposed ones included."""
    return sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in model.modules())


def parameters(model: nn.Module) -> int:
    """Number of trainable numbers of a model."""
    return sum(p.numel() for p in model.parameters())
