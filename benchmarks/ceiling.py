"""What a machine can do: the FLOP/s of a large matrix product. A convolution may do better."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

SHAPE = {"cpu": (8192, 2048), "cuda": (8192, 8192)}  # of the left matrix; the right is square


def matrix_product(device: torch.device, precision: str) -> Callable[[], torch.Tensor]:
    """A call that multiplies two matrices in fp32 (TF32 where allowed) or bf16.

    On a CPU the product is a 1x1 convolution: so it goes through the library that runs the
    networks, while torch's `@` may go through one that is half as fast on this processor.
    """
    rows, side = SHAPE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.randn(rows, side, device=device, dtype=dtype)
    right = torch.randn(side, side, device=device, dtype=dtype)
    if device.type != "cpu":
        return lambda: left @ right
    pixels = left.view(1, 32, -1, side).permute(0, 3, 1, 2)  # channels last
    kernel = right.t().reshape(side, side, 1, 1).contiguous(memory_format=torch.channels_last)

    def multiply() -> torch.Tensor:
        with torch.inference_mode():
            return F.conv2d(pixels, kernel)

    return multiply


def matrix_flop(device: torch.device) -> int:
    """Floating-point operations of the product, a multiply-add being two."""
    rows, side = SHAPE[device.type]
    return 2 * rows * side**2
