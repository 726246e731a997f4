"""The pixel store: every image and label map decoded once, at one size, memory-mapped.

A JPEG costs about a millisecond to decode at any scale, at every visit; a row of the store costs
a copy. A store is keyed by the content of the data, the images in it and the size, so a change of
any of these leads to another store, never to a stale one. It is built in a `.partial` folder under
a lock and renamed when whole: a build cut off goes on where it was, and so does one that was
damaged since.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.dataset import rows
from common.dataset.rows import Layout, Rows
from common.errors import UserError
from common.files import refusals_said
from common.labels import Labels
from common.locks import hold
from common.progress import in_threads, tqdm
from common.resize import resize_image, resize_labels

VERSION = 3
ABOUT = "about.json"  # in a store: where its data lay


@dataclass(frozen=True)
class Store:
    """Decoded pixels of one data set at one size.

    images: (N, H, W) uint8 grey; labels: (N, H, W) uint8, 0 background; both memory-mapped
    read-only. names: the N image names in row order. pixel_counts: (N, C) int64, label pixels a
    class at this size.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    pixel_counts: np.ndarray


def open_store(
    labels: Labels,
    names: Sequence[str],
    size: tuple[int, int],
    folder: Path,
    fingerprint: str,
    workers: int = 0,
) -> Store:
    """Opens the store of `names` at `size` (height, width), building it first where needed.

    What it holds is checked row by row; a damaged one is mended, with a line that says so.

    folder: where stores live. fingerprint: content hash of the data set. workers: decoding
    threads, 0 for one a core. Raises UserError for an image that cannot be read, a mask that does
    not fit its image, a folder that cannot be written and a disk that is too small or broken.
    """
    names = tuple(names)
    bits = [] if labels.bits == 16 else [labels.bits]
    identity = json.dumps([VERSION, fingerprint, size, labels.num_classes, names, *bits])
    key = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    home = Path(folder) / f"{size[0]}x{size[1]}-{key}"
    form = rows.layout(len(names), size, labels.num_classes + 1)
    fill = functools.partial(_fill, labels, names, size, form, workers)
    way_out = "Free some space or name another folder with --store."
    with refusals_said(f"the pixel store {home}", way_out):
        found = _whole(home, form)
        if found is None:
            home.parent.mkdir(parents=True, exist_ok=True)
            with hold(home.with_suffix(".lock")):
                found = _whole(home, form) or _build(home, form, fill)
    return Store(found.images, found.labels, names, np.array(found.pixel_counts))


def _whole(home: Path, form: Layout) -> Rows | None:
    """The rows of a finished store, each as it was written; None where there is none such."""
    found = rows.read(home, form)
    if found is None or found.damaged():
        return None
    with suppress(OSError):  # it may lie where the user can only read
        os.utime(home)  # says when it was last used
    return found


def _build(home: Path, form: Layout, fill: Callable[[Path], None]) -> Rows:
    """Makes the store, or mends it: what is whole of it stays. fill: writes what a folder lacks."""
    partial = home.with_suffix(".partial")
    if home.exists():
        tqdm.write(f"the pixel store {home} was damaged: what is lost is decoded anew")
        shutil.rmtree(partial, ignore_errors=True)
        os.replace(home, partial)
    attempts = 3
    for attempt in range(1, attempts + 1):
        try:
            fill(partial)
            os.replace(partial, home)
        except FileNotFoundError:  # someone deleted the folder while it was being filled
            tqdm.write(f"{partial} was deleted while being built (attempt {attempt})")
            continue
        if found := _whole(home, form):
            return found
        raise UserError(
            f"{home} does not give back what was written to it.\nName another disk with --store."
        )
    raise UserError(
        f"the pixel store {partial} was deleted {attempts} times while being built.\n"
        "Find out what clears this folder, or name another with --store."
    )


def _fill(
    labels: Labels,
    names: tuple[str, ...],
    size: tuple[int, int],
    form: Layout,
    workers: int,
    partial: Path,
) -> None:
    needed = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in form.values())
    partial.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(partial).free + _size_on_disk(partial)) < needed:
        raise UserError(
            f"the pixel store needs {needed / 1e9:.1f} GB, {partial.parent} has {free / 1e9:.1f} GB"
            " free.\nFree some space or name another folder with --store."
        )
    about = json.dumps({"data": str(labels.root.resolve())})
    (partial / ABOUT).write_text(about + "\n", encoding="utf-8")
    arrays = rows.write(partial, form)

    def fill_row(row: int) -> None:
        if arrays.is_whole(row):
            return
        image = labels.read(names[row])
        label_map = labels.label_map(names[row], image.shape)
        arrays.put(row, resize_image(image, size), resize_labels(label_map, size))

    bar = {"desc": f"pixel store {size[0]}x{size[1]}", "unit": "image", "mininterval": 0.5}
    for _ in in_threads(fill_row, range(len(names)), workers, **bar):
        pass
    arrays.flush()


def _size_on_disk(folder: Path) -> int:
    found = [file.stat() for file in folder.iterdir()]
    return sum(512 * getattr(stat, "st_blocks", stat.st_size // 512) for stat in found)


def main(argv: list[str] | None = None) -> int:
    """Lists the stores, or deletes those of no use; returns the exit code."""
    from common.dataset import shelf  # it imports this module

    return shelf.main(argv)


if __name__ == "__main__":
    sys.exit(main())
