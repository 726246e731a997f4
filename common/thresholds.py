"""From probabilities to a label map: per-class probability and least area, chosen on val."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from common.errors import UserError
from common.files import publish_json

FILE = "thresholds.json"


@dataclass(frozen=True)
class Thresholds:
    """One entry a defect class, in class order.

    probability: least softmax probability of a pixel, in (0, 1). area: least size of a connected
    component (8-connected), in pixels of the image's own size; 0 keeps all. chosen_by: what for,
    in words; it decides nothing.
    """

    probability: tuple[float, ...]
    area: tuple[int, ...]
    chosen_by: str = "unknown"

    def __post_init__(self) -> None:
        if len(self.probability) != len(self.area):
            raise ValueError(f"{len(self.probability)} probabilities and {len(self.area)} areas")
        if not all(0 < p < 1 for p in self.probability):
            raise ValueError(f"probabilities must lie between 0 and 1, got {self.probability}")
        if min(self.area, default=0) < 0:
            raise ValueError(f"areas must be at least 0, got {self.area}")

    def save(self, folder: Path) -> None:
        """Writes thresholds.json into a run directory."""
        publish_json(folder / FILE, asdict(self))


def load(folder: Path) -> Thresholds | None:
    """The thresholds of a run directory; None where none were chosen yet.

    An older file does not say what they were chosen by. Raises UserError where the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
        return Thresholds(
            probability=tuple(map(float, saved["probability"])),
            area=tuple(map(int, saved["area"])),
            chosen_by=str(saved.get("chosen_by", Thresholds.chosen_by)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to choose anew.") from error


def decide(probabilities: torch.Tensor, thresholds: Thresholds | None) -> torch.Tensor:
    """Label maps (N, H, W) uint8 from probabilities (N, C, H, W), on the same device.

    Without thresholds the most probable class. With them, of the defect classes that reach their
    threshold the one that exceeds it most (by ratio), else background. Areas are not looked at.
    Raises UserError where the thresholds are for another number of classes.
    """
    if thresholds is None:  # max finds the index many times faster than argmax on a CPU
        return probabilities.max(1).indices.to(torch.uint8)
    least = _per_class(probabilities, thresholds)
    ratio, best = (probabilities[:, 1:] / least).max(1)
    return torch.where(ratio >= 1, best + 1, 0).to(torch.uint8)


def decide_logits(logits: torch.Tensor, thresholds: Thresholds | None) -> torch.Tensor:
    """`decide` of the softmax of logits (N, C, H, W): the same label maps, found faster.

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
    pixels = logits.movedim(1, 0)[:, possible]
    label_map[possible] = decide(pixels.softmax(0)[None, :, :, None], thresholds).flatten()
    return label_map


def _per_class(values: torch.Tensor, thresholds: Thresholds) -> torch.Tensor:
    """The probabilities (1, K, 1, 1) that go with values (N, K + 1, H, W)."""
    if len(thresholds.probability) != values.shape[1] - 1:
        raise UserError(
            f"the thresholds are for {len(thresholds.probability)} defect classes, the network "
            f"has {values.shape[1] - 1}. Delete the run's {FILE} to choose them anew."
        )
    return values.new_tensor(thresholds.probability).view(1, -1, 1, 1)


def drop_small(label_map: np.ndarray, thresholds: Thresholds | None) -> np.ndarray:
    """The label map (H, W) uint8 without components smaller than their class's least area."""
    if thresholds is None or not any(thresholds.area):
        return label_map
    label_map = label_map.copy()
    for defect_class, area in enumerate(thresholds.area, start=1):
        mask = (label_map == defect_class).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if area == 0 or width == 0:
            continue
        inside = slice(y, y + height), slice(x, x + width)  # most strips are mostly background
        _, components, stats, _ = cv2.connectedComponentsWithStats(mask[inside])
        small = stats[:, cv2.CC_STAT_AREA] < area
        small[0] = False  # component 0 is everything else
        label_map[inside][small[components]] = 0
    return label_map
