"""One strip of steel: where its defects lie (`lay_out`), and its photograph (`photograph`)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data import textures
from data.textures import Rng, Shape

REFERENCE = 256 * 1600
# Area of one class in a 256x1600 strip that shows it, log-normal: median (px) and sigma. With
# these the masks have the median areas and the pixel shares of Severstal's training set.
AREAS = {1: (3_400, 0.74), 2: (3_000, 0.50), 3: (12_200, 1.33), 4: (27_500, 0.85)}
PARTS = {1: 3.4, 2: 1.3, 3: 2.8, 4: 2.2}  # mean number of connected parts, geometric


@dataclass(frozen=True)
class Kind:
    """One look of a defect."""

    draw: textures.Draw
    corners: int  # of the outline
    aspect: float  # height to width, the median
    spread: float  # of the aspect's logarithm


KINDS = {
    "pits": Kind(textures.pits, 7, 1.6, 0.45),
    "crack": Kind(textures.crack, 4, 8.5, 0.35),
    "scratch": Kind(textures.scratch, 4, 7.0, 0.5),
    "streaks": Kind(textures.streaks, 9, 0.14, 0.4),
    "smear": Kind(textures.smear, 8, 1.2, 0.5),
    "lumps": Kind(textures.lumps, 6, 1.4, 0.4),
    "peel": Kind(textures.peel, 18, 0.65, 0.4),
}


@dataclass(frozen=True)
class Part:
    """One connected defect in the box whose upper left pixel is (top, left).

    mask: (h, w) bool. upright: size (height, width) it is drawn at. placing: (2, 3) affine map
    from upright (x, y) into the box.
    """

    kind: str
    top: int
    left: int
    mask: np.ndarray
    upright: Shape
    placing: np.ndarray

    def box(self, array: np.ndarray) -> np.ndarray:
        """The view of `array` (H, W) that this part covers."""
        height, width = self.mask.shape
        return array[self.top : self.top + height, self.left : self.left + width]


@dataclass(frozen=True)
class Layout:
    """label_map: (H, W) uint8, 0 clean. steel: the first column of steel and the one past it."""

    label_map: np.ndarray
    parts: list[Part]
    steel: tuple[int, int]


def lay_out(rng: Rng, classes: tuple[int, ...], shape: Shape) -> Layout:
    """Places defects of `classes` on a strip of `shape` (H, W), on steel and without overlap."""
    layout = Layout(np.zeros(shape, np.uint8), [], _steel(rng, shape[1]))
    surface = shape[0] * (layout.steel[1] - layout.steel[0])
    lean = rng.normal(0, 0.04)  # of all scratches and cracks: they follow the rolling direction
    for class_id in classes:
        median, sigma = AREAS[class_id]
        area = median * rng.lognormal(0, sigma) * shape[0] * shape[1] / REFERENCE
        area = min(area, 0.6 * surface / len(classes))
        count = min(rng.geometric(1 / PARTS[class_id]), 1 + int(area // 600))
        for share in rng.dirichlet(np.full(count, 4)):
            _place(rng, layout, class_id, area * share, lean)
    return layout


def _steel(rng: Rng, width: int) -> tuple[int, int]:
    """A third of the strips end left or right in the black beyond the edge of the steel."""
    if rng.random() > 0.35:
        return 0, width
    seen = round(width * (1 - 0.93 * rng.beta(0.7, 1.3)))
    return (0, seen) if rng.random() < 0.5 else (width - seen, width)


def _place(rng: Rng, layout: Layout, class_id: int, area: float, lean: float) -> None:
    """Adds one part where it covers no other, smaller at every attempt, down to 5 % of `area`."""
    height = layout.label_map.shape[0]
    first, last = layout.steel
    kind = _kind(rng, class_id, area * REFERENCE / layout.label_map.size)
    for _ in range(60):
        mask, upright, placing = _outline(rng, kind, max(area, 40), (height, last - first), lean)
        top = int(rng.integers(0, height - mask.shape[0] + 1))
        left = int(rng.integers(first, last - mask.shape[1] + 1))
        part = Part(kind, top, left, mask, upright, placing)
        if not part.box(layout.label_map)[mask].any():
            part.box(layout.label_map)[mask] = class_id
            layout.parts.append(part)
            return
        area *= 0.95


def _kind(rng: Rng, class_id: int, area: float) -> str:
    """The look of a part. Class 3 has four: thin ones for small areas, patches for large ones."""
    if class_id != 3:
        return {1: "pits", 2: "crack", 4: "peel"}[class_id]
    names = ["scratch", "lumps", "streaks", "smear"]
    if area < 3_000:
        chances = [0.6, 0.4, 0, 0]
    elif area < 14_000:
        chances = [0.65, 0.15, 0.15, 0.05]
    else:
        chances = [0, 0.1, 0.4, 0.5]
    return str(rng.choice(names, p=chances))


def _outline(
    rng: Rng, kind: str, area: float, limit: Shape, lean: float
) -> tuple[np.ndarray, Shape, np.ndarray]:
    """A polygon of `area` pixels, as annotators draw them, no larger than `limit`.

    Returns its mask, the size of the upright drawing and the map from drawing to mask.
    """
    look = KINDS[kind]
    jitter = 0.08 if look.corners == 4 else 0.3
    turns = np.arange(look.corners) + rng.uniform(-jitter, jitter, look.corners)
    angles = 2 * np.pi * turns / look.corners + np.pi / 4
    reach = rng.uniform(1 - jitter, 1, look.corners)
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None]
    corners -= corners.min(axis=0)
    corners = (corners / corners.max(axis=0)).astype(np.float32)
    box_area = area / cv2.contourArea(corners)
    aspect = look.aspect * rng.lognormal(0, look.spread)
    h = min(np.sqrt(box_area * aspect), limit[0])
    w = min(box_area / h, limit[1])
    placing = np.eye(2, 3, dtype=np.float32)
    if kind in ("crack", "scratch"):
        placing[0, 1] = np.clip(lean, -1, 1) * min(1, (limit[1] - w) / h)
    elif kind == "streaks":
        placing[1, 0] = rng.uniform(-0.3, 0.3) * min(1, (limit[0] - h) / (0.3 * w))
    points = (corners * (w - 1, h - 1)) @ placing[:, :2].T
    placing[:, 2] = -points.min(axis=0)
    points += placing[:, 2]
    size = np.ceil(points.max(axis=0)).astype(int) + 1
    mask = np.zeros((min(size[1], limit[0]), min(size[0], limit[1])), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask.astype(bool), (int(np.ceil(h)), int(np.ceil(w))), placing


def photograph(rng: Rng, layout: Layout) -> np.ndarray:
    """The strip as a line camera sees it: (H, W) uint8 grey."""
    image = textures.surface(rng, layout.label_map.shape)
    if rng.random() < 0.06 and not layout.parts:
        textures.chequer(rng, image)
    textures.add_harmless(rng, image)
    for part in layout.parts:
        upright = KINDS[part.kind].draw(rng, part.upright)
        field = cv2.warpAffine(upright, part.placing, part.mask.shape[::-1])
        box = part.box(image)
        box += field * _fade(part) * (float(box.mean()) / 90 * rng.lognormal(0, 0.3))
    _blacken(rng, image, layout.steel)
    return np.clip(image, 0, 255).astype(np.uint8)


def _fade(part: Part) -> np.ndarray:
    """Strength of a defect within its mask: all of it in the middle, none at the outline."""
    mask = part.mask.astype(np.float32)
    if part.kind == "peel":
        return mask
    padded = cv2.copyMakeBorder(mask, 4, 4, 4, 4, cv2.BORDER_REPLICATE)
    return mask * np.clip(2 * cv2.blur(padded, (7, 7))[4:-4, 4:-4] - 1, 0, 1)


def rephotograph(
    rng: Rng, image: np.ndarray, label_map: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same strip once more: 1-2 pixels aside, in slightly other light. Returns both moved."""
    sides = rng.integers(1, 3, 2) * rng.choice([-1, 1], 2)
    move = np.float32([[1, 0, sides[0]], [0, 1, sides[1]]])
    image, label_map = (
        cv2.warpAffine(
            a, move, a.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
        for a in (image, label_map)
    )
    light = rng.uniform(0.9, 1.1) * image + rng.normal(0, 1.5, image.shape)
    return np.clip(light, 0, 255).astype(np.uint8), label_map


def _blacken(rng: Rng, image: np.ndarray, steel: tuple[int, int]) -> None:
    """Blackens, in place, what is not steel; the edge is worn bright or falls off into the dark."""
    height, width = image.shape
    columns, rows = np.arange(width), np.arange(height)[:, None]
    slope = abs(rng.normal(0, 0.03))
    for edge, inward in ((steel[0], 1), (steel[1], -1)):
        if edge in (0, width):
            continue
        inside = inward * (columns - edge) + slope * rows
        worn = np.exp(-np.clip(inside, 0, None) / rng.uniform(5, 40)).astype(np.float32)
        image *= 1 + rng.uniform(-0.7, 0.8) * worn
        image[inside < 0] = rng.uniform(1, 5)
