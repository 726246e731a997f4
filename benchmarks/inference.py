"""From a JPEG on disk to run-length text, stage by stage, one strip at a time.

    python -m benchmarks.inference --threads 2 --out inference.json
    python -m benchmarks.inference --runs runs/A runs/B --data data/severstal

Every network goes through every runtime at hand: PyTorch, compiled or not, ONNX Runtime and
OpenVINO, these two also with the whole file that `common.export` writes, whose network stage holds
all but decoding, least areas and RLE; on a GPU PyTorch in fp32 and bf16, compiled, and as a CUDA
graph. All run on the same strips with the same threads, in turns, so that whatever else the machine
does falls on all alike. Then the fastest runtime of each network and precision runs in several
processes at once. Last come two figures of the slim network on whole strips: how its whole way
compares with the time that the U-Net at 64x400 spends in its network alone, and whether two threads
deliver 40 strips a second.

Without --runs the networks are untrained. That changes no stage but the last two, whose work
depends on what was found: so these get to work on the strips' true masks.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from benchmarks.networks import NETWORKS
from benchmarks.runtimes import EXPORTED, Untrained, Way, untrained, ways
from common import cli, rle, runs
from common import labels as labels_module
from common import thresholds as thresholds_module
from common.comparison.timing import machine
from common.config import check_at_least
from common.devices import pick_device
from common.errors import UserError
from common.files import publish_json
from common.machine import cores
from common.pixels import read_image
from common.progress import tqdm
from common.runs import Run
from common.thresholds import Thresholds, keep
from data.synthetic import generate

STAGES = ("decode", "normalise", "network", "post-process", "encode")
SLIM, UNET = NETWORKS[3], NETWORKS[0]  # that the goals are about
GOAL_RATE, GOAL_THREADS = 40, 2  # strips/s of SLIM, end to end
START_SECONDS = 300  # that processes wait for the slowest of them to have built its network


@dataclass
class Config:
    """Time the way from a JPEG to run-length text."""

    runs: tuple[Path, ...] = ()
    """Run directories. Default: the three variants, untrained."""
    data: Path | None = None
    """Data set root whose strips are used. Default: synthetic strips, made for this."""
    strips: int = 8
    """How many of its strips are used, in turn."""
    rounds: int = 10
    """Timed strips of each network in each runtime."""
    seconds: float = 5.0
    """How long each number of processes is timed."""
    threads: int = 0
    """Threads of every runtime; 0 takes one a core."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    out: Path | None = None
    """JSON file for the figures."""

    def __post_init__(self) -> None:
        check_at_least(self, strips=1, rounds=1, threads=0)
        if len(set(self.runs)) < len(self.runs):
            raise ValueError("--runs names a run twice")


@dataclass(frozen=True)
class Strip:
    """A file and its true label map (H, W) uint8."""

    path: Path
    truth: np.ndarray


@dataclass(frozen=True)
class Entry:
    """A network to be timed."""

    run: Run
    rule: Thresholds

    @property
    def name(self) -> str:
        height, width = self.run.size
        kind = f"{self.run.variant} {height}x{width}"
        # Runs may share variant and size; only their folders tell them apart.
        return kind if isinstance(self.run, Untrained) else f"{kind} {self.run.path}"


def benchmark(config: Config) -> dict[str, Any]:
    """Measures and prints; returns the figures. UserError where one of several processes fails."""
    device = pick_device(config.device)
    torch.set_num_threads(config.threads or cores())
    cv2.setNumThreads(1)  # one strip at a time: resizing is too short to be shared
    with tempfile.TemporaryDirectory() as folder:
        strips = load_strips(config, Path(folder))
        entries = load_entries(config)
        stages = time_stages(entries, strips, config.rounds, device)
        about = ", ".join(f"{key} {value}" for key, value in machine(device).items())
        print(f"\n{about}, fp32 where not named otherwise; median ms of {config.rounds} strips\n")
        print(stages.round(2).to_string(index=False))
        scaling = pd.DataFrame(
            time_processes(entry, runtime, strips, config, processes)
            for entry in entries
            for runtime in _fastest(stages[stages["variant"] == entry.name])
            for processes in _process_counts()
        )
    print("\nseveral processes at once, each network in the fastest runtime of either precision\n")
    print(scaling.round(1).to_string(index=False))
    reached = goals(entries, stages, scaling)
    print("\ngoals, in fp32\n")
    for line in reached["lines"]:
        print(line)
    figures = {
        "machine": machine(device),
        "stages": stages.to_dict("records"),
        "scaling": scaling.to_dict("records"),
        "goals": reached,
    }
    if config.out:
        publish_json(config.out, figures)
    return figures


