"""What a network that goes on from earlier weights has seen already, and so must not be tested on.

A run that started from another keeps the images that the other and its ancestors trained or
validated on, in seen.csv: their names, and hashes of their files, by which they are known again
under any name. A published folder keeps its own among them, since its images stay behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from common import labels as labels_module
from common.checkpoint import PUBLISHED
from common.dataset import near_duplicates
from common.labels import Labels, digest
from common.pixels import read_image
from common.progress import in_threads
from common.runs import Run
from common.tables import as_csv, read_rows

FILE = "seen.csv"
COLUMNS = ["image", "hash"]
Seen = dict[str, str]  # by hash, or by name where the file is not at hand: the image's name


def seen_by(run: Run) -> Seen:
    """The images that a run and its ancestors trained or validated on."""
    if (run.path / FILE).exists() and (run.path / PUBLISHED).exists():
        return read(run.path)
    files = _files(run)
    rows, _ = read_rows(run.path / "split.csv", ["image", "split"])
    own = [name for _, (name, part) in rows if part != "test"]
    hashes = in_threads(lambda name: digest(files[name]).hex() if name in files else name, own)
    return read(run.path) | dict(zip(hashes, own, strict=True))


def read(folder: Path) -> Seen:
    """What the ancestors of the run in `folder` have seen; nothing where it has none."""
    if not (folder / FILE).exists():
        return {}
    rows, _ = read_rows(folder / FILE, COLUMNS)
    return {known_by: name for _, (name, known_by) in rows}


def written(seen: Seen) -> str:
    """The content of seen.csv."""
    return as_csv(COLUMNS, sorted((name, known_by) for known_by, name in seen.items()))


def known(seen: Seen, labels: Labels, names: Iterable[str]) -> set[str]:
    """Those of the images `names` that were seen: of the same bytes, or of a name known alone."""
    names = list(names)
    if not seen:
        return set()
    digests = in_threads(digest, [labels.path(name) for name in names])
    return {n for n, own in zip(names, digests, strict=True) if {n, own.hex()} & set(seen)}


def tainted(run: Run, seen: Seen, labels: Labels, test: list[str]) -> set[str]:
    """Those of the images `test` that were seen, or are near-duplicates of one that was.

    The seen ones are looked at where they are at hand: in `labels`, or where `run` was trained.
    """
    again = known(seen, labels, labels.images)
    files = _files(run)
    elsewhere = [files[name] for name in seen.values() if name in files]
    reads = [partial(labels.read, name) for name in [*test, *sorted(again)]]
    reads += [partial(read_image, path, run.bits) for path in elsewhere]
    details = list(in_threads(lambda read: near_duplicates.describe(read()), reads))
    group = near_duplicates.groups(near_duplicates.pairs(details), len(reads))
    alike = np.isin(group[: len(test)], group[len(test) :])
    return (again & set(test)) | {name for name, yes in zip(test, alike, strict=True) if yes}


def _files(run: Run) -> dict[str, Path]:
    """The images of a run's data set by name, where it still lies there."""
    root = Path(run.data["root"])
    if (run.path / PUBLISHED).exists() or not (root / "train.csv").exists():
        return {}
    labels = labels_module.load(root)
    return {name: labels.path(name) for name in labels.images}
