"""Feeding a training: three ways to the same batches, in one run.

    python -m benchmarks.loading --data data/synthetic --out loading.json

(a) plain: a per-item dataset that, for every image, decodes the JPEG, walks over all rows of the
CSV (pandas' iterrows) and fills the mask pixel by pixel. (b) good: a per-item dataset with an
indexed CSV, OpenCV, vectorised masks and DataLoader workers. (c) ours: the pixel store and batches
gathered from it, into the same tensors as (a) and (b); (d) is (c) with augmentation. On a GPU
(c) and (d) make batches ahead and (e) has the whole store in its memory. Rounds are interleaved; in
each, every loader goes over its images, of which the slow (a) has few, until half a second is over.
--rows pads the CSV to the size of Severstal's with rows of images that are not
asked for, since (a) walks over all of them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from common import labels as labels_module
from common.cli import run
from common.comparison.timing import machine
from common.config import check_at_least
from common.dataset.augment import Augmentation
from common.dataset.loader import Loader, as_tensors
from common.dataset.prepare import Data, default_root
from common.dataset.splits import make_split
from common.dataset.store import open_store
from common.devices import clock, pick_device
from common.files import publish_json
from common.labels import Labels, fingerprint
from common.progress import tqdm
from common.resize import resize_image, resize_labels
from common.training.memory import keep_freed_memory

PLAIN_IMAGES = 16  # that the plain loader, which is slow, loads in a pass
SECONDS = 0.5  # that a loader runs a round, at least


@dataclass
class Config:
    """Images a second of several loaders."""

    data: Path | None = None
    """Data set root. Default: the one that a training takes."""
    height: int = 128
    """Height of the loaded images."""
    width: int = 800
    """Width of the loaded images."""
    batch_size: int = 16
    """Images a batch."""
    workers: int = 2
    """DataLoader worker processes of (b), and torch threads of (c)."""
    device: str = "cpu"
    """cpu, cuda or cuda:N: where (c) and (d) deliver; on a GPU (e) has the store lie there."""
    rounds: int = 5
    """Interleaved rounds."""
    rows: int = 7_095
    """Rows that the scanned CSV is padded to; Severstal has this many."""
    out: Path | None = None
    """JSON file for the figures."""

    def __post_init__(self) -> None:
        check_at_least(self, height=1, width=1, batch_size=1, workers=1, rounds=1)


class Plain(Dataset):
    """(a): everything from scratch at every visit."""

    def __init__(self, labels: Labels, size: tuple[int, int], rows: int) -> None:
        self.labels, self.size = labels, size
        masks = [(name, k, text) for name, m in labels.rles.items() for k, text in m.items()]
        masks += [("elsewhere.jpg", 1, "1 1")] * (rows - len(masks))
        self.csv = pd.DataFrame(masks, columns=["ImageId", "ClassId", "EncodedPixels"])

    def __len__(self) -> int:
        return len(self.labels.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        name = self.labels.images[index]
        image = cv2.imread(str(self.labels.path(name)), cv2.IMREAD_GRAYSCALE)
        height, width = image.shape
        label_map = np.zeros((height, width), np.uint8)
        for _, row in self.csv.iterrows():
            if row["ImageId"] == name:
                numbers = [int(word) for word in row["EncodedPixels"].split()]
                for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
                    for pixel in range(start - 1, start - 1 + length):
                        label_map[pixel % height, pixel // height] = row["ClassId"]
        return _tensors(image, label_map, self.size)


class Good(Dataset):
    """(b): what a careful per-item dataset does."""

    def __init__(self, labels: Labels, size: tuple[int, int]) -> None:
        self.labels, self.size = labels, size

    def __len__(self) -> int:
        return len(self.labels.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        name = self.labels.images[index]
        image = cv2.imread(str(self.labels.path(name)), cv2.IMREAD_GRAYSCALE)
        return _tensors(image, self.labels.label_map(name, image.shape), self.size)


def _tensors(
    image: np.ndarray, label_map: np.ndarray, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.from_numpy(resize_image(image, size))[None].float() / 255
    return pixels, torch.from_numpy(resize_labels(label_map, size)).long()


def measure(config: Config) -> dict:
    """Times the loaders and the store's build; returns the figures."""
    cv2.setNumThreads(1)
    torch.set_num_threads(config.workers)
    keep_freed_memory()
    labels = labels_module.load(config.data or default_root())
    size = (config.height, config.width)
    data, build_seconds = open_data(labels, size, config.workers)
    device, host = pick_device(config.device), torch.device("cpu")
    plain = Plain(labels, size, config.rows)
    loaders: dict[str, Iterable] = {
        "a: plain": per_item(plain, config.batch_size, limit=PLAIN_IMAGES),
        "b: good": per_item(Good(labels, size), config.batch_size, config.workers),
        "c: ours": all_images(data, config.batch_size, device, None, home=host),
        "d: ours, augmenting": all_images(
            data, config.batch_size, device, Augmentation(), home=host
        ),
    }
    if device != host:
        loaders["e: ours, augmenting, the store on the GPU"] = all_images(
            data, config.batch_size, device, Augmentation(), home=device
        )
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in tqdm(range(-1, config.rounds), "rounds", unit="round"):
        for name, loader in loaders.items():
            seconds = _seconds_an_image(loader, device)
            if turn >= 0:  # the first starts the workers and reads the files from the disk
                times[name].append(seconds)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    rows = [
        {
            "loader": name,
            "images/s": 1 / value,
            "ms an image": value * 1e3,
            "ours is faster by": value / seconds["c: ours"],
        }
        for name, value in seconds.items()
    ]
    return {
        "machine": machine(device),
        "data": str(labels.root),
        "images": len(labels.images),
        "size": list(size),
        "workers": config.workers,
        "rows": rows,
        "store build images/s a core": len(labels.images) / build_seconds / config.workers,
    }