def load_strips(config: Config, folder: Path) -> list[Strip]:
    """The strips to time on, defective and clean ones as they come."""
    root = config.data or generate(folder / "strips", config.strips, seed=0)
    labels = labels_module.load(root)
    paths = [(name, labels.path(name)) for name in labels.images[: config.strips]]
    return [Strip(path, labels.label_map(name, read_image(path).shape)) for name, path in paths]


def load_entries(config: Config) -> list[Entry]:
    """The runs of the command line, or the untrained variants with middling thresholds."""
    if not config.runs:
        middling = Thresholds(probability=(0.5,) * 4, area=(256,) * 4)
        return [Entry(untrained(variant, size), middling) for variant, size in NETWORKS]
    entries = []
    for path in config.runs:
        run = runs.load(path)
        count = run.num_classes - 1
        chosen = thresholds_module.load(path, count) or Thresholds((0.5,) * count, (0,) * count)
        entries.append(Entry(run, replace(chosen, peak=())))  # not every way gives probabilities
    return entries


def time_stages(
    entries: Sequence[Entry], strips: Sequence[Strip], rounds: int, device: torch.device
) -> pd.DataFrame:
    """A row a network and runtime: median ms of each stage, of the whole, and its 10-90 % range."""
    shape = strips[0].truth.shape
    offered = ways(device)
    built = {
        (entry.name, runtime): (entry, build(entry.run, entry.rule, shape))
        for entry in tqdm(entries, "build", unit="network")
        for runtime, build in offered.items()
    }
    seconds = {key: [] for key in built}
    for turn in tqdm(range(-1, rounds), "time", unit="round"):  # the first warms up
        strip = strips[turn % len(strips)]
        for key, (entry, way) in built.items():
            segment(entry, way, strip)  # another runtime's threads may still be spinning
            stages = segment(entry, way, strip)
            if turn >= 0:
                seconds[key].append(stages)
    return pd.DataFrame(_row(*key, 1000 * np.array(values)) for key, values in seconds.items())


def segment(entry: Entry, way: Way, strip: Strip) -> list[float]:
    """Takes one strip from its file to its run-length texts; returns the seconds of each stage."""
    clock = [time.perf_counter()]

    def lap(value: Any) -> Any:
        clock.append(time.perf_counter())
        return value

    image = lap(read_image(strip.path))
    pixels = lap(way.prepare(image))
    output = lap(way.infer(pixels))
    if isinstance(entry.run, Untrained):
        begun = time.perf_counter()
        output = way.pretend(output, strip.truth)
        pretended = time.perf_counter() - begun
    else:
        pretended = 0.0
    label_map = lap(keep(way.decide(output, image.shape), None, entry.rule))
    lap(rle.encode_classes(label_map))
    stages = np.diff(clock)
    stages[3] -= pretended
    return stages.tolist()


