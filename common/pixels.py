"""Image files as grey values of 8 bits, and what is damaged refused."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from common.progress import in_threads
from common.tables import LabelError

EXTENSIONS = {
    ".avif", ".bmp", ".dib", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)  # not within pixels
JPEG_TRIALS = 8
BITS = (8, 10, 12, 14, 16)  # that cameras use of a 16-bit picture's
SHALLOW = {".bmp", ".dib", ".gif", ".jpe", ".jpeg", ".jpg", ".pbm", ".webp"}  # never 16 bits


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name; hidden ones are not."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_image(path: Path, bits: int = 16) -> np.ndarray:
    """The image as grey values (H, W) uint8; 16-bit ones are scaled down from `bits` bits.

    Raises LabelError where it is missing, no image, or cut off: OpenCV may fill the rest of a
    truncated file with grey and say nothing. Also where a value needs more than `bits` bits.
    """
    try:
        return eight_bits(_undamaged(path), bits)
    except ValueError as error:
        raise LabelError(f"{path} {error}") from error


def eight_bits(image: np.ndarray, bits: int) -> np.ndarray:
    """Grey values as uint8: those of uint16 without all but the upper 8 of their lower `bits`.

    Raises ValueError for other types, and where a value of uint16 needs more bits.
    """
    if image.dtype == np.uint16:
        if (largest := int(image.max(initial=0))) >= 2**bits:
            raise ValueError(
                f"holds the value {largest}; the 16-bit images of this data set use {bits} bits, "
                f"to {2**bits - 1}. Check the camera's settings, or train on images like this one."
            )
        return (image >> (bits - 8)).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"has {image.dtype} pixels; 8 or 16 bits a pixel are read.")
    return image


def _undamaged(path: Path) -> np.ndarray:
    """The image's grey values (H, W) as they are stored."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror or error}") from error
    whole = _ended(data) if _is_truncated(data) else data
    if whole is None:
        raise LabelError(f"{path} is truncated: its end is missing. Copy or download it again.")
    image = _decoded(whole)
    if image is None:
        raise LabelError(f"{path} is not an image that OpenCV can read.")
    return image


def bits_in_use(paths: Sequence[Path]) -> int:
    """The bits that hold the largest value of all 16-bit images, one of BITS; 16 without such.

    A camera of 12 bits writes 16-bit files that use a sixteenth of their range. Images of formats
    that can have 16 bits are decoded for it. What cannot be read is left to who reads it.
    """
    paths = [path for path in paths if _may_be_deep(path)]
    bar = {"desc": "bits in use", "unit": "image", "leave": False, "disable": not paths}
    values = [value for value in in_threads(largest_value, paths, **bar) if value is not None]
    return next(bits for bits in BITS if max(values) < 2**bits) if values else 16


def _may_be_deep(path: Path) -> bool:
    if path.suffix.lower() != ".png":
        return path.suffix.lower() not in SHALLOW
    try:
        with path.open("rb") as file:
            return file.read(25)[24:] == b"\x10"  # the header's bit depth
    except OSError:
        return False


def largest_value(path: Path) -> int | None:
    """The largest value of a 16-bit image; None of others, and of what cannot be read."""
    try:
        image = _undamaged(path)
    except LabelError:
        return None
    return int(image.max()) if image.dtype == np.uint16 else None


def _is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG seems to lack its end marker; `_ended` looks closer."""
    if data.startswith(b"\xff\xd8"):  # a thumbnail's end comes before the image's own last scan
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return data.startswith(b"\x89PNG") and not _is_whole_png(data)


def _is_whole_png(data: bytes) -> bool:
    """Whether its chunks lead past pixels to the last, which is empty.

    OpenCV makes room for whatever length a chunk says, and reads on behind a last one that is not
    as it must be.
    """
    position, has_pixels = 8, False
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        has_pixels |= kind == b"IDAT"
        if kind == b"IEND":
            return has_pixels and length == 0
    return False


def _ended(data: bytes) -> bytes | None:
    """What seems truncated, with its end marker, where every pixel is there; else None.

    A JPEG's end may be hidden by what is written behind it. And one without an end has all its
    pixels if these are the same whatever follows, unless later scans refine them (progressive).
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    position = 2
    while marker := JPEG_MARKER.search(data, position):
        if marker[1] == b"\xd9":
            return data
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        position = marker.end() + length
    if b"\xff\xc2" in data:
        return None
    rng = np.random.default_rng(0)
    ended = [
        data.rstrip(b"\xff") + rng.integers(0, 255, 64, np.uint8).tobytes() + b"\xff\xd9"
        for _ in range(JPEG_TRIALS)
    ]
    first, *others = map(_decoded, ended)
    same = first is not None and all(np.array_equal(first, other) for other in others)
    return ended[0] if same else None


def _decoded(data: bytes) -> np.ndarray | None:
    try:
        flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # an empty file, or a header that promises billions of pixels
        return None
