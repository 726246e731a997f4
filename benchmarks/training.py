"""Our training loop against a plain one, in one run: images/s, data wait, memory, ceiling.

    python -m benchmarks.training --out training.json
    python -m benchmarks.training --device cuda --batch-size 64 --compile

Plain loop: the same network and loss in float32, contiguous, unfused optimiser, `.item()` at every
step, and every image read from its file, in the same process, by the careful per-item dataset of
`benchmarks.loading`; compare the steps alone to leave that out.
Our loop: the pixel store, augmentation on the device, channels last and mixed precision where they
help, fused optimiser, gradient clipping and averaged weights. The two take turns step by step, so
that a noisy machine troubles both alike. The ceiling is a large matrix product in our precision,
which takes its turn too.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ceiling import matrix_flop, matrix_product
from benchmarks.loading import Good, all_images, open_data, per_item
from benchmarks.memory import peak_of
from benchmarks.networks import NETWORKS
from common import labels as labels_module
from common.cli import run
from common.comparison.timing import machine
from common.config import TrainConfig, check_at_least
from common.dataset.augment import Augmentation
from common.devices import clock, has_bf16, memory_format, pick_device
from common.files import publish_json
from common.labels import Labels
from common.losses import build_loss
from common.progress import tqdm
from common.training.memory import keep_freed_memory
from common.training.step import MuonAdamW, optimise, update_ema
from data.synthetic import generate

WARM_UP = 2  # steps


@dataclass
class Config:
    """Images a second of our training loop beside a plain one."""

    data: Path | None = None
    """Data set root. Default: synthetic strips, made for the run."""
    repeats: int = 5
    """Timed steps of each kind."""
    batch_size: int = 8
    """Images a step."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["fp32", "bf16"] | None = None
    """Precision of our step; the plain loop runs in fp32. Default: bf16 where the device has it."""
    compile: bool = False
    """Compile our network."""
    threads: int = 2
    """CPU threads."""
    out: Path | None = None
    """JSON file for the figures."""

    def __post_init__(self) -> None:
        check_at_least(self, repeats=1, batch_size=1, threads=1)


def measure(config: Config) -> dict[str, Any]:
    """Runs every case and returns the figures."""
    torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision("high")  # the ceiling may use TF32, as convolutions do
    keep_freed_memory()
    device = pick_device(config.device)
    config.precision = config.precision or ("bf16" if has_bf16(device) else "fp32")
    with tempfile.TemporaryDirectory() as folder:
        root = config.data or generate(Path(folder) / "strips", 8 * config.batch_size, seed=0)
        labels = labels_module.load(root)
        rows = [_case(*case, labels, config, device) for case in tqdm(NETWORKS, "networks")]
    return {
        "machine": machine(device) | {"precision": config.precision, "compiled": config.compile},
        "batch_size": config.batch_size,
        "images": len(labels.images),
        "rows": rows,
    }


def _case(
    variant: str, size: tuple[int, int], labels: Labels, config: Config, device: torch.device
) -> dict[str, Any]:
    recipe = importlib.import_module(f"{variant}.train").Config(
        batch_size=config.batch_size, precision=config.precision
    )
    build = importlib.import_module(f"{variant}.model").build_model
    criterion = build_loss(recipe.loss).to(device)
    plain = PlainLoop(build().to(device), criterion, labels, size, config.batch_size, device)
    ours = OurLoop(build, criterion, labels, size, recipe, config, device)
    turns = {
        "plain_load": plain.load,
        "plain_step": plain.step,
        "our_load": ours.load,
        "our_step": ours.step,
        "ceiling": matrix_product(device, config.precision),
    }
    for _ in range(WARM_UP):
        for turn in turns.values():
            turn()
    memory = {}
    for name, loop in (("plain", plain), ("our", ours)):
        loop.optimiser.zero_grad()  # the gradients of a step are part of what it makes
        memory[name] = peak_of(loop.step, device)
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(config.repeats):
        for name, turn in turns.items():
            seconds[name].append(_timed(turn, device))
    with FlopCounterMode(display=False) as counter:
        build()(torch.zeros(1, 1, *size))
    flop = 3 * counter.get_total_flops() * config.batch_size  # backward costs two forwards
    name = f"{variant} {size[0]}x{size[1]}"
    return {"network": name} | _figures(
        {key: np.array(values) for key, values in seconds.items()},
        config.batch_size, flop / matrix_flop(device), memory,
    )  # fmt: skip


