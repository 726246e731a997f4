"""How fast a network is and what it needs, measured as it is used: image in, label map out.

Networks are timed in turns, so that whatever else the machine does falls on all of them alike, and
the device is waited for at every border between stages. Reading and decoding of files is left out:
it is the same for all.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from common import runs
from common.blocks import conv_layers, parameters
from common.devices import clock
from common.inference import BAND, Segmenter, decide_bands, upsample
from common.machine import peak_memory
from common.progress import tqdm
from common.thresholds import Thresholds, decide_logits, keep

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
SPREAD = (10, 90)  # percentiles reported as low and high
SECONDS = 3.0  # about what one batch size of one network may take
WORTH = 1.03  # a larger batch must gain this factor for the next to be tried


@dataclass(frozen=True)
class Latency:
    """Milliseconds at batch 1, medians; low and high are the whole's 10th and 90th percentile."""

    median_ms: float
    low_ms: float
    high_ms: float
    preprocess_ms: float
    network_ms: float
    postprocess_ms: float


@dataclass(frozen=True)
class Throughput:
    """Median images a second at the best batch size, with 10th and 90th percentile."""

    batch: int
    images_per_second: float
    low: float
    high: float


def costs(
    timed: Sequence[tuple[Segmenter, Thresholds]],
    images: Sequence[np.ndarray],
    precision: str,
    repeats: int,
) -> list[dict[str, Any]]:
    """What each network needs, as entries of a comparison's results.

    images: (H, W) uint8 of one size. precision: what the segmenters run in. repeats: rounds of
    each measurement.
    """
    result = []
    for (segmenter, thresholds), latency in zip(
        timed, latencies(timed, images, repeats), strict=True
    ):
        model = segmenter.run.build_model()
        result.append(
            {
                "parameters": parameters(model),
                "conv_layers": conv_layers(model),
                "gflop": gflop(segmenter),
                "latency": {"batch": 1, **asdict(latency)},
                "throughput": asdict(throughput(segmenter, thresholds, images, repeats)),
                "peak_memory_mb": peak_memory_mb(segmenter, images[0].shape, precision),
            }
        )
    return result


def machine(device: torch.device) -> dict[str, Any]:
    """Name of the device, threads and PyTorch's version."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def latencies(
    timed: Sequence[tuple[Segmenter, Thresholds]], images: Sequence[np.ndarray], repeats: int
) -> list[Latency]:
    """The latency of each network over `repeats` rounds, after one round to warm up.

    images: (H, W) uint8, taken in turn.
    """
    seconds = np.empty((len(timed), repeats, 3))
    for repeat in range(-1, repeats):
        image = images[repeat % len(images)]
        for network, (segmenter, thresholds) in enumerate(timed):
            stages = _time_stages(segmenter, thresholds, [image])
            if repeat >= 0:
                seconds[network, repeat] = stages
    return [_latency(1000 * rounds) for rounds in seconds]


def throughput(
    segmenter: Segmenter, thresholds: Thresholds, images: Sequence[np.ndarray], repeats: int
) -> Throughput:
    """The throughput at the batch size that gives the most.

    images: (H, W) uint8 of one size, repeated to fill a batch. repeats: rounds a batch size, fewer
    where they would take long. Batches are doubled until that no longer pays, takes too long or
    does not fit the GPU.
    """
    best = Throughput(0, 0.0, 0.0, 0.0)
    for batch in BATCHES:
        chosen = [images[i % len(images)] for i in range(batch)]
        try:
            first = sum(_time_stages(segmenter, thresholds, chosen))
            rounds = int(np.clip(SECONDS / first, min(3, repeats), repeats))
            seconds = [sum(_time_stages(segmenter, thresholds, chosen)) for _ in range(rounds)]
        except torch.OutOfMemoryError:
            break
        rates = batch / np.array(seconds)
        rate, previous = float(np.median(rates)), best.images_per_second
        if rate > previous:
            best = Throughput(batch, rate, *map(float, np.percentile(rates, SPREAD)))
        if rate < WORTH * previous or np.median(seconds) > SECONDS / 2:
            break
    return best


def gflop(segmenter: Segmenter) -> float:
    """Billions of operations for one image through the network; a multiply-add is two."""
    height, width = segmenter.run.size
    counter = FlopCounterMode(display=False)
    with counter:
        segmenter.logits(torch.zeros(1, 1, height, width, device=segmenter.device))
    return counter.get_total_flops() / 1e9


def peak_memory_mb(segmenter: Segmenter, shape: tuple[int, int], precision: str) -> float | None:
    """Peak memory in MiB of segmenting one image (H, W) of `shape`; None where that process died.

    On a GPU the network and what its allocator added at most. On a CPU what a fresh process grew
    by, from before the network was loaded: a process that has worked hides what it needs in
    memory that it holds anyway.
    """
    if segmenter.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(segmenter.device)
        before = torch.cuda.memory_allocated(segmenter.device)
        segmenter.probabilities([np.zeros(shape, np.uint8)])
        added = torch.cuda.max_memory_allocated(segmenter.device) - before
        return (added + sum(p.nbytes for p in segmenter.network.parameters())) / 2**20
    arguments = (segmenter.run.path, precision, *shape, torch.get_num_threads())
    # A command of its own, for processes that Python's pools start run the caller's script again.
    child = subprocess.run(
        [sys.executable, "-m", __name__, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        capture_output=True,
        text=True,
    )
    if child.returncode == 0:
        return float(child.stdout.split()[-1])
    why = (child.stderr.strip().splitlines() or ["it was killed, as for lack of memory"])[-1]
    tqdm.write(f"warning: peak memory of {segmenter.run.name} was not measured: {why}")
    return None


def _growth_mb(path: Path, precision: str, shape: tuple[int, int], threads: int) -> float:
    torch.set_num_threads(threads)
    before = peak_memory()
    segmenter = Segmenter(runs.load(path), torch.device("cpu"), precision)
    segmenter.probabilities([np.zeros(shape, np.uint8)])
    return (peak_memory() - before) / 2**20


def _time_stages(
    segmenter: Segmenter, thresholds: Thresholds, images: Sequence[np.ndarray]
) -> tuple[float, float, float]:
    """Seconds of preprocessing, network and postprocessing of one batch."""
    times = [clock(segmenter.device)]
    batch = segmenter.preprocess(images)
    times.append(clock(segmenter.device))
    logits = segmenter.logits(batch)
    times.append(clock(segmenter.device))
    if images[0].size > BAND:
        for own in logits.split(1):
            keep(*decide_bands(own, images[0].shape, thresholds), thresholds)
    else:
        label_maps, drawn = decide_logits(upsample(logits, images[0].shape), thresholds)
        for row, label_map in enumerate(label_maps.numpy(force=True)):
            keep(label_map, None if drawn is None else drawn[row].numpy(force=True), thresholds)
    times.append(clock(segmenter.device))
    return tuple(np.diff(times).tolist())


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _latency(milliseconds: np.ndarray) -> Latency:
    whole = milliseconds.sum(axis=1)
    values = (np.median(whole), *np.percentile(whole, SPREAD), *np.median(milliseconds, axis=0))
    return Latency(*map(float, values))


if __name__ == "__main__":  # the process that `peak_memory_mb` starts
    run_path, asked, height, width, count = sys.argv[1:]
    print(_growth_mb(Path(run_path), asked, (int(height), int(width)), int(count)))
