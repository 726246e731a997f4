"""LabelMe's shapes, drawn with the pixels that LabelMe itself gives them."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from common.errors import UserError
from data.annotation_files import is_near

LEAST_POINTS = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}


@dataclass(frozen=True)
class Shape:
    """What was drawn. mask: base64 of a PNG, of masks only. where: what messages call it."""

    label: str
    kind: str
    points: list[Any]
    mask: Any
    where: str


def draw(canvas: Image.Image, shape: Shape, ink: int) -> None:
    """Draws into a grey picture as labelme.utils.shape_to_mask does: the outline belongs to it.

    Raises UserError for what has no area, is malformed or lies outside the picture.
    """
    points = _points(shape, canvas.size)
    pen = ImageDraw.Draw(canvas)
    if shape.kind == "mask":
        (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points[:2])
        canvas.paste(ink, (left, top), _mask(shape, (right - left + 1, bottom - top + 1)))
    elif shape.kind == "polygon":
        pen.polygon(points, fill=ink, outline=ink)
    elif shape.kind == "rectangle":
        xs, ys = zip(*points, strict=True)
        pen.rectangle((min(xs), min(ys), max(xs), max(ys)), fill=ink, outline=ink)
    else:
        (x, y), radius = points[0], math.dist(points[0], points[1])
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink, outline=ink)


def _points(shape: Shape, size: tuple[int, int]) -> list[tuple[float, float]]:
    """The shape's points (x, y), checked. size: width and height of the picture."""
    if shape.kind not in LEAST_POINTS:
        raise UserError(f"{shape.where} is a {shape.kind:.40}, which has no area; draw a polygon.")
    if len(shape.points) < LEAST_POINTS[shape.kind]:
        raise UserError(f"{shape.where} is a {shape.kind} of {len(shape.points)} points.")
    for point in shape.points:
        if not (isinstance(point, list) and len(point) == 2 and all(map(is_near, point, size))):
            raise UserError(f"{shape.where}: {point!s:.40} is no point in or near the image.")
    for values, length in zip(zip(*shape.points, strict=True), size, strict=True):
        if shape.kind != "circle" and (max(values) < 0 or min(values) > length):
            raise UserError(f"{shape.where} lies outside the image.")
    return [(x, y) for x, y in shape.points]


def _mask(shape: Shape, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.mask))) as picture:
            values = np.asarray(picture)
    except (OSError, SyntaxError, TypeError, ValueError) as error:
        raise UserError(f"{shape.where}: its mask cannot be read: {error}") from error
    if values.shape != size[::-1]:
        raise UserError(f"{shape.where}: its mask of {values.shape} does not fit its points.")
    return Image.fromarray(values > 0)
