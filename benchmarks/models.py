"""The networks side by side: size, depth, work, speed, memory, and how much faster the slim one is.

    python -m benchmarks.models --threads 2 --out models.json
    python -m benchmarks.models --device cuda --precision bf16 --compile

Weights are random, which changes no time. Networks are as in use: batch norms folded, channels
last. All are timed in turns, so that whatever else the machine does falls on all alike; a ratio is
the median of the rounds' own ratios. A matrix product that takes turns with them gives the ceiling:
the FLOP/s that this machine reaches at that very time. Run it on an idle machine: networks of many
short layers wait for their threads at each, and lose most where they share the cores.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ceiling import matrix_flop, matrix_product
from benchmarks.memory import peak_of
from benchmarks.networks import NETWORKS
from common import cli
from common.blocks import conv_layers, fuse, parameters
from common.comparison.timing import machine
from common.config import check_at_least
from common.devices import pick_device
from common.files import publish_json
from common.progress import tqdm

SLICE = 0.05  # seconds a network gets in a round, at least one pass
PASS = 2.0  # seconds a pass may take before larger batches are not tried
WORTH = 1.03  # factor that a doubled batch must gain for the next to be tried
SPREAD = (10, 90)  # percentiles
BUSY = 0.9  # share of its threads' time that a process gets at least on an idle machine
LARGEST_BATCH = {"cpu": 16, "cuda": 512}
GRAPHS = 64  # compiled of one network's code at most


@dataclass
class Config:
    """Compare the networks' cost and speed on this machine."""

    repeats: int = 15
    """Rounds; in each, every network takes its turn."""
    threads: int = 2
    """CPU threads."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the networks in mixed precision."""
    compile: bool = False
    """Compile the networks with torch.compile."""
    out: Path | None = None
    """JSON file for the figures."""

    def __post_init__(self) -> None:
        check_at_least(self, repeats=1, threads=1)


@dataclass
class Entry:
    """A network at an input size: `plain` to count in, `fast` to time."""

    variant: str
    size: tuple[int, int]
    plain: nn.Module
    fast: Callable[[torch.Tensor], torch.Tensor]

    @property
    def name(self) -> str:
        return f"{self.variant} {self.size[0]}x{self.size[1]}"


def benchmark(config: Config) -> dict[str, Any]:
    """Measures and prints; returns the figures."""
    device = pick_device(config.device)
    torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision("high")  # the ceiling may use TF32, as convolutions do
    if config.compile:  # a graph for every batch size, and two networks share their code
        torch._dynamo.config.recompile_limit = GRAPHS
        torch._dynamo.config.fail_on_recompile_limit_hit = True  # else it goes on uncompiled
    entries = [make_entry(variant, size, device, config) for variant, size in NETWORKS]
    with torch.inference_mode():
        counted = [count(entry, device) for entry in entries]
        batches = [best_batch(entry, device) for entry in tqdm(entries, "best batch", leave=False)]
        wall, used = time.perf_counter(), time.process_time()
        one = time_in_turns(entries, [1] * len(entries), device, config)
        cores = (time.process_time() - used) / (time.perf_counter() - wall)
        best = time_in_turns(entries, batches, device, config)
    figures = {
        "machine": machine(device) | {"precision": config.precision, "compiled": config.compile},
        "cores_had": cores,
        "ceiling_gflops": float(np.median(matrix_flop(device) / 1e9 / one[-1])),
        "networks": [
            {"network": entry.name} | counts | speed(counts["gflop"], one[i], best[i], batches[i])
            for i, (entry, counts) in enumerate(zip(entries, counted, strict=True))
        ],
        "ratios": ratios(entries, one, best, batches),
    }
    for network in figures["networks"]:
        network["of_ceiling"] = network["gflops"] / figures["ceiling_gflops"]
    show(figures)
    if device.type == "cpu" and cores < BUSY * config.threads:
        print(f"\nnot to be trusted: {config.threads} threads got only {cores:.1f} cores' time")
    if config.out:
        publish_json(config.out, figures)
    return figures


