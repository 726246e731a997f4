"""Which device a command runs on, and in what precision."""

from __future__ import annotations

import os
import time
from typing import Any

import torch

from common.distributed import is_main
from common.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device that `--device` names; under torchrun each process takes its own GPU.

    A GPU becomes the current one, on which streams, events and pinned memory are made.

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
    torch.cuda.set_device(device)
    return device


def check_compiler(device: torch.device) -> None:
    """Raises UserError where torch.compile does not work, by compiling next to nothing."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except RuntimeError as error:
        cause = next((line for line in str(error).splitlines() if line.strip()), type(error))
        raise UserError(
            f"--compile: torch.compile does not work on this machine: {cause}\n"
            "Install a C++ compiler (for a GPU also Triton), or leave --compile out."
        ) from error


def pick_precision(asked: str | None, device: torch.device) -> str:
    """What `--precision` asks for, with a warning where that is slow; by default bf16 on a GPU.

    A GPU without bf16 (a T4, a P100) takes fp32. So does every CPU; a training takes
    `training_precision`.
    """
    if asked == "bf16" and not has_bf16(device) and is_main():
        kind = "GPU" if device.type == "cuda" else "CPU"
        print(
            f"warning: --precision bf16: this {kind} only emulates bf16, "
            "which can take many times as long as fp32"
        )
    return asked or ("bf16" if device.type == "cuda" and has_bf16(device) else "fp32")


def training_precision(asked: str | None, device: torch.device) -> tuple[str, str]:
    """The precision of a training, and why: what is asked for, else bf16 where it is fast.

    On a CPU by what it has and never by a timing, so that the same command gives the same figures.
    """
    if asked:
        return pick_precision(asked, device), "as asked"
    if device.type == "cuda":
        precision = pick_precision(None, device)
        return precision, f"as this GPU {'computes' if precision == 'bf16' else 'emulates'} bf16"
    # PyTorch 2.11 may not tell.
    extension = fast_bf16(getattr(torch.cpu, "get_capabilities", dict)())
    if extension and has_bf16(device):
        return "bf16", f"as this CPU has {extension}"
    return "fp32", "as this CPU is not known to train faster in bf16"


def fast_bf16(capabilities: dict[str, Any]) -> str:
    """The extension by which a CPU trains faster in bf16 than in fp32; empty where none does.

    capabilities: of `torch.cpu.get_capabilities`. A step of `unet_64x400` and one of the slim
    network took, in one thread: a fifth of its time in fp32 with AMX (the U-Net); with the bf16 of
    AVX-512 .5 and .8 on an AMD EPYC, 1.5 and 1.2 on a Xeon that shows no AMX.
    """
    if capabilities.get("amx_bf16"):
        return "amx_bf16"
    is_intel = "Intel" in capabilities.get("cpu_name", "")
    return "avx512_bf16" if capabilities.get("avx512_bf16") and not is_intel else ""


def has_bf16(device: torch.device) -> bool:
    """Whether PyTorch computes in bfloat16 on the device without crawling.

    On a CPU that takes AVX-512 (or ARM's SVE): with AVX2 alone the slim network trained six times
    as fast in fp32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def clock(device: torch.device) -> float:
    """Seconds by `time.perf_counter`, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def memory_format(device: torch.device) -> torch.memory_format:
    """How a network's tensors lie in training: channels last, but for a CPU with AVX2 alone.

    There the gradients of convolutions take longer so: a step of the U-Net at 64x400 1.4 times.
    """
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return torch.contiguous_format
    return torch.channels_last
