"""Pictures of strips with their masks, drawn into pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from common.files import publish
from common.labels import defect_classes

# Okabe-Ito hues, told apart by colour-blind readers too; RGB. Further classes repeat them.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (240, 228, 66),
)
OPACITY = 0.35  # of a class's tint


def colour(defect_class: int) -> tuple[int, int, int]:
    """RGB colour of a defect class, counted from 1."""
    return PALETTE[(defect_class - 1) % len(PALETTE)]


def draw(image: np.ndarray, label_map: np.ndarray) -> np.ndarray:
    """The grey image (H, W) uint8 with each class tinted and outlined; (H, W, 3) uint8 RGB."""
    picture = np.repeat(image[:, :, None], 3, axis=2)
    for defect_class in defect_classes(label_map):
        mask = label_map == defect_class
        tint = np.array(colour(defect_class), np.float32)
        picture[mask] = (picture[mask] * (1 - OPACITY) + tint * OPACITY).astype(np.uint8)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour(defect_class), 1)
    return picture


def triptych(
    image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, titles: Sequence[str]
) -> np.ndarray:
    """Image, truth and prediction below one another, named; RGB uint8.

    All three are (H, W); strips are wide, so they are stacked by rows. titles: what to call the
    defect classes, in order.
    """
    panels = []
    nothing = np.zeros_like(image)
    for name, label_map in (("image", nothing), ("truth", truth), ("prediction", prediction)):
        named = {k: f"class {titles[k - 1]}" for k in defect_classes(label_map)}
        panels += [_caption(name, named, image.shape[1]), draw(image, label_map)]
    return np.concatenate(panels)


def _caption(name: str, classes: dict[int, str], width: int) -> np.ndarray:
    bar = np.full((16, width, 3), 24, np.uint8)
    cv2.putText(bar, name, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    left = 90
    for defect_class, text in classes.items():
        ink, face = colour(defect_class), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(bar, text, (left, 12), face, 0.4, ink, 1, cv2.LINE_AA)
        left += cv2.getTextSize(text, face, 0.4, 1)[0][0] + 12
    return bar


def save(path: Path, picture: np.ndarray) -> None:
    """Publishes an RGB picture; the file type follows the name. Raises OSError where it cannot."""
    data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    publish(path, data.tobytes())
