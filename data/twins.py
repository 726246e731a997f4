"""How the masks of twins disagree: of images that show the same steel, both annotated.

The copies are laid on each other; where the pictures are the same everywhere, the Dice between
their masks is what one annotator reaches against another, or against himself on another day. No
network can be shown to do better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy import fft

from common import overlay
from common.dataset.near_duplicates import align, describe, laid, turned
from common.labels import Labels
from common.progress import in_threads

PATCH, UNLIKE = 16, 8.0  # pixels; grey levels by which patches of one picture never differ
SHOWN, DRAWN = 10, 100  # pairs named and drawn, the worst first


@dataclass(frozen=True)
class Twins:
    """Two images of one picture, and how their masks agree.

    turn, down, right: `turned(second, turn)`, moved by so many pixels, lies on the first. dice:
    class -> Dice of the masks where both images lie, for each class that either shows there.
    """

    first: str
    second: str
    turn: int
    down: int
    right: int
    dice: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean Dice of the classes; 1 where neither image shows any."""
        return float(np.mean(list(self.dice.values()))) if self.dice else 1.0


def compare(found: Labels, pairs: Sequence[tuple[str, str]]) -> list[Twins]:
    """The pairs of names whose pictures are the same everywhere, the worst masks first.

    Masks must fit their images. Pictures that differ in some patch are left out: they were pasted
    over, or cut from other places.
    """
    work = partial(_compare, found)
    twins = list(in_threads(work, pairs, desc="twins", unit="pair", leave=False))
    return sorted(filter(None, twins), key=lambda pair: (pair.mean, pair.first, pair.second))


def _compare(found: Labels, pair: tuple[str, str]) -> Twins | None:
    first, second = pair
    images = [found.read(name) for name in pair]
    details = [describe(image)[None] for image in images]
    _, ((turn, *move),) = align(*details)
    one, two = laid(images[0]), turned(laid(images[1]), turn)
    if one.shape != two.shape:
        return None
    down, right = _refined(one, two, details[0].shape[1:], move)
    if not _is_same(*_overlap(one, two, down, right)):
        return None
    dice = {}
    for k in sorted({*found.classes(first), *found.classes(second)}):
        masks = (
            laid(found.mask(name, k, image.shape))
            for name, image in zip((first, second), images, strict=True)
        )
        own, other = _overlap(next(masks), turned(next(masks), turn), down, right)
        if total := int(own.sum()) + int(other.sum()):
            dice[k] = 2 * int((own & other).sum()) / total
    return Twins(first, second, int(turn), down, right, dice)


def _refined(
    one: np.ndarray, two: np.ndarray, cells: tuple[int, int], move: tuple[int, int]
) -> tuple[int, int]:
    """The move (down, right) in pixels, within a cell of that in cells: phase correlation again."""
    here, there = (fft.rfft2(image.astype(np.float32) - image.mean()) for image in (one, two))
    waves = here * there.conj()
    peaks = fft.irfft2(waves / np.maximum(np.abs(waves), 1e-6), one.shape)
    near = [
        np.arange(round((m - 1) * n / c), round((m + 1) * n / c) + 1)
        for m, n, c in zip(move, one.shape, cells, strict=True)
    ]
    window = peaks[near[0][:, None], near[1]]
    y, x = np.unravel_index(window.argmax(), window.shape)
    return int(near[0][y]), int(near[1][x])


def _overlap(
    one: np.ndarray, two: np.ndarray, down: int, right: int
) -> tuple[np.ndarray, np.ndarray]:
    """The parts of both (H, W, ...) that lie on each other when the second is moved."""
    top, left, (height, width) = max(down, 0), max(right, 0), one.shape[:2]
    bottom, end = height + min(down, 0), width + min(right, 0)
    return one[top:bottom, left:end], two[top - down : bottom - down, left - right : end - right]


def _is_same(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether no patch of the pictures differs, but for brightness and contrast of the whole."""
    (mean, spread), (other, its) = (cv2.meanStdDev(image) for image in (one, two))
    alike = (two - other.item()) * (spread.item() / max(its.item(), 1e-6)) + mean.item()
    difference = one.astype(np.float32) - alike.astype(np.float32)
    return bool(np.abs(cv2.blur(difference, (PATCH, PATCH))).max() < UNLIKE)


def describe_twins(found: Labels, twins: Sequence[Twins], count: int) -> Iterable[str]:
    """What `compare` found among `count` pairs, in lines."""
    yield (
        f"twins: {len(twins)} of {count} pairs of near-duplicates show one picture; the Dice "
        "between their masks is the annotators' own ceiling"
    )
    rows = []
    for k, title in enumerate(found.class_titles, start=1):
        if dice := [pair.dice[k] for pair in twins if k in pair.dice]:
            apart = [value for value in dice if value < 1]
            rows.append(
                {
                    "class": title,
                    "pairs": len(dice),
                    "mean Dice": np.mean(dice),
                    "alike to the pixel": len(dice) - len(apart),
                    "mean Dice of the others": np.mean(apart) if apart else float("nan"),
                }
            )
    if rows:
        table = pd.DataFrame(rows).set_index("class")
        yield table.to_string(float_format="{:.4f}".format, na_rep="-")
    for pair in [pair for pair in twins if pair.mean < 1][:SHOWN]:
        each = ", ".join(f"class {k} {dice:.3f}" for k, dice in pair.dice.items())
        yield f"  {pair.first} {pair.second}: {each}"


def draw_twins(found: Labels, twins: Sequence[Twins], folder: Path) -> int:
    """Draws the worst DRAWN pairs whose masks differ into `folder`; returns how many.

    The first image beside the second as it lies on it; strips one above the other. Raises OSError
    where the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    worst = [pair for pair in twins if pair.mean < 1][:DRAWN]
    for rank, pair in enumerate(worst, 1):
        one, two = (_drawn(found, name) for name in (pair.first, pair.second))
        two = np.stack([turned(channel, pair.turn) for channel in np.moveaxis(two, 2, 0)], axis=2)
        one, two = _overlap(one, two, pair.down, pair.right)
        axis = 0 if one.shape[1] >= 2 * one.shape[0] else 1
        gap = np.full_like(one[:4] if axis == 0 else one[:, :4], 255)
        names = "-".join(Path(name).stem for name in (pair.first, pair.second))
        picture = np.concatenate([one, gap, two], axis=axis)
        overlay.save(folder / f"{rank:03d}-{names}.png", picture)
    return len(worst)


def _drawn(found: Labels, name: str) -> np.ndarray:
    image = found.read(name)
    label_map = found.label_map(name, image.shape)
    return overlay.draw(laid(image), laid(label_map))
