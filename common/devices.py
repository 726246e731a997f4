"""Which device a command runs on, and in what precision."""

from __future__ import annotations

import os

import torch

from common.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device that `--device` names; under torchrun each process takes its own GPU.

    Raises UserError where a GPU is asked for and there is none.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name}: no CUDA device is available. Use --device cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if name in ("auto", "cuda"):
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = torch.device(name)
    if device.index >= torch.cuda.device_count():
        raise UserError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices.")
    return device


def default_precision(device: torch.device) -> str:
    """bf16 on a GPU that has it, else fp32."""
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
