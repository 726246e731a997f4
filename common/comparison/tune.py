"""Thresholds and least areas chosen on the val part, by Kaggle Dice.

For each class a grid of probabilities and areas is tried on every val image, and the pair with
the best mean Dice kept, where an image without the class in truth and prediction counts as 1. So a
false alarm costs as much as missing the defects of one image altogether, and a class is silenced
only where whatever it would find costs more in false alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np

from common import thresholds as thresholds_module
from common.comparison.evaluate import decoded_batches
from common.dataset import splits
from common.errors import UserError
from common.inference import Segmenter
from common.labels import Labels, read_image
from common.machine import cores
from common.progress import tqdm
from common.thresholds import Thresholds

PROBABILITIES = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.9)
"""The likeliest first: of equally good ones the first is kept."""
AREAS = (0, 64, 128, 256, 512, 1024, 2048, 4096)
"""Pixels of a 256x1600 strip; scaled to the median number of pixels of the images at hand."""
STRIP_PIXELS = 256 * 1600
AIM = "kaggle"


def ensure_thresholds(segmenter: Segmenter, labels: Labels, batch_size: int = 8) -> Thresholds:
    """The thresholds in the run's directory; where there are none, chosen now and saved there."""
    run = segmenter.run
    found = thresholds_module.load(run.path, labels.num_classes)
    if found is not None:
        return found
    chosen = tune(segmenter, labels, splits.part_of(run.path, "val", labels), batch_size)
    try:
        chosen.save(run.path)
    except OSError as error:
        raise UserError(
            f"cannot save the thresholds in {run.path}: {error.strerror or error}\n"
            "A run directory must be writable the first time it is compared."
        ) from error
    return chosen


def tune(
    segmenter: Segmenter, labels: Labels, names: Sequence[str], batch_size: int = 8
) -> Thresholds:
    """The best probability and least area of each class on the images `names`.

    Classes are tried one by one, as if the others were not there; a class that no image shows
    keeps the first of PROBABILITIES and of AREAS, since its false alarms alone say nothing.
    """
    classes = range(1, labels.num_classes + 1)
    with ThreadPoolExecutor(cores()) as pool:
        pixels = list(pool.map(lambda name: read_image(labels.path(name)).size, names))
    areas = np.round(np.array(AREAS) * np.median(pixels) / STRIP_PIXELS).astype(np.int64)
    total = np.zeros((len(classes), len(PROBABILITIES), len(areas)))
    with ThreadPoolExecutor(cores()) as pool, tqdm(total=len(names), unit="image") as bar:
        bar.set_description(f"thresholds of {segmenter.run.name}")
        for batch in decoded_batches(labels, names, batch_size, pool):
            batch_names, images = zip(*batch, strict=True)
            probabilities = segmenter.probabilities(images).numpy(force=True)
            for name, channels in zip(batch_names, probabilities, strict=True):
                truth = labels.label_map(name, channels.shape[1:])
                masks = [truth == k for k in classes]
                grids = pool.map(partial(dice_grid, areas=areas), channels[1:], masks)
                total += np.stack(list(grids))
            bar.update(len(batch))
    shown = {k for name in names for k in labels.classes(name)}
    best = [
        np.unravel_index(total[k - 1].argmax(), total[k - 1].shape) if k in shown else (0, 0)
        for k in classes
    ]
    return Thresholds(
        probability=tuple(PROBABILITIES[i] for i, _ in best),
        area=tuple(int(areas[j]) for _, j in best),
        aim=AIM,
    )


def dice_grid(probability: np.ndarray, truth: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Dice of one class on one image for every threshold and area, (len(PROBABILITIES), A).

    probability: (H, W) float32; truth: (H, W) bool; areas: (A,) least pixels of a component.
    1 where truth and prediction are both empty.
    """
    size = int(truth.sum())
    grid = np.full((len(PROBABILITIES), len(areas)), float(size == 0))
    highest = probability.max()
    for row, threshold in zip(grid, PROBABILITIES, strict=True):
        if highest < threshold:
            continue
        mask = (probability >= threshold).astype(np.uint8)
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
        area = stats[1:, cv2.CC_STAT_AREA]
        overlap = np.bincount(parts[truth], minlength=count)[1:]
        kept = area >= areas[:, None]
        predicted = kept @ area
        np.divide(2 * (kept @ overlap), predicted + size, out=row, where=predicted + size > 0)
    return grid
