"""What is scored: a trained network with its decision, or predictions that others made."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.checkpoint import best_file
from common.comparison.tally import Sums, Truth, sums_of
from common.inference import BAND, Segmenter, at_size, upsampled_bands
from common.labels import Labels
from common.thresholds import RULES, Thresholds, decide, drawn_probability, keep

# Rows of an image, their probabilities (C, rows, W), their label maps without and with thresholds.
Decided = tuple[slice, np.ndarray, np.ndarray, np.ndarray]
# What the probabilities sum to, and the whole label maps (H, W) without and with thresholds.
Whole = tuple[Sums, np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Contestant(ABC):
    """Who makes label maps of images. predictions: the folder to which they go.

    images: those that it is asked about; None for all.
    """

    predictions: Path
    images: frozenset[str] | None = None

    def tests(self, image: str) -> bool:
        """Whether it is asked about the image."""
        return self.images is None or image in self.images

    def prediction_path(self, image: str) -> Path:
        """Where the label map of an image lies, as finally decided."""
        return self.predictions / f"{image}.png"

    @abstractmethod
    def identity(self) -> list[Any]:
        """Plain values on which its label maps depend."""

    @abstractmethod
    def look(self, names: Sequence[str], images: Sequence[np.ndarray]) -> Iterator[Any]:
        """For each image (H, W) uint8 of a batch what `finish` needs; called in turn."""

    @abstractmethod
    def finish(self, seen: Any, truth: Truth) -> Whole:
        """The label maps of an image, from what `look` gave; called in threads."""


@dataclass(frozen=True, kw_only=True)
class Network(Contestant):
    """The network of a run, with the run's decision."""

    segmenter: Segmenter
    thresholds: Thresholds

    def identity(self) -> list[Any]:
        run, thresholds = self.segmenter.run, self.thresholds
        weights = hashlib.blake2b(best_file(run.path).read_bytes(), digest_size=16).hexdigest()
        decision = [getattr(thresholds, name) for name in RULES]
        device = self.segmenter.device.type
        return [weights, run.variant, run.size, run.normalisation, decision, device]

    def look(
        self, names: Sequence[str], images: Sequence[np.ndarray]
    ) -> Iterator[Iterable[Decided]]:
        """What was decided of each: at once, or of a large one by bands."""
        logits, size = self.segmenter.logits(self.segmenter.preprocess(images)), images[0].shape
        if images[0].size > BAND:
            for own in logits.split(1):
                bands = upsampled_bands(own, size)
                yield (_decided(band.softmax(1), self.thresholds, rows)[0] for rows, band in bands)
        else:
            for one in _decided(at_size(logits, size), self.thresholds, slice(None)):
                yield [one]

    def finish(self, seen: Iterable[Decided], truth: Truth) -> Whole:
        """The bands put together, and the components left out that fall short."""
        plain, thresholded = np.empty((2, *truth.label_map.shape), np.uint8)
        drawn = np.empty(truth.label_map.shape, np.float32)
        sums = []
        for rows, probabilities, plain[rows], thresholded[rows] in seen:
            drawn[rows] = drawn_probability(thresholded[rows], probabilities)
            sums.append(sums_of(probabilities, truth.label_map[rows]))
        return reduce(add, sums), plain, keep(thresholded, drawn, self.thresholds)


@dataclass(frozen=True, kw_only=True)
class Rival(Contestant):
    """Predictions that others made: one decision, so both label maps are the same.

    path: the table. masks: the data set with the table's masks in place of the truth.
    """

    path: Path
    masks: Labels = field(repr=False)

    def identity(self) -> list[Any]:
        return [hashlib.blake2b(self.path.read_bytes(), digest_size=16).hexdigest()]

    def look(self, names: Sequence[str], images: Sequence[np.ndarray]) -> Iterator[str]:
        """The names: the table says the rest."""
        yield from names

    def finish(self, seen: str, truth: Truth) -> Whole:
        """The table's masks, twice; where they overlap, the larger class."""
        label_map = self.masks.label_map(seen, truth.label_map.shape)
        return Sums.unknown(self.masks.num_classes), label_map, label_map


def _decided(probabilities: torch.Tensor, thresholds: Thresholds, rows: slice) -> list[Decided]:
    """The decision of probabilities (N, C, H, W), which are those rows of N images."""
    parts = (probabilities, decide(probabilities, None), decide(probabilities, thresholds))
    return [(rows, *one) for one in zip(*(part.numpy(force=True) for part in parts), strict=True)]
