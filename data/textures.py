"""Draws strips of rolled steel as grey values: the surface, what is harmless on it, the defects.

Everything is float32 grey levels, (H, W), drawn from the generator that is passed in. Smooth
random fields (`noise`) are the only ingredient: a coarse grid of normal values, interpolated.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Rng = np.random.Generator
Shape = tuple[int, int]
Draw = Callable[[Rng, Shape], np.ndarray]


def noise(rng: Rng, shape: Shape, cell: tuple[float, float]) -> np.ndarray:
    """A smooth random field (H, W), about unit variance, whose features are `cell` pixels."""
    grid = [max(2, round(side / step) + 1) for side, step in zip(shape, cell, strict=True)]
    coarse = rng.standard_normal(grid, dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def surface(rng: Rng, shape: Shape) -> np.ndarray:
    """Bare steel: uneven light, bands along the rolling direction (vertical), streaks and grain."""
    height, width = shape
    light = 0.25 * noise(rng, (1, width), (1, width / 3))
    for cell, strength in ((width / 14, 0.06), (14, 0.025), (2, 0.015)):
        light += strength * rng.lognormal(0, 0.6) * noise(rng, (1, width), (1, cell))
    light = light + rng.normal(0, 0.22) * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    worn = np.clip(noise(rng, (1, width), (1, width / 10)) + 0.5, 0, 2)
    texture = rng.uniform(0.01, 0.04) * noise(rng, shape, (60, 2)) * worn
    texture += rng.uniform(0.01, 0.04) * noise(rng, shape, (height / 2, width / 12))
    texture += rng.uniform(0.01, 0.04) * noise(rng, shape, (9, 5))
    if rng.random() < 0.4:
        texture += _chatter(rng, shape)
    if rng.random() < 0.4:
        texture -= _scale(rng, shape)
    grain = rng.standard_normal(shape, dtype=np.float32)
    if rng.random() < 0.5:
        grain = 1.5 * cv2.blur(grain, (3, 1) if rng.random() < 0.5 else (1, 3))
    texture += rng.uniform(0.05, 0.11) * grain
    texture += light
    return rng.uniform(60, 115) * cv2.exp(texture)


def _chatter(rng: Rng, shape: Shape) -> np.ndarray:
    """Fine wavy lines across the strip, as rolls that vibrate leave them."""
    height, width = shape
    rows = np.arange(height, dtype=np.float32)[:, None] / rng.uniform(4, 14)
    phase = rows + 1.2 * noise(rng, shape, (height / 3, width / 10))
    wave = np.sin(2 * np.pi * phase, dtype=np.float32)
    return 0.03 * wave * np.clip(0.5 + noise(rng, shape, (30, width / 12)), 0, 2)


def _scale(rng: Rng, shape: Shape) -> np.ndarray:
    """Darker flakes with sharp edges, drawn out along the rolling direction."""
    cell = rng.uniform(50, 160), rng.uniform(5, 22)
    field = noise(rng, shape, cell) + 0.35 * noise(rng, shape, (12, 3))
    field += 1.2 * noise(rng, (1, shape[1]), (1, shape[1] / 8))
    flakes = cv2.blur((field > rng.uniform(1, 2)).astype(np.float32), (3, 3))
    return rng.uniform(0.1, 0.35) * flakes


def add_harmless(rng: Rng, image: np.ndarray) -> None:
    """Adds, in place, what tempts to false alarms: specks, stains, oil, nicks, hairlines, paint."""
    height, width = image.shape
    specks = int(rng.gamma(0.7, 150))
    rows, columns = rng.integers(0, height, specks), rng.integers(0, width, specks)
    image[rows, columns] += rng.gamma(2, 25, specks).astype(np.float32)
    for _ in range(rng.poisson(rng.gamma(0.8, 2.5))):
        _stain(rng, image, rng.uniform(3, 9), rng.uniform(6, 22), rng.uniform(0.6, 0.85))
    if rng.random() < 0.2:
        _stain(rng, image, rng.uniform(60, 200), rng.uniform(30, 90), rng.uniform(0.7, 0.9))
    for _ in range(rng.poisson(6) if rng.random() < 0.3 else 0):
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, np.pi)
        reach = rng.uniform(2, 9)
        end = x + reach * np.cos(angle), y + reach * np.sin(angle)
        value = float(image.mean()) + rng.uniform(20, 80)
        cv2.line(image, (int(x), int(y)), (int(end[0]), int(end[1])), value, 1, cv2.LINE_AA)
    if rng.random() < 0.15:  # what inspectors let pass: as a crack, but fainter than any
        left = rng.integers(0, width - 20)
        image[:, left : left + 20] += 0.3 * crack(rng, (height, 20))
    if rng.random() < 0.07:
        _paint(rng, image)


def _stain(rng: Rng, image: np.ndarray, radius_x: float, radius_y: float, factor: float) -> None:
    """Darkens a soft, ragged ellipse somewhere on the strip."""
    height, width = image.shape
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    top, left = max(0, int(y - 1.6 * radius_y)), max(0, int(x - 1.6 * radius_x))
    box = image[top : int(y + 1.6 * radius_y) + 1, left : int(x + 1.6 * radius_x) + 1]
    rows, columns = np.ogrid[top : top + box.shape[0], left : left + box.shape[1]]
    distance = np.hypot((rows - y) / radius_y, (columns - x) / radius_x).astype(np.float32)
    distance += 0.2 * noise(rng, box.shape, (radius_y / 3, radius_x / 3))
    box *= 1 - (1 - factor) * np.clip(2.5 * (1 - distance), 0, 1)


def _paint(rng: Rng, image: np.ndarray) -> None:
    """White dripping strokes: the marks that a mill sprays on."""
    height, width = image.shape
    middle = rng.uniform(0.1, 0.9) * width
    canvas = np.zeros_like(image)
    for _ in range(rng.integers(2, 7)):
        x, y = rng.normal(middle, 60), rng.uniform(0, height)
        for step in range(rng.integers(2, 14)):
            centre = int(x + rng.normal(0, 2)), int(y + 7 * step)
            cv2.circle(canvas, centre, int(rng.integers(2, 9)), 1.0, -1)
    ragged = cv2.GaussianBlur(canvas, (0, 0), 2) + 0.15 * noise(rng, image.shape, (3, 3))
    image += 190 * np.clip(4 * (ragged - 0.45), 0, 1)


def chequer(rng: Rng, image: np.ndarray) -> None:
    """Rolls, in place, a diamond relief into the strip: chequered plate, a product."""
    height, width = image.shape
    rows, columns = np.ogrid[:height, :width]
    pitch = rng.uniform(90, 110)
    u = (columns / pitch + rows / (1.9 * pitch) + rng.random()).astype(np.float32)
    v = (columns / pitch - rows / (1.9 * pitch) + rng.random()).astype(np.float32)
    for phase in (u, v):
        across = (phase - np.round(phase)) * pitch / 6
        image += 45 * np.exp(-(across**2)) - 40 * np.exp(-((across - 1.4) ** 2))


def pits(rng: Rng, shape: Shape) -> np.ndarray:
    """Class 1: a cluster of small pits, each a dark hole with a bright rim."""
    height, width = shape
    field = np.zeros(shape, np.float32)
    count = 4 + height * width // 110
    rows = np.clip(rng.normal(height / 2, height / 5, count), 1, height - 2).astype(int)
    columns = np.clip(rng.normal(width / 2, width / 5, count), 1, width - 2).astype(int)
    depth = rng.gamma(1, 1, count)
    np.subtract.at(field, (rows, columns), depth)
    np.add.at(field, (rows - 1, columns + rng.integers(-1, 2, count)), 0.8 * depth)
    return _peak(cv2.GaussianBlur(field, (0, 0), 1.0, sigmaY=1.6), 70 * rng.lognormal(0, 0.35))


def crack(rng: Rng, shape: Shape) -> np.ndarray:
    """Class 2: one thin dark line, top to bottom, 1-2 px wide and in part hardly there."""
    height, width = shape
    rows = np.arange(height)
    centre = width / 2 + 0.12 * width * noise(rng, (height, 1), (height / 4, 1))[:, 0]
    distance = np.abs(np.arange(width) - centre[:, None]).astype(np.float32)
    line = np.exp(-((distance / rng.uniform(0.45, 0.9)) ** 2))
    along = np.clip(0.8 + 0.5 * noise(rng, (height, 1), (20, 1)), 0.1, 1.3)
    along[(rows < 3) | (rows >= height - 3)] = 0
    return -rng.uniform(18, 52) * line * along


def scratch(rng: Rng, shape: Shape) -> np.ndarray:
    """Class 3: parallel dark scratches along a bar, 2-7 px wide, some with bright beads."""
    width = shape[1]
    along = np.clip(0.9 + 0.4 * noise(rng, shape, (25, width)), 0.2, 1.4)
    columns = np.arange(width, dtype=np.float32)
    field = np.zeros(shape, np.float32)
    for _ in range(1 + rng.poisson(width / 16)):
        centre, reach = rng.normal(width / 2, width / 7), rng.gamma(2, 0.8) + 1.1
        line = np.exp(-(((columns - centre) / reach) ** 2))
        field -= rng.uniform(15, 55) * line
    field = np.maximum(field * along, -65)
    if rng.random() < 0.35:
        beads = np.clip(noise(rng, shape, (4, 3)) - 0.9, 0, 1)
        core = np.exp(-(((columns - width / 2) / (width / 5)) ** 2))
        field += 110 * beads * core
    return field


def streaks(rng: Rng, shape: Shape) -> np.ndarray:
    """Class 3: fine bright strands side by side, as of something dragged along."""
    strands = noise(rng, shape, (1.5, max(30, shape[1] / 4))) + noise(rng, shape, (12, 40)) - 0.3
    return rng.uniform(25, 70) * np.clip(strands, 0, 2)


def smear(rng: Rng, shape: Shape) -> np.ndarray:
    """Class 3: a patch of dark vertical strokes crossed by fine lines."""
    strokes = noise(rng, shape, (45, 4)) + 0.5 * noise(rng, shape, (3, 30))
    strokes += noise(rng, shape, (shape[0] / 3, shape[1] / 3)) + 0.3 * noise(rng, shape, (3, 3))
    return -rng.uniform(20, 50) * np.clip(1.5 * (strokes - 0.3), 0, 1)


def lumps(rng: Rng, shape: Shape) -> np.ndarray:
    """Class 3: torn material, bright flecks beside dark hollows in a few coarse clumps."""
    relief = noise(rng, shape, (8, 5)) + 0.5 * noise(rng, shape, (3, 2))
    relief = np.roll(relief, 2, axis=1) - relief
    clump = np.clip(noise(rng, shape, (shape[0] / 3, shape[1] / 2)) + 0.7, 0, 1)
    return rng.uniform(20, 45) * np.where(relief > 0, 1.4, 0.8) * relief * clump


def peel(rng: Rng, shape: Shape) -> np.ndarray:
    """Class 4: a lifted skin, wrinkled relief lit from above over a change of grey level."""
    relief = -9 * np.abs(noise(rng, shape, (26, 70))) - 4 * np.abs(noise(rng, shape, (12, 22)))
    relief += 0.8 * noise(rng, shape, (3, 4))
    shade = cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=0.25)
    shade += 0.4 * cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=0.25)
    shade *= np.clip(0.8 + 0.5 * noise(rng, shape, (60, 90)), 0.15, 1.5)
    return rng.uniform(7, 16) * shade + rng.uniform(-25, 8)


def _peak(field: np.ndarray, value: float) -> np.ndarray:
    return field * (value / max(float(np.abs(field).max()), 1e-6))
