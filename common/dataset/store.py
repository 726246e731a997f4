"""The pixel store: every image and label map decoded once, at one size, memory-mapped.

A JPEG costs about a millisecond to decode at any scale, at every visit; a row of the store costs
a copy. A store is keyed by the content of the data, the images in it and the size, so a change of
any of these leads to another store, never to a stale one. It is built in a `.partial` folder under
a lock, with a checksum an image, and renamed when whole: a build cut off goes on where it was.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.labels import Labels, read_image
from common.locks import hold
from common.machine import cores
from common.progress import tqdm
from common.resize import resize_image, resize_labels

VERSION = 3
_DONE = np.uint64(1 << 32)  # above any 32-bit checksum: tells a finished row from an empty one


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

    folder: where stores live. fingerprint: content hash of the data set. workers: decoding
    threads, 0 for one a core. Raises UserError for an image that cannot be read, a mask that does
    not fit its image, a folder that cannot be written, a disk that is too small or a
    store that was damaged.
    """
    names = tuple(names)
    identity = json.dumps([VERSION, fingerprint, size, labels.num_classes, names])
    key = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    home = Path(folder) / f"{size[0]}x{size[1]}-{key}"
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        if not home.exists():
            with hold(home.with_suffix(".lock")):
                if not home.exists():  # another process may have been faster
                    _build(labels, names, size, home, workers)
    except OSError as error:
        raise UserError(
            f"cannot write the pixel store {home}: {error.strerror or error}\n"
            "Free some space or name another folder with --store."
        ) from error
    try:
        return Store(
            images=np.load(home / "images.npy", mmap_mode="r"),
            labels=np.load(home / "labels.npy", mmap_mode="r"),
            names=names,
            pixel_counts=np.load(home / "pixel_counts.npy"),
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"the pixel store {home} is damaged: {error}\nDelete this folder; it is built anew."
        ) from error


def _build(
    labels: Labels, names: tuple[str, ...], size: tuple[int, int], home: Path, workers: int
) -> None:
    partial = home.with_suffix(".partial")
    attempts = 3
    for attempt in range(1, attempts + 1):
        try:
            _fill(labels, names, size, partial, workers)
            os.replace(partial, home)
            return
        except FileNotFoundError:  # someone deleted the folder while it was being filled
            tqdm.write(f"{partial} was deleted while being built (attempt {attempt})")
    raise UserError(
        f"the pixel store {partial} was deleted {attempts} times while being built.\n"
        "Find out what clears this folder, or name another with --store."
    )


def _fill(
    labels: Labels, names: tuple[str, ...], size: tuple[int, int], partial: Path, workers: int
) -> None:
    shape = (len(names), *size)
    needed = 2 * int(np.prod(shape))
    partial.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(partial).free + _size_on_disk(partial)) < needed:
        raise UserError(
            f"the pixel store needs {needed / 1e9:.1f} GB, {partial.parent} has {free / 1e9:.1f} GB"
            " free.\nFree some space or name another folder with --store."
        )
    images = _array(partial / "images.npy", shape, np.uint8)
    maps = _array(partial / "labels.npy", shape, np.uint8)
    counts = _array(partial / "pixel_counts.npy", (len(names), labels.num_classes + 1), np.int64)
    checksums = _array(partial / "checksums.npy", (len(names),), np.uint64)

    def fill_row(row: int) -> None:
        if checksums[row] == _checksum(images[row], maps[row], counts[row]):
            return
        image = read_image(labels.path(names[row]))
        images[row] = resize_image(image, size)
        maps[row] = resize_labels(labels.label_map(names[row], image.shape), size)
        counts[row] = np.bincount(maps[row].ravel(), minlength=counts.shape[1])
        checksums[row] = _checksum(images[row], maps[row], counts[row])

    # Threads suffice: decoding, resizing and checksums release the interpreter lock.
    pool = ThreadPoolExecutor(workers or cores())
    try:
        rows = pool.map(fill_row, range(len(names)))
        title = f"pixel store {size[0]}x{size[1]}"
        for _ in tqdm(rows, title, total=len(names), unit="image", mininterval=0.5):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    for array in (images, maps, counts, checksums):
        array.flush()


def _checksum(image: np.ndarray, label_map: np.ndarray, counts: np.ndarray) -> np.uint64:
    return np.uint64(zlib.crc32(counts, zlib.crc32(label_map, zlib.crc32(image)))) | _DONE


def _array(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """The array at `path`, or a new one of zeros where there is none of this shape.

    Raises OSError where the disk has no room for all of it.
    """
    array = None
    if path.exists():
        try:
            array = np.load(path, mmap_mode="r+")
        except ValueError:  # cut off while the file was being laid out
            path.unlink()
    if array is None or array.shape != shape or array.dtype != dtype:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    _allocate(path)
    return array


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


def _size_on_disk(folder: Path) -> int:
    found = [file.stat() for file in folder.iterdir()]
    return sum(512 * getattr(stat, "st_blocks", stat.st_size // 512) for stat in found)