def open_data(labels: Labels, size: tuple[int, int], workers: int) -> tuple[Data, float]:
    """Builds the store anew in a folder of its own; also returns the seconds that this took."""
    split, key = make_split(labels), fingerprint(labels)
    with tempfile.TemporaryDirectory() as folder:  # the maps stay readable when it is gone
        begun = time.perf_counter()
        store = open_store(labels, labels.images, size, Path(folder), key, workers)
        seconds = time.perf_counter() - begun
    return Data(labels, "benchmark", split, store), seconds


def per_item(
    dataset: Dataset, batch_size: int, workers: int = 0, limit: int | None = None
) -> DataLoader:
    """Batches (images, targets) of a dataset's items in a shuffled order, at most `limit` items.

    Worker processes stay alive from one iteration to the next.
    """
    order = np.random.default_rng(0).permutation(len(dataset))[:limit].tolist()
    return DataLoader(
        dataset, batch_size, sampler=order, num_workers=workers, persistent_workers=workers > 0
    )


def all_images(
    data: Data,
    batch_size: int,
    device: torch.device,
    augmentation: Augmentation | None,
    home: torch.device,
) -> Loader:
    """The package's loader, over all images of the data, whose pixels lie on `home`."""
    rows = np.arange(len(data.store.names))
    return Loader(data, as_tensors(data.store, home), rows, batch_size, device, 0, augmentation)


def _seconds_an_image(loader: Iterable, device: torch.device) -> float:
    """Passes until `SECONDS` are over: a single pass of ours takes but some milliseconds."""
    start, images = clock(device), 0
    while (elapsed := clock(device) - start) < SECONDS:
        images += sum(len(batch) for batch, _ in loader)
    return elapsed / images


def main(argv: list[str] | None = None) -> int:
    """Prints the table and writes the JSON file; returns the exit code."""

    def show(config: Config) -> None:
        result = measure(config)
        print(pd.DataFrame(result["rows"]).to_string(index=False, float_format="{:.2f}".format))
        print(
            f"store build: {result['store build images/s a core']:.0f} images/s a core, with "
            f"{result['workers']} threads"
        )
        if config.out:
            publish_json(config.out, result)

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
