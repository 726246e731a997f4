"""Our training step against a plain loop, in one run: images/s, memory, share of the ceiling.

    python -m benchmarks.training --out training.json

Plain loop: the same network and loss in float32, contiguous, unfused optimiser, `.item()` at every
step. Step for step the two are interleaved, so that a noisy machine troubles both alike. The
ceiling is a large matrix product in the same precision, measured in the same run.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.cli import run
from common.config import TrainConfig
from common.devices import pick_device
from common.files import publish_json
from common.losses import build_loss
from common.step import build_optimiser, optimise, update_ema

CASES = {
    "unet_64x400": (64, 400, "ce+dice"),
    "unet_128x800": (128, 800, "ce+dice"),
    "modified_unet": (64, 512, "bce+lovasz"),
}


@dataclass
class Config:
    """Images a second of one optimiser step, ours beside a plain one."""

    repeats: int = 7
    """Timed steps of each kind."""
    batch_size: int = 8
    """Images a step."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: str = "bf16"
    """Precision of our step: bf16 or fp32. The plain loop runs in fp32."""
    compile: bool = False
    """Compile our network."""
    threads: int = 2
    """CPU threads."""
    out: Path | None = None
    """JSON file for the figures."""


def measure(config: Config) -> dict:
    """Runs every case and returns the figures."""
    torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    mixed = config.precision == "bf16"
    ceiling = {name: matmul_flops(device, t) for name, t in PRECISIONS.items()}
    rows = [_case(name, *case, config, device, mixed, ceiling) for name, case in CASES.items()]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "threads": config.threads,
        "batch_size": config.batch_size,
        "precision": config.precision,
        "ceiling_gflops": {k: v / 1e9 for k, v in ceiling.items()},
        "rows": rows,
    }


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product, the best of some repeats."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / min(_timed(lambda: a @ b, device) for _ in range(8))


def _case(
    name: str,
    height: int,
    width: int,
    loss: str,
    config: Config,
    device: torch.device,
    mixed: bool,
    ceiling: dict[str, float],
) -> dict:
    build = importlib.import_module(f"{name}.model").build_model
    criterion = build_loss(loss).to(device)
    images = torch.randn(config.batch_size, 1, height, width, device=device)
    targets = torch.randint(0, 5, (config.batch_size, height, width), device=device)
    torch.manual_seed(0)
    plain = build().to(device)
    ours = build().to(device, memory_format=torch.channels_last)
    average = build().to(device, memory_format=torch.channels_last)
    network = torch.compile(ours) if config.compile else ours
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3)
    fused = build_optimiser(ours, TrainConfig())

    def plain_step() -> None:
        adam.zero_grad()
        value = criterion(plain(images), targets)
        value.backward()
        adam.step()
        value.item()

    def our_step() -> None:
        optimise(network, criterion, fused, images, targets, clip=1.0, mixed_precision=mixed)
        update_ema(average, ours, 0.99)

    with FlopCounterMode(display=False) as counter:
        build()(torch.randn(1, 1, height, width))
    flops = 3 * counter.get_total_flops() * config.batch_size  # backward costs two forwards
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    memory = {}
    for step, key in ((plain_step, "plain"), (our_step, "ours")):
        for _ in range(2):
            step()
        memory[key] = _peak(step, device)
    for _ in range(config.repeats):
        times["plain"].append(_timed(plain_step, device))
        times["ours"].append(_timed(our_step, device))
    plain_time, our_time = (statistics.median(times[key]) for key in ("plain", "ours"))
    return {
        "variant": name,
        "size": f"{height}x{width}",
        "plain images/s": config.batch_size / plain_time,
        "our images/s": config.batch_size / our_time,
        "ratio": plain_time / our_time,
        "slowest ratio": min(a / b for a, b in zip(times["plain"], times["ours"], strict=True)),
        "share of ceiling": flops / our_time / ceiling[config.precision],
        "plain MB": memory["plain"],
        "our MB": memory["ours"],
    }


def _timed(call, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _peak(step, device: torch.device) -> float | None:
    """Peak GPU memory of a step in MB; None on a CPU, whose allocator keeps no such count."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    step()
    _wait(device)
    return torch.cuda.max_memory_allocated(device) / 2**20


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(argv: list[str] | None = None) -> int:
    """Prints the table and writes the JSON file; returns the exit code."""

    def show(config: Config) -> None:
        result = measure(config)
        print(pd.DataFrame(result["rows"]).to_string(index=False, float_format="{:.2f}".format))
        ceiling = ", ".join(f"{k} {v:.0f}" for k, v in result["ceiling_gflops"].items())
        print(f"{result['device']}, {result['threads']} threads; matrix product GFLOP/s: {ceiling}")
        if config.out:
            publish_json(config.out, result)

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
