"""A trained run in two lines of Python: `load_run(path).predict(image)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch

from common import overlay, rle, runs
from common import thresholds as thresholds_module
from common.dataset.stream import batches
from common.devices import pick_device
from common.errors import UserError
from common.inference import Segmenter, at_size, decide_bands
from common.pixels import eight_bits, read_image
from common.resize import resize_image
from common.runs import Run
from common.thresholds import keep

BATCH = 8
Image = str | Path | np.ndarray


@dataclass(frozen=True)
class Photo:
    """An image to segment: (H, W) uint8 grey, and the same at the network's size."""

    image: np.ndarray
    resized: np.ndarray


AnyPhoto = TypeVar("AnyPhoto", bound=Photo)


@dataclass(frozen=True)
class Prediction:
    """What a run says of one image, at the image's own size.

    image: (H, W) uint8 grey. label_map: (H, W) uint8, 0 background, else the class, decided as
    `common.predict` decides.
    """

    image: np.ndarray
    label_map: np.ndarray
    _logits: torch.Tensor = field(repr=False)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Of every class at each pixel, the background first: (C, H, W) float32."""
        return at_size(self._logits, self.image.shape)[0].numpy(force=True)

    @property
    def rles(self) -> dict[int, str]:
        """The run lengths, in Kaggle's form, of each class that was found."""
        return rle.encode_classes(self.label_map)

    def overlay(self) -> np.ndarray:
        """The image with its masks drawn in, (H, W, 3) uint8 RGB."""
        return overlay.draw(self.image, self.label_map)


class TrainedRun:
    """A run's network on a device, with the run's decision; `load_run` makes it."""

    def __init__(self, record: Run, device: torch.device) -> None:
        self.record = record
        self.thresholds = thresholds_module.load(record.path, record.num_classes - 1)
        self._segmenter = Segmenter(record, device)

    def predict(self, images: Image | Sequence[Image]) -> Prediction | list[Prediction]:
        """Segments an image, or each of a list, which gives a list.

        An image is a path or an array: (H, W) grey, or (H, W, 3) in RGB order; uint8, or uint16
        with as many bits in use as the data set that was trained on. Decided by the run's
        thresholds.json where there is one, else by the most probable class. Raises UserError for
        an image that cannot be read, and for any other array.
        """
        if isinstance(images, str | Path | np.ndarray):
            return self.predict([images])[0]
        greys = (grey(image, self.record.bits) for image in images)
        photos = (Photo(image, resize_image(image, self.record.size)) for image in greys)
        predictions = []
        for one, logits in network_says(self._segmenter, photos, BATCH):
            drawn = decide_bands(logits, one.image.shape, self.thresholds)
            label_map = keep(*drawn, self.thresholds)
            predictions.append(Prediction(one.image, label_map, logits))
        return predictions


def load_run(path: Path | str, device: str = "auto") -> TrainedRun:
    """A run directory, ready to predict. device: auto, cpu, cuda or cuda:N.

    Raises UserError where `path` is no run directory or not whole, and for a device that is absent.
    """
    return TrainedRun(runs.load(path), pick_device(device))


def grey(image: Image, bits: int) -> np.ndarray:
    """The image (H, W) uint8; see `TrainedRun.predict`. bits: in use where it has 16."""
    if not isinstance(image, np.ndarray):
        return read_image(Path(image), bits)
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype not in (np.uint8, np.uint16) or image.size == 0 or not shaped:
        raise UserError(
            "an image must be an array of uint8 or uint16, (H, W) grey or (H, W, 3) in RGB order; "
            f"this one is {image.dtype} {image.shape}. Give several as a list."
        )
    plain = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    try:
        return eight_bits(plain, bits)
    except ValueError as error:
        raise UserError(f"the image {error}") from error


def network_says(
    segmenter: Segmenter,
    photos: Iterable[AnyPhoto],
    batch_size: int,
    flips: Sequence[tuple[int, ...]] = ((),),
) -> Iterator[tuple[AnyPhoto, torch.Tensor]]:
    """Each photo with the network's logits (1, C, h, w) float32 at its own size.

    flips: mirror images whose logits are averaged, as dimensions of (N, C, H, W).
    """
    for batch in batches(photos, batch_size):
        pixels = segmenter.preprocess([one.resized for one in batch])
        logits = sum(segmenter.logits(pixels.flip(dims)).flip(dims) for dims in flips) / len(flips)
        yield from zip(batch, logits.split(1), strict=True)
