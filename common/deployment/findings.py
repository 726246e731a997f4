"""What a network found in a stream of images: counts by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from common.labels import defect_classes


@dataclass
class Findings:
    """Images, connected components and pixels of each defect class, over the images added.

    images, flagged: images seen, and those with any defect. pixels: of all images together.
    """

    images: int = 0
    flagged: int = 0
    pixels: int = 0
    class_images: Counter[int] = field(default_factory=Counter)
    class_defects: Counter[int] = field(default_factory=Counter)
    class_pixels: Counter[int] = field(default_factory=Counter)

    def add(self, label_map: np.ndarray) -> None:
        """Counts one label map (H, W) uint8."""
        present = defect_classes(label_map)
        for k in present:
            mask = (label_map == k).astype(np.uint8)
            self.class_images[k] += 1
            self.class_defects[k] += cv2.connectedComponents(mask)[0] - 1  # one is everything else
            self.class_pixels[k] += cv2.countNonZero(mask)
        self.images += 1
        self.flagged += bool(present)
        self.pixels += label_map.size

    def table(self, titles: Sequence[str]) -> str:
        """A line for each defect class. titles: what to call them, in order."""
        wide = max(map(len, ("class", *titles)))
        lines = [
            f"{'class':>{wide}}{'images':>9}{'defects':>9}{'pixels':>13}{'share of pixels':>18}"
        ]
        for k, title in enumerate(titles, start=1):
            images, defects, pixels = (
                count[k] for count in (self.class_images, self.class_defects, self.class_pixels)
            )
            share = pixels / max(self.pixels, 1)
            lines.append(f"{title:>{wide}}{images:9}{defects:9}{pixels:13}{share:18.3%}")
        return "\n".join(lines)
