"""The report page's gallery: strips and label maps packed small enough to travel in the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from common.labels import defect_classes

LONGEST_SIDE = 1600
QUALITIES = (80, 60, 40, 20)


@dataclass
class GalleryItem:
    """One test image, its truth and what each variant made of it.

    image, truth and predictions: (H, W) uint8, label maps with 0 for background. predictions and
    dice are keyed by the variant's name in the results; dice is the image's mean Dice over the
    classes in its truth, or 1 or 0 for a clean image without and with a false alarm.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    dice: dict[str, float]


def pack(items: list[GalleryItem], variants: list[str], budget: int) -> list[dict[str, Any]]:
    """The gallery as JSON values; lists run in the order of `variants`.

    Label maps are packed without loss. Where they and the figures would take more than half of
    `budget` (characters of the page), the last items are left out. Images share what they leave:
    each takes the best picture that fits its share.
    """
    packed, taken = [], 0
    for item in items:
        entry = _pack_labels(item, variants)
        size = len(json.dumps(entry))
        if taken + size > budget // 2:
            break
        packed.append(entry)
        taken += size
    share = (budget - taken) * 3 // 4 // max(len(packed), 1)
    for item, entry in zip(items, packed, strict=False):
        entry["image"] = _base64(encode_image(_shrink(item.image, cv2.INTER_AREA), share))
    return packed


def encode_image(image: np.ndarray, size: int) -> bytes:
    """Grey (H, W) uint8 as WebP of at most `size` bytes: at less quality, then at half the size.

    Only a few pixels' worth of header may exceed a `size` that is smaller still.
    """
    for quality in QUALITIES:
        data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(data) <= size:
            return data
    if max(image.shape) < 16:
        return data
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return encode_image(half, size)


def encode_labels(label_map: np.ndarray) -> bytes:
    """A label map (H, W) uint8 as runs along its rows, each its class and its length in LEB128.

    A picture format would be half the size, but browsers that guard against fingerprinting alter
    the pixels that a script reads back from one; unpacking zlib would have to wait.
    """
    values = label_map.ravel()
    starts = np.flatnonzero(np.diff(values, prepend=values[0] ^ 1))
    lengths = np.diff(starts, append=values.size)
    packed = bytearray()
    for value, length in zip(values[starts].tolist(), lengths.tolist(), strict=True):
        packed.append(value)
        while length > 127:
            packed.append(length & 127 | 128)
            length >>= 7
        packed.append(length)
    return bytes(packed)


def defects(truth: np.ndarray, prediction: np.ndarray) -> dict[str, int]:
    """Defects of one image by what became of them; a defect is an 8-connected region of one class.

    A defect of the truth counts as `hit` if a pixel of it was given its class, else as `wrong` if
    one was given another defect's, else as `missed`. A predicted region that touches no defect of
    the truth is a `false` alarm.
    """
    found = {"hit": 0, "missed": 0, "wrong": 0, "false": 0}
    for defect_class, regions, number in _regions(truth):
        touched = _numbers(regions, prediction > 0)
        hit = _numbers(regions, prediction == defect_class)
        found["hit"] += hit
        found["wrong"] += touched - hit
        found["missed"] += number - touched
    for _, regions, number in _regions(prediction):
        found["false"] += number - _numbers(regions, truth > 0)
    return found


def _regions(label_map: np.ndarray) -> Iterator[tuple[int, np.ndarray, int]]:
    """For each defect class: the class, its regions numbered from 1 (H, W), how many there are."""
    for defect_class in defect_classes(label_map):
        mask = (label_map == defect_class).astype(np.uint8)
        number, regions = cv2.connectedComponents(mask)
        yield defect_class, regions, number - 1


def _numbers(regions: np.ndarray, where: np.ndarray) -> int:
    """How many regions have a pixel in `where`."""
    return int(np.count_nonzero(np.unique(regions[where])))


def _pack_labels(item: GalleryItem, variants: list[str]) -> dict[str, Any]:
    predictions = [item.predictions[name] for name in variants]
    truth = _shrink(item.truth, cv2.INTER_NEAREST)
    return {
        "name": item.name,
        "height": truth.shape[0],
        "width": truth.shape[1],
        "classes": defect_classes(item.truth),
        "found": [defect_classes(p) for p in predictions],
        "dice": [item.dice[name] for name in variants],
        "defects": [defects(item.truth, p) for p in predictions],
        "truth": _base64(encode_labels(truth)),
        "maps": [_base64(encode_labels(_shrink(p, cv2.INTER_NEAREST))) for p in predictions],
    }


def _shrink(picture: np.ndarray, interpolation: int) -> np.ndarray:
    """The picture with its longest side at most LONGEST_SIDE."""
    scale = LONGEST_SIDE / max(picture.shape)
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape)
    return cv2.resize(picture, (width, height), interpolation=interpolation)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
