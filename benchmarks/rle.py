"""Decoding and encoding run-length masks: ours beside three other ways, in one run.

    python -m benchmarks.rle --data data/severstal --out rle.json

All ways see the same masks, in interleaved rounds, so that a noisy machine troubles all alike; the
time of a way is the median of its rounds. Without --data the masks are those of generated strips.
pycocotools takes part where it is installed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common import rle
from common.cli import run
from common.config import check_at_least
from common.errors import UserError
from common.files import publish_json
from data.synthetic import generate

try:
    from pycocotools import mask as coco
except ImportError:
    coco = None


@dataclass
class Config:
    """Microseconds to decode and to encode a mask, ours beside other ways."""

    data: Path | None = None
    """Data set, or a train.csv with its masks. Default: generated strips."""
    height: int = 256
    """Height of the images that the masks belong to."""
    width: int = 1600
    """Width of these images."""
    masks: int = 200
    """Masks taken, evenly from the whole file."""
    repeats: int = 7
    """Rounds; in each, every way goes through all masks."""
    out: Path | None = None
    """JSON file for the figures."""

    def __post_init__(self) -> None:
        check_at_least(self, height=1, width=1, masks=1, repeats=1)


def pixel_loop(text: str, shape: tuple[int, int]) -> np.ndarray:
    """The definition, pixel by pixel."""
    numbers = [int(word) for word in text.split()]
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            flat[pixel] = 1
    return flat.reshape(shape, order="F")


def slice_loop(text: str, shape: tuple[int, int]) -> np.ndarray:
    """The usual way: a slice a run."""
    numbers = np.array(text.split(), dtype=int)
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = 1
    return flat.reshape(shape, order="F")


def coco_decode(text: str, shape: tuple[int, int]) -> np.ndarray:
    """pycocotools, from the text to its counts of alternate gaps and runs to the mask."""
    numbers = np.array(text.split(), dtype=int)
    edges = np.stack([numbers[0::2] - 1, numbers[0::2] - 1 + numbers[1::2]], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=shape[0] * shape[1]).tolist()
    return coco.decode(coco.frPyObjects({"size": list(shape), "counts": counts}, *shape))


def encode_loop(mask: np.ndarray) -> str:
    """Pixel by pixel, as a definition would be written."""
    numbers: list[int] = []
    before = 0
    for position, value in enumerate(mask.T.ravel().tolist(), start=1):
        if value and not before:
            numbers += [position, 0]
        if value:
            numbers[-1] += 1
        before = value
    return " ".join(map(str, numbers))


def measure(config: Config) -> dict:
    """Checks that all ways agree and returns the figures: microseconds a mask, ratio to ours."""
    texts = _texts(config)
    shape = (config.height, config.width)
    masks = [rle.decode(text, shape) for text in texts]
    decoders = {"per-pixel loop": pixel_loop, "slice loop": slice_loop}
    if coco:
        decoders["pycocotools"] = coco_decode
    decoders["ours"] = rle.decode
    rows = _race("decode", decoders, [(text, shape) for text in texts], masks, config.repeats)
    encoders = {"per-pixel loop": encode_loop, "ours": rle.encode}
    rows += _race("encode", encoders, [(mask,) for mask in masks], texts, config.repeats)
    runs = [len(text.split()) // 2 for text in texts]
    return {
        "masks": len(texts),
        "shape": shape,
        "runs a mask": {"median": statistics.median(runs), "largest": max(runs)},
        "rows": rows,
    }


def _race(
    task: str, ways: dict[str, Callable], arguments: list[tuple], expected: list, repeats: int
) -> list[dict]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        for given, right in zip(arguments, expected, strict=True):
            if not np.array_equal(way(*given), right):
                raise AssertionError(f"{name} {task}s {given} otherwise")
    for _ in range(repeats):
        for name, way in ways.items():
            begun = time.perf_counter()
            for given in arguments:
                way(*given)
            times[name].append((time.perf_counter() - begun) / len(arguments) * 1e6)
    ours = statistics.median(times["ours"])
    return [
        {
            "task": task,
            "way": name,
            "us a mask": statistics.median(values),
            "lowest": min(values),
            "highest": max(values),
            "times ours": statistics.median(values) / ours,
        }
        for name, values in times.items()
    ]


def _texts(config: Config) -> list[str]:
    """Up to `config.masks` run-length texts, spread over the file."""
    with tempfile.TemporaryDirectory() as folder:
        root = config.data or Path(folder)
        if config.data is None:
            generate(root, 100, seed=0)
        path = root if root.suffix == ".csv" else root / "train.csv"
        try:
            texts = pd.read_csv(path)["EncodedPixels"].dropna().tolist()
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"cannot read masks from {path}: {error}") from error
    if not texts:
        raise UserError(f"{path} holds no mask.")
    return texts[:: max(1, len(texts) // config.masks)][: config.masks]


def main(argv: list[str] | None = None) -> int:
    """Prints the table and writes the JSON file; returns the exit code."""

    def show(config: Config) -> None:
        result = measure(config)
        runs = result["runs a mask"]
        print(
            f"{result['masks']} masks of {config.height}x{config.width}, {runs['median']:.0f} runs "
            f"(median), {runs['largest']} at most; median of {config.repeats} rounds"
        )
        print(pd.DataFrame(result["rows"]).to_string(index=False, float_format="{:.1f}".format))
        if config.out:
            publish_json(config.out, result)

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
