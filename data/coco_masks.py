"""One COCO segmentation as a mask: polygons and both kinds of run-length encoding.

pycocotools draws, so that a mask has the pixels that COCO's own evaluation gives it. It trusts what
it is given: counts that end early leave the rest of the mask as memory happened to be. All is
checked before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from data.annotation_files import is_near

Part = dict[str, Any]


def parts(segmentation: Any, height: int, width: int) -> list[Part]:
    """A segmentation's polygons or its one encoding, as pycocotools wants them for `union`.

    Raises ValueError that says what is wrong with it.
    """
    if isinstance(segmentation, dict):
        counts = _counts(segmentation.get("counts"))
        if segmentation.get("size") != [height, width] or sum(counts) != height * width:
            raise ValueError(
                f"its mask of size {segmentation.get('size')!s:.40} and {sum(counts)} pixels does "
                f"not fit the {height}x{width} image"
            )
        return [coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)]
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("it has no mask, a box at most")
    polygons = [_polygon(points, height, width) for points in segmentation]
    polygons = [points for points in polygons if len(points) >= 6]  # fewer cover nothing
    return coco.frPyObjects(polygons, height, width) if polygons else []


def area(found: Sequence[Part]) -> int:
    """Pixels in any of the parts."""
    return int(coco.area(coco.merge(found))) if found else 0


def union(found: Sequence[Part]) -> np.ndarray:
    """Pixels in any of the parts, at least one: (H, W) uint8 of 0 and 1 in Fortran order."""
    return coco.decode(coco.merge(found))


def _polygon(points: Any, height: int, width: int) -> list[float]:
    if not isinstance(points, list) or len(points) % 2:
        raise ValueError("a polygon is a list of x, y, x, y, ...")
    for values, length in ((points[0::2], width), (points[1::2], height)):
        for value in values:
            if not is_near(value, length):
                raise ValueError(
                    f"{value!s:.40} is no coordinate in or near the {height}x{width} image"
                )
    return points


def _counts(counts: Any) -> list[int]:
    """Lengths of runs by turns of 0 and 1, from such a list or COCO's compressed text of it."""
    if isinstance(counts, str):
        return _decompressed(counts)
    if not isinstance(counts, list) or any(type(n) is not int or n < 0 for n in counts):
        raise ValueError("its counts are no list of lengths and no text")
    return counts


def _decompressed(text: str) -> list[int]:
    """COCO's text of counts: five bits a character, lowest first, from the character 0 on.

    A sixth bit says that the number goes on. From the fourth number on each is the difference to
    the one two before (maskApi.c, rleToString).
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError("its counts are no run-length text of COCO")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        number -= (bits & 16) << shift - 4
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    if shift or any(n < 0 for n in counts):
        raise ValueError("its counts are no run-length text of COCO")
    return counts
