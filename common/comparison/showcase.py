"""Which test images the report page shows: where the networks do worst, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np
import torch

from common.comparison.evaluate import read_prediction
from common.comparison.page.page import GalleryItem
from common.comparison.results import Scored
from common.comparison.tally import Tally
from common.dataset.images import LARGE
from common.labels import Labels
from common.metrics import image_sums
from common.resize import resize_image, resize_labels

LIMIT = 60
SHOWN = 1 << 22  # pixels of a large image on the page


def choose(tallies: Sequence[Tally], limit: int = LIMIT) -> list[int]:
    """Rows of up to `limit` images, worst first, taking turns between kinds of image.

    Kinds are the images of each class, by their mean Dice over the variants, and the clean images,
    by their number of false alarms. tallies: one a variant, of the same images.
    """
    present = tallies[0].confusion.sum(axis=2)[:, 1:] > 0
    dice = np.mean([image_dice(tally) for tally in tallies], axis=0)
    alarms = np.mean([tally.alarms_thresholded for tally in tallies], axis=0)
    kinds = [np.flatnonzero(column) for column in present.T]
    ranked = [rows[np.argsort(dice[rows], kind="stable")].tolist() for rows in kinds]
    clean = np.flatnonzero(~present.any(axis=1))
    ranked.append(clean[np.argsort(-alarms[clean], kind="stable")].tolist())
    turns = chain.from_iterable(zip_longest(*ranked))
    return list(dict.fromkeys(row for row in turns if row is not None))[:limit]


def image_dice(tally: Tally) -> np.ndarray:
    """Mean Dice (N,) over the classes in an image's truth; of a clean one 1, or 0 if false alarms.

    Of the decisions with thresholds and least areas, as `choose` and the page show them.
    """
    classes = tally.confusion.shape[-1] - 1
    sums = image_sums(torch.from_numpy(tally.confusion_thresholded)).numpy()
    dice, empty, positive, _ = np.split(sums[:, -4 * classes :], 4, axis=1)
    count = positive.sum(axis=1)
    return np.where(count > 0, dice.sum(axis=1) / np.maximum(count, 1), empty.min(axis=1))


def gallery(scored: Sequence[Scored], labels: Labels, names: Sequence[str]) -> list[GalleryItem]:
    """The images that `choose` takes, with what the first training of each variant made of them.

    names: the test images, in the order of the tallies.
    """
    dice = {one.name: image_dice(one.tallies[0]) for one in scored}
    items = []
    for row in choose([one.tallies[0] for one in scored]):
        image = labels.read(names[row])
        size = _shown_size(image.shape)
        items.append(
            GalleryItem(
                name=names[row],
                image=resize_image(image, size),
                truth=resize_labels(labels.label_map(names[row], image.shape), size),
                predictions={
                    one.name: resize_labels(
                        read_prediction(one.trainings[0].prediction_path(names[row])), size
                    )
                    for one in scored
                },
                dice={name: float(values[row]) for name, values in dice.items()},
            )
        )
    return items


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """The height and width in which an image stands on the page: large ones in less."""
    height, width = size
    share = (SHOWN / (height * width)) ** 0.5 if height * width >= LARGE else 1
    return max(1, round(height * share)), max(1, round(width * share))
