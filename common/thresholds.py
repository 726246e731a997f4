"""The decision, from probabilities to a label map: what is drawn, and what of it is kept.

A pixel is drawn as a class where that is probable enough. A connected component of what was drawn
is kept where its peak and its area reach their least values, and all that is kept of a class where
its pixels together reach theirs. So a low probability with a high peak draws a defect to its rim,
and yet reports only what the network is sure of somewhere; and many small defects count as one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from common.errors import UserError
from common.files import publish_json

FILE = "thresholds.json"
RULES = ("probability", "peak", "area", "total")  # what it holds for each defect class
CURVE_FILE = "thresholds_curve.csv"  # what was not chosen, for the reader of a comparison
WINDOW = (3, 3)  # pixels of the image's own size that a peak is smoothed over
BAND = 1 << 22  # pixels whose peaks are looked for at once


@dataclass(frozen=True)
class Thresholds:
    """One entry a defect class, in class order.

    probability: least softmax probability of a pixel, in (0, 1). area: least size of a connected
    component (8-connected), in pixels of the image's own size; 0 keeps all. peak: least peak of a
    component (see `components`), in (0, 1); no higher than the probability it keeps all, and left
    out it is the probability. aim: what they were chosen for, in words; it decides nothing. total:
    fewest pixels of the class in an image, all kept components together; 0, which it is where it
    is left out, asks for nothing.
    """

    probability: tuple[float, ...]
    area: tuple[int, ...]
    peak: tuple[float, ...] = ()
    aim: str = "unknown"
    total: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "peak", self.peak or self.probability)
        object.__setattr__(self, "total", self.total or (0,) * len(self.probability))
        counts = len(self.probability), len(self.peak), len(self.area), len(self.total)
        if len(set(counts)) > 1:
            raise ValueError("{} probabilities, {} peaks, {} areas and {} totals".format(*counts))
        for name, values in (("probabilities", self.probability), ("peaks", self.peak)):
            if not all(0 < value < 1 for value in values):
                raise ValueError(f"{name} must lie between 0 and 1, got {values}")
        for name, values in (("areas", self.area), ("totals", self.total)):
            if min(values, default=0) < 0:
                raise ValueError(f"{name} must be at least 0, got {values}")

    @property
    def asks_for_peaks(self) -> bool:
        """Whether a component may be dropped for its peak."""
        return any(peak > p for peak, p in zip(self.peak, self.probability, strict=True))

    def save(self, folder: Path) -> Path:
        """Writes thresholds.json into a run directory, and returns its path."""
        publish_json(folder / FILE, {key: getattr(self, key) for key in (*RULES, "aim")})
        return folder / FILE


def load(folder: Path, classes: int | None = None) -> Thresholds | None:
    """The thresholds of a run directory; None where none were chosen yet.

    Files of before have no `total`, older ones no `peak`; they say in `chosen_by`, or not at all,
    what they were chosen for. Raises UserError where the file is damaged or cannot be read, or for
    other than `classes` defect classes.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
        found = Thresholds(
            probability=tuple(map(float, saved["probability"])),
            area=tuple(map(int, saved["area"])),
            peak=tuple(map(float, saved.get("peak", ()))),
            aim=str(saved.get("aim", saved.get("chosen_by", Thresholds.aim))),
            total=tuple(map(int, saved.get("total", ()))),
        )
        if len(found.area) != (classes or len(found.area)):
            raise ValueError(f"for {len(found.area)} defect classes, the run has {classes}")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to choose anew.") from error
    return found


def decide(probabilities: torch.Tensor, thresholds: Thresholds | None) -> torch.Tensor:
    """What is drawn: label maps (N, H, W) uint8 from probabilities (N, C, H, W), on their device.

    Without thresholds the most probable class. With them, of the defect classes that reach their
    threshold the one that exceeds it most (by ratio), else background. Components are not looked
    at: that is `keep`. Raises UserError where the thresholds are for another number of classes.
    """
    if thresholds is None:  # max finds the index many times faster than argmax on a CPU
        return probabilities.max(1).indices.to(torch.uint8)
    least = _per_class(probabilities, thresholds)
    ratio, best = (probabilities[:, 1:] / least).max(1)
    return torch.where(ratio >= 1, best + 1, 0).to(torch.uint8)


