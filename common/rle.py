"""Kaggle's run-length encoding of binary masks.

A mask is a text of `start length` pairs: pixels counted from 1, down the columns first. The text
of no defect is empty. Real masks have some hundred runs, so both directions work on arrays of
runs; time and memory grow linearly with text and image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

SPACES = " \t\r\n"

# glibc gives freed memory back to the kernel, which must fault in and clear its pages for the next
# masks again, beyond twice the largest block freed so far (at most 32 MiB). Such a block, freed
# untouched, lets masks reuse each other's memory from the start.
np.empty(2**25 - 2**13, np.uint8)


class RLEError(ValueError):
    """A text that is no run-length encoding of a mask of the given shape."""


def decode(rle: str | float | None, shape: tuple[int, int] = (256, 1600)) -> np.ndarray:
    """The mask (H, W) uint8 of 0 and 1 that `rle` describes; a new array, Fortran-ordered.

    rle: run-length encoding; empty, None and NaN mean no defect. shape: height, width.
    Raises RLEError, which says what is wrong and at which pair, where the text has an odd count of
    numbers, anything but plain decimal integers, a start or length below 1, a run past the end,
    or runs that are not sorted or overlap.
    """
    height, width = shape
    starts, lengths = runs(rle)
    size = height * width
    if len(starts) == 0:
        return np.zeros((width, height), np.uint8).T
    # Each bound by itself: the sum of two huge numbers would wrap around.
    past = (starts > size) | (lengths > size)
    ends = np.where(past, size + 1, starts - 1 + lengths)
    if (ends > size).any():
        pair = int(np.argmax(ends > size))
        raise RLEError(
            f"{_pair(rle, pair)} goes past the end of a {height}x{width} image ({size} pixels)"
        )
    # Alternate gaps and runs, beginning with the gap before the first run and ending with the
    # gap behind the last; each value is repeated as often as its stretch is long.
    borders = np.empty(2 * len(starts) + 2, np.int64)
    borders[0], borders[1:-1:2], borders[2:-1:2], borders[-1] = 0, starts - 1, ends, size
    values = np.zeros(2 * len(starts) + 1, np.uint8)
    values[1::2] = 1
    return np.repeat(values, np.diff(borders)).reshape(width, height).T


def runs(rle: str | float | None) -> tuple[np.ndarray, np.ndarray]:
    """Starts (from 1) and lengths of the runs, two int64 arrays, checked but for the image's end.

    Raises RLEError as `decode` does.
    """
    if rle is None or (isinstance(rle, float | np.floating) and np.isnan(rle)):
        rle = ""
    if not isinstance(rle, str):
        raise RLEError(f"a run-length encoding is a text, got {type(rle).__name__} {rle!r}")
    digits = rle.encode("ascii", "replace").translate(None, delete=SPACES.encode())
    if not digits:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if not digits.isdigit():
        position, word = next(
            (i, w) for i, w in enumerate(_words(rle)) if not (w.isascii() and w.isdigit())
        )
        raise RLEError(f"pair {position // 2 + 1}: {_short(word)!a} is not a whole number")
    # Too large numbers saturate and are found to go past the end.
    numbers = np.fromstring(rle, np.int64, sep=" ")
    if len(numbers) % 2:
        raise RLEError(
            f"odd count of numbers ({len(numbers)}): {_pair(rle, len(numbers) // 2)} has a start "
            "but no length"
        )
    starts, lengths = numbers[0::2], numbers[1::2]
    for name, values in (("start", starts), ("length", lengths)):
        if values.min() < 1:
            raise RLEError(f"{_pair(rle, np.argmax(values < 1))}: {name} is less than 1")
    room = np.diff(starts)  # each run must begin behind the end of the one before
    if (room < lengths[:-1]).any():
        pair = int(np.argmax(room < lengths[:-1]))
        problem = "overlaps" if room[pair] >= 0 else "is not sorted: it begins before"
        raise RLEError(f"{_pair(rle, pair + 1)} {problem} {_pair(rle, pair)}")
    return starts, lengths


def unite(rles: Sequence[str]) -> str:
    """The encoding of masks together. Raises RLEError where one is malformed or two overlap."""
    starts, lengths = (np.concatenate(parts) for parts in zip(*map(runs, rles), strict=True))
    order = np.argsort(starts)
    text = " ".join(map(str, np.stack((starts, lengths), axis=1)[order].ravel().tolist()))
    runs(text)
    return text


def encode(mask: np.ndarray) -> str:
    """The run-length encoding of a mask (H, W) of 0 and 1, or of booleans; '' where it is empty.

    Runs are as long as can be and sorted. Raises ValueError for another shape or other values.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"a mask has two dimensions (height, width), got shape {mask.shape}")
    column_major = mask.T.reshape(-1)
    flat = column_major.astype(bool, copy=False)
    if not np.array_equal(flat, column_major):
        raise ValueError("a mask holds only 0 and 1; encode one class at a time")
    return _texts(flat).get(1, "")


def encode_classes(label_map: np.ndarray) -> dict[int, str]:
    """The run-length encoding of each class in a label map (H, W) uint8; 0 is left out.

    One walk for all classes, in a byte a pixel beside the label map's own, and another where that
    is not in Fortran order.
    """
    return _texts(label_map.T.reshape(-1))


def _texts(flat: np.ndarray) -> dict[int, str]:
    """The encoding of each value but 0 of pixels in order, down the columns."""
    if not flat.size:
        return {}
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], borders))
    lengths = np.diff(starts, append=flat.size)
    classes = flat[starts]
    texts = {}
    for defect_class in (np.flatnonzero(np.bincount(classes)[1:]) + 1).tolist():
        own = classes == defect_class
        pairs = np.stack((starts[own] + 1, lengths[own]), axis=1)
        texts[defect_class] = " ".join(map(str, pairs.ravel().tolist()))
    return texts


def _words(rle: str) -> list[str]:
    return re.split(f"[{SPACES}]+", rle.strip(SPACES))


def _pair(rle: str, index: int) -> str:
    """Number and text of a pair; from the text, since numbers beyond 64 bits are not kept."""
    words = _words(rle)[2 * index : 2 * index + 2]
    return f"pair {index + 1} ({' '.join(map(_short, words))})"


def _short(word: str) -> str:
    return word if len(word) <= 20 else word[:20] + "..."
