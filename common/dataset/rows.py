"""The arrays of a pixel store: a row an image, memory-mapped, with a checksum each.

A file may be cut off and a disk may spoil bytes: a row counts only where its checksum agrees.
"""

from __future__ import annotations

import errno
import os
import tokenize
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.progress import in_threads

DONE = np.uint64(1 << 32)  # above any 32-bit checksum: tells a finished row from an empty one
# What numpy raises for a file that is none of its own, or not all of one.
DAMAGE = (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError)

Layout = dict[str, tuple[tuple[int, ...], type]]


@dataclass(frozen=True)
class Rows:
    """images: (N, H, W) uint8 grey; labels: (N, H, W) uint8 classes; pixel_counts: (N, C) int64,
    label pixels a class; checksums: (N,) uint64 of all of these, 0 where a row is empty.
    """

    images: np.ndarray
    labels: np.ndarray
    pixel_counts: np.ndarray
    checksums: np.ndarray

    def is_whole(self, row: int) -> bool:
        """Whether the row is filled, and holds what was put there."""
        return bool(self.checksums[row] == self._checksum(row))

    def put(self, row: int, image: np.ndarray, label_map: np.ndarray) -> None:
        """Fills a row with an image and its label map, both (H, W) uint8."""
        self.images[row] = image
        self.labels[row] = label_map
        counts = np.bincount(label_map.ravel(), minlength=self.pixel_counts.shape[1])
        self.pixel_counts[row] = counts
        self.checksums[row] = self._checksum(row)

    def damaged(self) -> int:
        """How many rows are not whole."""
        rows = range(len(self.checksums))
        bar = {"desc": "checking the pixel store", "unit": "image", "leave": False}
        return sum(not good for good in in_threads(self.is_whole, rows, **bar))

    def flush(self) -> None:
        for array in vars(self).values():
            array.flush()

    def _checksum(self, row: int) -> np.uint64:
        checksum = 0
        for array in (self.images, self.labels, self.pixel_counts):
            checksum = zlib.crc32(array[row], checksum)
        return np.uint64(checksum) | DONE


def layout(count: int, size: tuple[int, int], classes: int) -> Layout:
    """Shape and type of each array of `count` images at `size`; classes count the background."""
    return {
        "images": ((count, *size), np.uint8),
        "labels": ((count, *size), np.uint8),
        "pixel_counts": ((count, classes), np.int64),
        "checksums": ((count,), np.uint64),
    }


def read(folder: Path, form: Layout) -> Rows | None:
    """The arrays in `folder`, read-only; None where one is missing, cut off or of another form."""
    arrays = [_open(folder / f"{name}.npy", "r", *form[name]) for name in form]
    return None if any(array is None for array in arrays) else Rows(*arrays)


def write(folder: Path, form: Layout) -> Rows:
    """The arrays in `folder` to go on writing to; zeros where there is none of this form.

    Raises OSError where the disk has no room for all of it.
    """
    arrays = []
    for name, (shape, dtype) in form.items():
        path = folder / f"{name}.npy"
        array = _open(path, "r+", shape, dtype)
        if array is None:
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _allocate(path)
        arrays.append(array)
    return Rows(*arrays)


def _open(path: Path, mode: str, shape: tuple[int, ...], dtype: type) -> np.memmap | None:
    try:
        array = np.load(path, mmap_mode=mode)
    except DAMAGE:
        return None
    return array if (array.shape, array.dtype) == (shape, dtype) else None


def _allocate(path: Path) -> None:
    """Gives a file with holes its blocks: a map written to on a full disk dies without a word."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot
                raise