def decide_logits(
    logits: torch.Tensor, thresholds: Thresholds | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`decide` of the softmax of logits (N, C, H, W): the same label maps, found faster.

    With them, where the thresholds ask for peaks, the probability (N, H, W) float32 of the class
    that was drawn, 0 on background, for `keep`; else None.

    A class k reaches the probability t only where its logit exceeds the background's by
    log(t / (1 - t)), since softmax over all classes is at most that over the two. Most pixels of
    most strips fail this test for every class and are background without another look.
    """
    background, defects = logits[:, 0], logits[:, 1:]
    if thresholds is None:
        possible = defects.amax(1) > background
    else:
        slack = 1e-3  # above the rounding of either side
        possible = (defects - _per_class(logits, thresholds).logit()).amax(1) > background - slack
    label_map = torch.zeros_like(possible, dtype=torch.uint8)
    probabilities = logits.movedim(1, 0)[:, possible].softmax(0)
    classes = decide(probabilities[None, :, :, None], thresholds).flatten()
    label_map[possible] = classes
    if thresholds is None or not thresholds.asks_for_peaks:
        return label_map, None
    drawn = torch.zeros_like(background, dtype=torch.float32)
    drawn[possible] = probabilities.gather(0, classes.long()[None])[0] * (classes > 0)
    return label_map, drawn


def drawn_probability(label_map: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """For `keep`: what probabilities (C, H, W) give the class of each pixel of a map (H, W)."""
    return np.take_along_axis(probabilities, label_map[None].astype(np.intp), 0)[0]


def keep(
    label_map: np.ndarray, drawn: np.ndarray | None, thresholds: Thresholds | None
) -> np.ndarray:
    """The label map (H, W) uint8 without the components whose peak or area falls short, and without
    the classes of which then too few pixels are left.

    drawn: (H, W) float32, the probability of the class drawn at each pixel; it may be None where
    the thresholds ask for no peaks.
    """
    if thresholds is None or not (
        any(thresholds.area) or any(thresholds.total) or thresholds.asks_for_peaks
    ):
        return label_map
    label_map = label_map.copy()
    rules = zip(*(getattr(thresholds, name) for name in RULES), strict=True)
    for defect_class, (probability, peak, area, total) in enumerate(rules, start=1):
        mask = (label_map == defect_class).astype(np.uint8)
        inside = box(mask)
        left = mask[inside]
        if left.size == 0:
            continue
        if area > 0 or peak > probability:
            found = components(left, drawn[inside] if peak > probability else None)
            short = found.area < area
            if peak > probability:
                short |= found.peak < peak
            short[0] = False  # component 0 is everything else
            label_map[inside][short[found.parts]] = 0
            left[short[found.parts]] = 0
        if np.count_nonzero(left) < total:
            label_map[inside][left > 0] = 0
    return label_map


def box(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold a mask (H, W) uint8: most strips are mostly background."""
    x, y, width, height = cv2.boundingRect(mask)
    return slice(y, y + height), slice(x, x + width)


@dataclass(frozen=True)
class Components:
    """8-connected components of a mask. parts: (H, W) int32, 0 outside the mask.

    area: (P + 1,) int32 pixels; peak: (P + 1,) float32, empty where no probability was given.
    Entry 0 of either stands for what lies outside the mask.
    """

    parts: np.ndarray
    area: np.ndarray
    peak: np.ndarray


def components(mask: np.ndarray, probability: np.ndarray | None) -> Components:
    """The components of a mask (H, W) uint8, and their peaks in the probability (H, W) float32.

    A peak is the highest of a component's pixels, each taken as the mean of those drawn in the
    WINDOW around it: one bright pixel makes no peak of a dim component.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    area = stats[:, cv2.CC_STAT_AREA]
    if probability is None:
        return Components(parts, area, np.empty(0, np.float32))
    peak = np.zeros(count, np.float32)
    height, width = mask.shape
    step, margin = max(1, BAND // width), WINDOW[1] // 2
    for top in range(0, height, step):  # a band at a time: floats cost more than the mask
        bottom = min(top + step, height)
        wide = slice(max(top - margin, 0), min(bottom + margin, height))
        own = slice(top - wide.start, bottom - wide.start)
        # Means over the window; beyond the border nothing is drawn.
        drawn, pixels = (
            cv2.blur(values, WINDOW, borderType=cv2.BORDER_CONSTANT)[own]
            for values in (probability[wide] * mask[wide], mask[wide].astype(np.float32))
        )
        inside = mask[top:bottom] > 0
        np.maximum.at(peak, parts[top:bottom][inside], drawn[inside] / pixels[inside])
    return Components(parts, area, peak)


def _per_class(values: torch.Tensor, thresholds: Thresholds) -> torch.Tensor:
    """The probabilities (1, K, 1, 1) that go with values (N, K + 1, H, W)."""
    if len(thresholds.probability) != values.shape[1] - 1:
        raise UserError(
            f"the thresholds are for {len(thresholds.probability)} defect classes, the network "
            f"has {values.shape[1] - 1}. Delete the run's {FILE} to choose them anew."
        )
    return values.new_tensor(thresholds.probability).view(1, -1, 1, 1)