def time_processes(
    entry: Entry, runtime: str, strips: Sequence[Strip], config: Config, processes: int
) -> dict[str, Any]:
    """Strips a second of so many processes that share the threads among them.

    Raises UserError where one of them fails, dies or is not ready in START_SECONDS.
    """
    threads = max(1, torch.get_num_threads() // processes)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes, timeout=START_SECONDS)
    with ProcessPoolExecutor(processes, context, _join, (barrier,)) as pool:
        arguments = (entry, runtime, strips, config.device, threads, config.seconds)
        work = [pool.submit(_work, *arguments) for _ in range(processes)]
        pool.submit(int)  # the pool watches those that had been started before a submission
        done, _ = wait(work, return_when=FIRST_EXCEPTION)
        failure = next(filter(None, (future.exception() for future in done)), None)
        if failure and not isinstance(failure, BrokenProcessPool):  # in that case all are ended
            barrier.abort()  # the others wait for the one that failed
    if failure:
        raise UserError(
            f"{entry.name} in {runtime}, one of {processes} processes failed: "
            f"{_reason(failure)}\nWith fewer --threads there are fewer processes."
        ) from failure
    return {
        "variant": entry.name,
        "runtime": runtime,
        "processes": processes,
        "threads each": threads,
        "strips/s": sum(future.result() for future in work),
    }


def goals(
    entries: Sequence[Entry], stages: pd.DataFrame, scaling: pd.DataFrame
) -> dict[str, float | list[str] | None]:
    """The slim network's two figures in fp32, None for what was not timed, and lines that say them.

    speed_ratio: UNET's network stage over SLIM's whole path, each in its fastest runtime; runtimes
    whose network stage holds more than the network are left out for UNET. strips_per_second: SLIM,
    end to end, in as many processes as are best for GOAL_THREADS threads.
    """

    def of(table: pd.DataFrame, network: tuple[str, tuple[int, int]]) -> pd.DataFrame:
        names = [entry.name for entry in entries if (entry.run.variant, entry.run.size) == network]
        return table[table["variant"].isin(names) & ~table["runtime"].str.contains("bf16")]

    unet, slim, rates = of(stages, UNET), of(stages, SLIM), of(scaling, SLIM)
    unet = unet[~unet["runtime"].str.endswith(EXPORTED)].nsmallest(1, "network")
    slim = slim.nsmallest(1, "total")
    rates = rates[rates["processes"] * rates["threads each"] == GOAL_THREADS]
    figures = {"speed_ratio": None, "strips_per_second": None, "lines": []}
    for one, whole in zip(unet.to_dict("records"), slim.to_dict("records"), strict=False):
        figures["speed_ratio"] = one["network"] / whole["total"]
        figures["lines"].append(
            f"{whole['variant']}, whole path in {whole['runtime']}: {whole['total']:.1f} ms; "
            f"{one['variant']}, network alone in {one['runtime']}: {one['network']:.1f} ms, "
            f"{figures['speed_ratio']:.2f} times as long"
        )
    for best in rates.nlargest(1, "strips/s").to_dict("records"):
        rate = figures["strips_per_second"] = best["strips/s"]
        figures["lines"].append(
            f"{best['variant']}, end to end in {best['runtime']}, {best['processes']} processes of "
            f"{best['threads each']} threads: {rate:.1f} strips/s, "
            f"{'reaches' if rate >= GOAL_RATE else 'misses'} {GOAL_RATE}"
        )
    if len(figures["lines"]) < 2:
        figures["lines"].append(
            f"not all was timed: it takes {SLIM[0]} and {UNET[0]} at full size, and "
            f"--threads {GOAL_THREADS}"
        )
    return figures


def _reason(failure: BaseException) -> str:
    if isinstance(failure, BrokenProcessPool):
        return "it ended abruptly, as when memory runs out."
    if isinstance(failure, BrokenBarrierError):
        return f"it was not ready {START_SECONDS} seconds after another."
    return f"{type(failure).__name__}: {failure}"


def _join(barrier: Any) -> None:
    """Gives a new process the barrier at which all of them start."""
    global _barrier
    _barrier = barrier


def _work(
    entry: Entry, runtime: str, strips: Sequence[Strip], device: str, threads: int, seconds: float
) -> float:
    """One process: strips a second over `seconds`, begun together with the others."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    way = ways(pick_device(device))[runtime](entry.run, entry.rule, strips[0].truth.shape)
    segment(entry, way, strips[0])
    _barrier.wait()
    begun, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < seconds:
        segment(entry, way, strips[done % len(strips)])
        done += 1
    return done / elapsed


def _row(name: str, runtime: str, milliseconds: np.ndarray) -> dict[str, Any]:
    whole = milliseconds.sum(axis=1)
    low, high = np.percentile(whole, (10, 90))
    return {
        "variant": name,
        "runtime": runtime,
        **dict(zip(STAGES, np.median(milliseconds, axis=0).tolist(), strict=True)),
        "total": float(np.median(whole)),
        "low": float(low),
        "high": float(high),
        "strips/s": float(1000 / np.median(whole)),
    }


def _fastest(stages: pd.DataFrame) -> list[str]:
    """The fastest runtime in fp32, and in bf16 where there is one."""
    half = stages["runtime"].str.contains("bf16")
    parts = (stages[~half], stages[half])
    return [part.loc[part["total"].idxmin(), "runtime"] for part in parts if len(part)]


def _process_counts() -> list[int]:
    """1, 2, 4 ... up to the threads at hand."""
    return [2**i for i in range(torch.get_num_threads().bit_length())]


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return cli.run(benchmark, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