def _figures(
    seconds: dict[str, np.ndarray], batch: int, work: float, memory: dict[str, int]
) -> dict[str, Any]:
    """Medians over rounds. work: FLOP of a step, in matrix products."""
    plain = seconds["plain_load"] + seconds["plain_step"]
    ours = seconds["our_load"] + seconds["our_step"]
    return {
        "plain_images_per_second": float(np.median(batch / plain)),
        "our_images_per_second": float(np.median(batch / ours)),
        "loop_ratio": float(np.median(plain / ours)),
        "step_ratio": float(np.median(seconds["plain_step"] / seconds["our_step"])),
        "lowest_step_ratio": float((seconds["plain_step"] / seconds["our_step"]).min()),
        "plain_wait": float(np.median(seconds["plain_load"] / plain)),
        "our_wait": float(np.median(seconds["our_load"] / ours)),
        "of_ceiling": float(np.median(work * seconds["ceiling"] / seconds["our_step"])),
        **{f"{name}_mib": peak / 2**20 for name, peak in memory.items()},
    }


class PlainLoop:
    """What a short script does: `load` a batch, then `step`."""

    def __init__(
        self,
        network: nn.Module,
        criterion: nn.Module,
        labels: Labels,
        size: tuple[int, int],
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.network, self.criterion, self.device = network, criterion, device
        self.optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        self.batches = _forever(per_item(Good(labels, size), batch_size))

    def load(self) -> None:
        self.batch = tuple(part.to(self.device) for part in next(self.batches))

    def step(self) -> None:
        images, targets = self.batch
        self.optimiser.zero_grad()
        loss = self.criterion(self.network(images), targets)
        loss.backward()
        self.optimiser.step()
        loss.item()


class OurLoop:
    """What `common.training.loop` does in a step, by the same functions."""

    def __init__(
        self,
        build: Callable[[], nn.Module],
        criterion: nn.Module,
        labels: Labels,
        size: tuple[int, int],
        recipe: TrainConfig,
        config: Config,
        device: torch.device,
    ) -> None:
        self.model, self.average = (
            build().to(device, memory_format=memory_format(device)) for _ in range(2)
        )
        self.network = torch.compile(self.model, dynamic=False) if config.compile else self.model
        self.criterion, self.recipe = criterion, recipe
        self.mixed = recipe.precision == "bf16"
        self.optimiser = MuonAdamW(self.model, recipe)
        data, _ = open_data(labels, size, config.threads)
        loader = all_images(data, config.batch_size, device, Augmentation(), home=device)
        self.batches = _forever(loader)

    def load(self) -> None:
        self.batch = next(self.batches)

    def step(self) -> None:
        optimise(
            self.network, self.criterion, self.optimiser, *self.batch,
            clip=self.recipe.clip, mixed_precision=self.mixed,
        )  # fmt: skip
        update_ema(self.average, self.model, self.recipe.ema)


def _forever(batches: Iterable) -> Iterator:
    while True:
        yield from batches


def _timed(call: Callable[[], Any], device: torch.device) -> float:
    start = clock(device)
    call()
    return clock(device) - start


def main(argv: list[str] | None = None) -> int:
    """Prints the table and writes the JSON file; returns the exit code."""

    def show(config: Config) -> None:
        result = measure(config)
        print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
        print(pd.DataFrame(result["rows"]).round(3).to_string(index=False))
        if config.out:
            publish_json(config.out, result)

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
