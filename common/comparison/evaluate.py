"""Several runs scored on the same images at their native size, in one pass.

Every image is decoded once and goes through each network; what is kept of it is its tally, and
the decided label map as a small PNG. Tallies are published in chunks, under a key of everything
they depend on but the code (weights, data, thresholds, precision): an evaluation that was cut off,
or that is asked for again with one run more, computes only what is missing. Raise VERSION when the
code comes to count otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.comparison.contestants import Contestant
from common.comparison.tally import (
    Tally,
    Truth,
    concatenate,
    take,
    tally_image,
    truth_of,
)  # fmt: skip
from common.dataset.images import any_large
from common.dataset.stream import ahead, batches
from common.errors import UserError
from common.files import publish
from common.labels import Labels
from common.machine import cores
from common.pixels import read_image
from common.progress import tqdm

VERSION = 3
CHUNK = 32  # images whose tallies are published together


def evaluate(
    contestants: Sequence[Contestant],
    labels: Labels,
    names: Sequence[str],
    context: Sequence[str],
    state: Path,
    batch_size: int = 8,
) -> list[Tally]:
    """The tally of each contestant over its own of `names`, in order; label maps are written, too.

    context: what else the figures depend on, such as the data's fingerprint and the precision.
    state: folder for the chunks. Raises UserError for an image that cannot be read, OSError for a
    disk that refuses.
    """
    identities = [[*context, VERSION, *contestant.identity()] for contestant in contestants]
    tallies: list[list[Tally]] = [[] for _ in contestants]
    evaluated: list[list[str]] = [[] for _ in contestants]
    state.mkdir(parents=True, exist_ok=True)
    for contestant, identity in zip(contestants, identities, strict=True):
        marker = state / f"{contestant.predictions.name}.txt"
        _claim(contestant, filter(contestant.tests, names), marker, _digest(identity))
    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(total=len(names), desc="evaluate", unit="image", mininterval=0.5) as bar,
    ):
        for asked, chunk in _chunks(contestants, names):
            files = {i: state / f"{_digest([identities[i], chunk])}.npz" for i in asked}
            done = {file: _done(contestants[i], file, chunk) for i, file in files.items()}
            missing = {file: contestants[i] for i, file in files.items() if done[file] is None}
            if missing:
                done |= _evaluate_chunk(missing, labels, chunk, batch_size, pool)
            for i, file in files.items():
                tallies[i].append(done[file])
                evaluated[i] += chunk
            bar.update(len(chunk))
    parts = zip(evaluated, map(concatenate, tallies), strict=True)
    return [pooled(names, [part]) for part in parts]


def pooled(names: Sequence[str], parts: Iterable[tuple[Sequence[str], Tally]]) -> Tally:
    """One tally of several, each of images of its own, in the order of `names`."""
    images, tallies = zip(*parts, strict=True)
    row = {name: i for i, name in enumerate(chain.from_iterable(images))}
    assert len(row) == sum(map(len, images)), "an image is there twice"
    return take(concatenate(tallies), [row[name] for name in names if name in row])


def read_prediction(path: Path) -> np.ndarray:
    """A label map (H, W) uint8 that `evaluate` wrote. Raises UserError where it was damaged."""
    try:
        return read_image(path)
    except UserError as error:
        raise UserError(f"{error}\nDelete this file and compare again: it is made anew.") from error


def decoded_batches(
    labels: Labels, names: Sequence[str], batch_size: int, pool: Executor
) -> Iterator[tuple[tuple[str, ...], tuple[np.ndarray, ...]]]:
    """Batches of names and images (H, W) uint8 of one size, decoded ahead in the pool.

    Where large images are among them, one at a time and none ahead.
    """
    paths = [labels.path(name) for name in names]
    batch_size, depth = (1, 0) if any_large(paths) else (batch_size, 2 * batch_size)
    images = ahead(labels.read, names, pool, depth)
    pairs = zip(names, images, strict=True)
    for _, same_size in groupby(pairs, key=lambda pair: pair[1].shape):
        for batch in batches(same_size, batch_size):
            yield tuple(zip(*batch, strict=True))


def _chunks(
    contestants: Sequence[Contestant], names: Sequence[str]
) -> Iterator[tuple[list[int], list[str]]]:
    """The images in chunks, each with the positions of the contestants that are asked about it."""
    by_asked: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        asked = tuple(i for i, contestant in enumerate(contestants) if contestant.tests(name))
        by_asked.setdefault(asked, []).append(name)
    for asked, images in by_asked.items():
        for start in range(0, len(images), CHUNK):
            yield list(asked), images[start : start + CHUNK]


def _evaluate_chunk(
    missing: dict[Path, Contestant],
    labels: Labels,
    chunk: Sequence[str],
    batch_size: int,
    pool: Executor,
) -> dict[Path, Tally]:
    """A chunk's tallies, each published under its file once its label maps are written."""

    def truth(name: str, image: np.ndarray) -> Truth:
        return truth_of(labels.label_map(name, image.shape), labels.num_classes + 1)

    parts: dict[Path, list[Tally]] = {file: [] for file in missing}
    for names, images in decoded_batches(labels, chunk, batch_size, pool):
        truths = list(pool.map(truth, names, images))
        for file, contestant in missing.items():
            seen = contestant.look(names, images)
            parts[file] += pool.map(partial(_tally, contestant), names, truths, seen)
    whole = {file: concatenate(tallies) for file, tallies in parts.items()}
    for file, tally in whole.items():
        tally.save(file)
    return whole


def _tally(contestant: Contestant, name: str, truth: Truth, seen: Any) -> Tally:
    """Writes one image's label map and returns its tally."""
    sums, plain, thresholded = contestant.finish(seen, truth)
    png = cv2.imencode(".png", thresholded)[1].tobytes()
    publish(contestant.prediction_path(name), png)
    return tally_image(truth, sums, plain, thresholded)


def _claim(contestant: Contestant, names: Iterable[str], marker: Path, owner: str) -> None:
    """Clears the folder of label maps that another evaluation, by the marker, has left in it.

    Also of those of images that are not asked for now. A folder without a marker may be anyone's:
    only what will be written anyway goes.
    """
    contestant.predictions.mkdir(parents=True, exist_ok=True)
    asked = {contestant.prediction_path(name) for name in names}
    ours = set(contestant.predictions.glob("*.png")) if marker.exists() else asked
    is_current = marker.exists() and marker.read_text() == owner
    for path in ours - asked if is_current else ours:
        path.unlink(missing_ok=True)
    if not is_current:
        publish(marker, owner)


def _done(contestant: Contestant, file: Path, chunk: Sequence[str]) -> Tally | None:
    """The chunk's tally where it is there whole, and all its label maps are."""
    if not file.exists():
        return None
    tally = Tally.load(file)
    if tally is None:
        tqdm.write(f"{file} was damaged: its {len(chunk)} images are evaluated anew")
    return tally if all(contestant.prediction_path(name).exists() for name in chunk) else None


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
