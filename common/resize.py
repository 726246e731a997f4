"""One way from a picture to a network's input size, for training, use and the exported file."""

from __future__ import annotations

import cv2
import numpy as np

HALF_UP = 0.501  # added, then cut off: rounds halves up, also those that arithmetic put just below


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A grey image (H, W) uint8 at `size` (height, width): by area down, bilinear up."""
    if image.shape == tuple(size):
        return image
    height, width = size
    if height <= image.shape[0] and width <= image.shape[1]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    # On uint8 OpenCV's weights have 11 bits, a result that an exported network cannot repeat.
    grey = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return (grey + HALF_UP).astype(np.uint8)


def resize_labels(label_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map (H, W) uint8 at `size` by the nearest pixel centre, so that no class appears."""
    if label_map.shape == tuple(size):
        return label_map
    return cv2.resize(label_map, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
