"""Batches of a data set made ready: store -> (images, targets) on the device."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch

from common.config import TrainConfig
from common.dataset import crops
from common.dataset.augment import Augmentation, Choices, cut_out, draw, normalise, to_device
from common.dataset.prepare import Data, prepare
from common.dataset.sampling import repeat_factors, rounded
from common.dataset.store import Store
from common.dataset.stream import ahead
from common.devices import pick_device
from common.distributed import rank, world_size
from common.errors import UserError

PREFETCH = 2  # batches made ahead where the pixels do not lie on the device


def build_loaders(config: TrainConfig, augmentation: Augmentation) -> tuple[Loader, Loader, Loader]:
    """Loaders of the train, val and test part; only the first shuffles and augments."""
    data = prepare(config)
    device = pick_device(config.device)
    pixels = as_tensors(data.store, device)

    def loader(part: str, *training: object) -> Loader:
        rows = data.rows(part)
        return Loader(data, pixels, rows, config.batch_size, device, config.seed, *training)

    train = loader("train", augmentation, config.sampling, config.crop_size, data.epoch_images)
    return train, loader("val"), loader("test")


class Loader:
    """Batches `(images, targets)` of one part of the data, ready for the network.

    images: (n, 1, H, W) float32, normalised; targets: (n, H, W) int64; both on `device`.
    With augmentation it is a training loader: a new order each epoch (`set_epoch`), the last
    incomplete batch dropped, each process taking an equal share of every global batch. Without, it
    walks the rows once, each process over every world_size-th row, in batches of its share: none
    twice, none left out. Everything follows from (seed, epoch, step), so any batch can be made
    again.

    draws: images that an epoch of training draws; None for as many as rows. sampling: "uniform"
    draws all alike, "balanced" each in proportion to its repeat factor (`sampling.repeat_factors`,
    of the classes that have pixels at this size), rounded up or down by chance. crop: height and
    width of crops that are trained on (`crops.place`) in place of whole images, for each image of a
    batch as many as come nearest to its area: steps, and what one costs, stay the same.
    """

    def __init__(
        self,
        data: Data,
        pixels: tuple[torch.Tensor, torch.Tensor],
        rows: np.ndarray,
        batch_size: int,
        device: torch.device,
        seed: int,
        augmentation: Augmentation | None = None,
        sampling: Literal["uniform", "balanced"] = "uniform",
        crop: tuple[int, int] | None = None,
        draws: int | None = None,
    ) -> None:
        self.data = data
        self.rows = torch.from_numpy(rows)
        self.device = device
        self.seed = seed
        # A crop lies anywhere as it is.
        self.augmentation = dataclasses.replace(augmentation, shift=0) if crop else augmentation
        self.epoch = 0
        self.start_step = 0
        self._count = draws or len(rows)
        self.batch_size = (
            _shared(batch_size, self._count) if augmentation else max(1, batch_size // world_size())
        )
        self._images, self._labels = pixels
        self.resident = self._images.device == device  # else batches are made ahead
        whole = tuple(self._images.shape[1:])
        self.crop = crop
        self._size = crop or whole
        self._pieces = round(math.prod(whole) / math.prod(self._size))  # for an image of a batch
        shows = data.store.pixel_counts[rows, 1:] > 0
        factors = repeat_factors(shows) if sampling == "balanced" else np.ones(len(rows))
        drawn = self._pieces * self._count / len(rows)
        self._draws = factors / factors.mean() * drawn  # of each row in an epoch, on average

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Chooses the order and the augmentation of the next iteration, from `start_step` on."""
        self.epoch, self.start_step = epoch, start_step

    def __len__(self) -> int:
        """Steps of one whole epoch; without augmentation, of this process's share."""
        if self.augmentation:
            return self._count // self.batch_size
        return -(-len(self._order()) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        start, self.start_step = self.start_step, 0
        order, steps = self._order(), range(start, len(self))

        def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self._batch(self._batch_rows(order, step), step)

        if self.resident:
            yield from map(batch, steps)
            return
        with ThreadPoolExecutor(1) as pool:  # gathered while the device computes
            yield from ahead(batch, steps, pool, PREFETCH)

    def batch_names(self, step: int) -> list[str]:
        """Names of the images that this process sees at `step` of the current epoch."""
        return [self.data.store.names[row] for row in self._batch_rows(self._order(), step)]

    def pixel_counts(self) -> np.ndarray:
        """Label pixels of each class, the background's first, drawn in a mean epoch: (C,) float64.

        Those before shifts and borders, which change their shares little.
        """
        store, rows = self.data.store, self.rows.numpy()
        counts = store.pixel_counts[rows]
        if self.crop is not None:
            counts = crops.pixel_counts(store, rows, self.crop, self.augmentation.hold, self.seed)
        return (self._draws[:, None] * counts).sum(axis=0)

    def _order(self) -> torch.Tensor:
        if not self.augmentation:
            return self.rows[rank() :: world_size()]
        draws = rounded(self._draws, np.random.default_rng((self.seed, self.epoch)))
        order = torch.randperm(self._count * self._pieces, generator=self._generator(-1))
        return self.rows.repeat_interleave(torch.from_numpy(draws))[order]

    def _batch_rows(self, order: torch.Tensor, step: int) -> torch.Tensor:
        size = self.batch_size * self._pieces
        batch = order[step * size : (step + 1) * size]
        return batch[rank() :: world_size()] if self.augmentation else batch

    def _generator(self, step: int) -> torch.Generator:
        entropy = (self.seed, self.epoch, step + 1)
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator().manual_seed(seed)

    def _batch(self, rows: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gathers uint8 pixels where they lie, brings them to the device, makes floats there."""
        if self.device.type == "cpu" and not self.augmentation:
            return _pictures(rows, self._images, self._labels, *self.data.normalisation)
        choices = self._choices(rows, step) if self.augmentation else None
        if choices:
            pixels = cut_out(choices, rows, self._images, self._labels, self._size)
        else:
            where = to_device(rows, self._images.device)
            pixels = tuple(part.index_select(0, where) for part in (self._images, self._labels))
        images, labels = (to_device(part, self.device) for part in pixels)
        return normalise(images, *self.data.normalisation, choices), labels.long()

    def _choices(self, rows: torch.Tensor, step: int) -> Choices:
        """Drawn for the whole global batch; those of this process's `rows`."""
        count, generator = self.batch_size * self._pieces, self._generator(step)
        share = slice(rank(), None, world_size())
        choices = draw(self.augmentation, count, self._size, generator)[share]
        if self.crop is None:
            return choices
        draws = torch.rand((count, crops.DRAWS), dtype=torch.float64, generator=generator)[share]
        places = [
            crops.place(self.data.store, row, self.crop, self.augmentation.hold, numbers)
            for row, numbers in zip(rows.tolist(), draws.numpy(), strict=True)
        ]
        top, left = torch.tensor(places).unbind(dim=1)
        return dataclasses.replace(choices, top=top, left=left)


def _pictures(
    rows: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, mean: float, std: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch straight from a store on the CPU: `index_select`, `normalise` and `long` in one.

    Memory is what limits this, and so no batch of bytes comes between.
    """
    size = (len(rows), *images.shape[1:])
    inputs, targets = torch.empty(size), torch.empty(size, dtype=torch.int64)
    black = torch.tensor(-mean / std)
    for picture, target, row in zip(inputs, targets, rows.tolist(), strict=True):
        torch.add(black, images[row], alpha=1 / (255 * std), out=picture)
        target.copy_(labels[row])
    return inputs[:, None], targets


def _shared(batch_size: int, images: int) -> int:
    """The global batch: at most all `images`, in equal shares.

    Gradients and batch statistics are means over processes; unequal shares would weigh images
    unequally. Raises UserError where the batch cannot be shared so.
    """
    world = world_size()
    if batch_size % world:
        fitting = [n for n in (batch_size // world * world, -(-batch_size // world) * world) if n]
        raise UserError(
            f"--batch-size {batch_size} cannot be shared equally by {world} processes; "
            f"take {' or '.join(map(str, fitting))}."
        )
    if images < world:
        raise UserError(f"{images} training images cannot be shared by {world} processes.")
    return min(batch_size, images // world * world)


def as_tensors(store: Store, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The store's pixels as tensors: on the GPU where they take under half its free memory."""
    with warnings.catch_warnings():  # the maps are read-only, and so is every use of them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        pair = torch.from_numpy(store.images), torch.from_numpy(store.labels)
    if device.type != "cuda":
        return pair
    free, _ = torch.cuda.mem_get_info(device)
    if sum(array.nbytes for array in pair) < free / 2:
        return tuple(array.to(device) for array in pair)
    return pair