def make_entry(variant: str, size: tuple[int, int], device: torch.device, config: Config) -> Entry:
    """The network of a variant at its default width, ready for inference."""
    torch.manual_seed(0)
    model = importlib.import_module(f"{variant}.model").build_model()
    plain = fuse(model).to(device, memory_format=torch.channels_last)
    compiled = torch.compile(plain, dynamic=False) if config.compile else plain
    mixed = config.precision == "bf16"

    def fast(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            return compiled(images)

    return Entry(variant, size, plain, fast)


def count(entry: Entry, device: torch.device) -> dict[str, float]:
    """Parameters, convolutions, GFLOP an image (a multiply-add is two) and peak memory in MiB."""
    image = images_of(entry, 1, device)
    with FlopCounterMode(display=False) as counter:
        entry.plain(image)
    weights = sum(p.nbytes for p in entry.plain.parameters())
    compute = partial(entry.fast if image.is_cuda else entry.plain, image)
    compute()  # compiles, and loads what libraries keep
    peak = peak_of(compute, device)
    return {
        "parameters": parameters(entry.plain),
        "conv_layers": conv_layers(entry.plain),
        "gflop": counter.get_total_flops() / 1e9,
        "peak_memory_mib": (weights + peak) / 2**20,
    }


def best_batch(entry: Entry, device: torch.device) -> int:
    """The batch size with the most images a second; doubled until that no longer pays."""
    best, best_rate, batch = 1, 0.0, 1
    while batch <= LARGEST_BATCH[device.type]:
        try:
            turn = partial(entry.fast, images_of(entry, batch, device))
            run_for(turn, device, passes=2)  # warm-up
            seconds = min(run_for(turn, device, passes=3))
        except torch.OutOfMemoryError:
            break
        rate = batch / seconds
        if rate > best_rate * WORTH:
            best, best_rate = batch, rate
        elif batch > 2 * best:
            break
        if seconds > PASS:
            break
        batch *= 2
    return best


def time_in_turns(
    entries: Sequence[Entry], batches: Sequence[int], device: torch.device, config: Config
) -> np.ndarray:
    """Seconds a pass (entries + 1, rounds); the last row is the matrix product's."""
    turns = [
        partial(entry.fast, images_of(entry, batch, device))
        for entry, batch in zip(entries, batches, strict=True)
    ]
    turns.append(matrix_product(device, config.precision))
    warm = [run_for(turn, device, passes=3)[-1] for turn in turns]
    passes = [int(np.clip(SLICE / seconds, 1, 50)) for seconds in warm]
    rounds = [
        [np.median(run_for(turn, device, n)) for turn, n in zip(turns, passes, strict=True)]
        for _ in tqdm(range(config.repeats), "rounds", leave=False)
    ]
    return np.array(rounds).T


def run_for(turn: Callable[[], Any], device: torch.device, passes: int) -> list[float]:
    """Seconds of each of some passes; on a GPU between events on its own clock."""
    if device.type != "cuda":
        times = [time.perf_counter()]
        for _ in range(passes):
            turn()
            times.append(time.perf_counter())
        return np.diff(times).tolist()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(passes + 1)]
    torch.cuda.synchronize(device)
    events[0].record()
    for event in events[1:]:
        turn()
        event.record()
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) / 1000 for start, end in pairwise(events)]


def images_of(entry: Entry, batch: int, device: torch.device) -> torch.Tensor:
    images = torch.zeros(batch, 1, *entry.size, device=device).normal_()
    return images.contiguous(memory_format=torch.channels_last)


def speed(gflop: float, one: np.ndarray, best: np.ndarray, batch: int) -> dict[str, float]:
    """Latency at batch 1, throughput at the best batch, and the FLOP/s that this means."""
    low, high = np.percentile(1000 * one, SPREAD)
    rate = float(np.median(batch / best))
    return {
        "ms": float(1000 * np.median(one)),
        "ms_low": float(low),
        "ms_high": float(high),
        "best_batch": batch,
        "images_per_second": rate,
        "gflops": gflop * max(rate, float(np.median(1 / one))),
    }


def ratios(
    entries: Sequence[Entry], one: np.ndarray, best: np.ndarray, batches: Sequence[int]
) -> list[dict[str, Any]]:
    """How many times faster than each U-Net the slim network is, at batch 1 and at best batches."""
    slim = [i for i, entry in enumerate(entries) if entry.variant == "modified_unet"]
    rates = np.array(batches)[:, None] / best[:-1]
    result = []
    for i in slim:
        for j in sorted(set(range(len(entries))) - set(slim)):
            rounds = one[j] / one[i]
            low, high = np.percentile(rounds, SPREAD)
            result.append(
                {
                    "network": entries[i].name,
                    "against": entries[j].name,
                    "latency": float(np.median(rounds)),
                    "low": float(low),
                    "high": float(high),
                    "throughput": float(np.median(rates[i] / rates[j])),
                }
            )
    return result


def show(figures: dict[str, Any]) -> None:
    about = ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
    print(f"{about}; matrix product {figures['ceiling_gflops']:.0f} GFLOP/s\n")
    print(pd.DataFrame(figures["networks"]).round(2).to_string(index=False))
    print("\ntimes as fast: at batch 1 (10th to 90th percentile of rounds), at best batches\n")
    print(pd.DataFrame(figures["ratios"]).round(1).to_string(index=False))


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return cli.run(benchmark, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
