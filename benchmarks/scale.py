"""What a data set of any size takes: time and memory of each step that sees all of it.

    python -m benchmarks.scale --out scale.json
    taskset -c 0,1 python -m benchmarks.scale --counts 62500 250000 1000000

Near-duplicates, split and bootstrap work on what is made here, and are measured at each count;
their cost grows with the exponent that is printed. What is done to one image after the other
(describing it, filling the store, counting a prediction) is measured on a few generated strips, and
costs so much an image at any count. Each measurement has a process of its own, whose peak memory is
told; cores that others keep busy lengthen the seconds, but not the CPU seconds.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from scipy import fft

from common import labels as labels_module
from common.cli import run
from common.comparison import scorecard
from common.comparison.bootstrap import replicate
from common.comparison.tally import Tally, concatenate, sums_of, take, tally_image, truth_of
from common.comparison.timing import machine
from common.dataset import near_duplicates, splits
from common.dataset.near_duplicates import STRIP, turned
from common.dataset.store import open_store
from common.files import publish_json
from common.labels import Labels
from common.machine import peak_memory
from data import synthetic

SHAPE, STORED = (256, 1600), (128, 800)
MODELS = 64  # generated strips whose spectra made ones have
COPIES = 10  # one strip in so many is a copy of another
RESAMPLES = 16
BLOCK = 4096


@dataclass
class Config:
    """Seconds and memory of each step, by the number of images."""

    counts: tuple[int, ...] = (15_625, 62_500, 250_000, 1_000_000)
    """Images in the steps that see all of them at once."""
    images: int = 64
    """Strips in the steps that see one after the other."""
    out: Path | None = None
    """JSON file for the figures."""

    def __post_init__(self) -> None:
        if min(*self.counts, self.images) < COPIES:
            raise ValueError(f"--counts and --images must be at least {COPIES}")


def made_details(count: int) -> np.ndarray:
    """Descriptions (count, *STRIP) int8 as of different strips, the last tenth copies of the first.

    Each has the smoothed spectrum of some generated strip, and waves of its own: strengths and
    phases of noise. Copies are mirrored, moved by up to a sixteenth, and noisy.
    """
    models = [near_duplicates.describe(synthetic.strip(0, i, SHAPE)[0]) for i in range(MODELS)]
    strengths = np.abs(fft.rfft2(np.stack(models).astype(np.float32)))
    smooth = np.stack([cv2.blur(each, (5, 5)) for each in strengths])
    random = np.random.default_rng(0)
    details = np.empty((count, *STRIP), np.int8)
    originals = count - count // COPIES
    for start in range(0, originals, BLOCK):
        block = details[start : min(start + BLOCK, originals)]
        noise = random.standard_normal(block.shape, np.float32)
        model = random.integers(0, MODELS, len(block))
        waves = fft.rfft2(noise) * (smooth[model] / np.sqrt(STRIP[0] * STRIP[1]))
        block[:] = fft.irfft2(waves, STRIP).clip(-127, 127)
    for copy in range(originals, count):
        original = turned(details[copy - originals], int(random.integers(4)))
        moved = np.roll(original, random.integers(-STRIP[1] // 16, STRIP[1] // 16), axis=1)
        noise = random.standard_normal(STRIP, np.float32) * (0.3 * moved.std())
        details[copy] = (moved + noise).clip(-127, 127)
    return details


def find_pairs(count: int) -> Callable[[], dict]:
    details = made_details(count)

    def work() -> dict:
        found = near_duplicates.pairs(details)
        planted = found[:, 1] - found[:, 0] == count - count // COPIES
        return {
            "found": planted.sum() / (count // COPIES),
            "false pairs": int((~planted).sum()),
        }

    return work


def split(count: int) -> Callable[[], dict]:
    kinds = [synthetic.class_set(0, i) for i in range(1000)]
    names = tuple(f"{i:09d}.jpg" for i in range(count))
    rles = {name: dict.fromkeys(kinds[i % 1000], "1 1") for i, name in enumerate(names)}
    labels = Labels(Path("none"), Path("none"), names, rles, None, 4)
    pairs = np.arange(count - count % 2).reshape(-1, 2)[::COPIES]

    def work() -> dict:
        parts = splits.deal(labels, pairs, splits.FRACTIONS)["split"]
        return dict(zip(splits.PARTS, np.bincount(parts).tolist(), strict=True))

    return work


def tallies(count: int) -> Tally:
    """Those of a few predictions, over and over."""
    few = [_count(*synthetic.strip(0, i, SHAPE)) for i in range(16)]
    return take(concatenate(few), np.resize(np.arange(len(few)), count))


def _count(image: np.ndarray, label_map: np.ndarray) -> Tally:
    """The tally of an invented prediction: the truth moved by some pixels."""
    moved = np.roll(label_map, 5, axis=1)
    probabilities = np.stack([np.where(moved == k, 0.9, 0.025) for k in range(5)])
    sums = sums_of(probabilities.astype(np.float32), label_map)
    return tally_image(truth_of(label_map, 5), sums, moved, moved)


def bootstrap(count: int) -> Callable[[], dict]:
    tally, groups = tallies(count), [str(i) for i in range(count)]

    def work() -> dict:
        replicate(partial(scorecard.figures, tally), groups, RESAMPLES)
        return {"bytes an image": sum(a.nbytes for a in vars(tally).values()) / count}

    return work


def describe(count: int) -> Callable[[], dict]:
    images = [synthetic.strip(0, i, SHAPE)[0] for i in range(count)]

    def work() -> dict:
        return {"bytes an image": sum(near_duplicates.describe(i).nbytes for i in images) / count}

    return work


def count_predictions(count: int) -> Callable[[], dict]:
    pictures = [synthetic.strip(0, i, SHAPE) for i in range(count)]

    def work() -> dict:
        files = [cv2.imencode(".png", label_map)[1].nbytes for _, label_map in pictures]
        for picture in pictures:
            _count(*picture)
        return {"bytes an image": sum(files) / count}

    return work


def fill_store(count: int) -> Callable[[], dict]:
    folder = tempfile.TemporaryDirectory()
    root = synthetic.generate(Path(folder.name) / "set", count)
    labels = labels_module.load(root)

    def work() -> dict:
        with folder:
            store = open_store(labels, labels.images, STORED, Path(folder.name) / "store", "")
            return {"bytes an image": (store.images.nbytes + store.labels.nbytes) / count}

    return work


WHOLE = {"near-duplicates": find_pairs, "split": split, f"{RESAMPLES} resamples": bootstrap}
ONE_BY_ONE = {
    "describe": describe,
    f"store at {STORED[0]}x{STORED[1]}": fill_store,
    "count a prediction": count_predictions,
}


def measure(config: Config) -> dict:
    """The figures: a row for each step and count, and the exponents of those with several."""
    asked = [(step, count) for step in WHOLE for count in sorted(config.counts)]
    asked += [(step, config.images) for step in ONE_BY_ONE]
    rows = []
    context = multiprocessing.get_context("spawn")
    for step, count in asked:
        with ProcessPoolExecutor(1, context) as alone:
            rows.append(alone.submit(_timed, step, count).result())
        print(*(f"{name} {value}" for name, value in rows[-1].items()), sep=", ", flush=True)
    return {
        "machine": machine(torch.device("cpu")),
        "rows": rows,
        "exponents": {step: exponent(r for r in rows if r["step"] == step) for step in WHOLE},
    }


def _timed(step: str, count: int) -> dict:
    work = {**WHOLE, **ONE_BY_ONE}[step](count)
    before, begun, own = peak_memory(), time.perf_counter(), time.process_time()
    found = work()
    return {
        "step": step,
        "images": count,
        "seconds": time.perf_counter() - begun,
        "cpu seconds": time.process_time() - own,
        "peak GB": peak_memory() / 1e9,
        "of them made before": before / 1e9,
        **found,
    }


def exponent(rows: object) -> float | None:
    """Of the power of the count that the CPU seconds grow with: slope of the logarithms."""
    points = np.log([(row["images"], max(row["cpu seconds"], 1e-6)) for row in rows])
    return float(np.polyfit(*points.T, 1)[0]) if len(points) > 1 else None


def main(argv: list[str] | None = None) -> int:
    """Prints the table and writes the JSON file; returns the exit code."""

    def show(config: Config) -> None:
        result = measure(config)
        print(pd.DataFrame(result["rows"]).to_string(index=False, float_format="{:.3g}".format))
        for step, power in result["exponents"].items():
            if power is not None:
                print(f"{step}: CPU seconds grow as the number of images to the {power:.2f}")
        if config.out:
            publish_json(config.out, result)

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
