"""The decision of a run: that in its directory, or one chosen for an aim on the run's val part."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd

from common import thresholds as thresholds_module
from common.comparison import false_alarms
from common.comparison.choose import SELDOM, choose, means, most_positive
from common.comparison.evaluate import decoded_batches
from common.comparison.outcomes import PEAKS, PROBABILITIES, TOTALS, outcomes
from common.dataset import splits
from common.dataset.images import LARGE
from common.errors import UserError
from common.files import publish, refusals_said
from common.inference import Segmenter
from common.labels import Labels
from common.machine import cores
from common.progress import in_threads, tqdm
from common.thresholds import CURVE_FILE, Thresholds

STRIP_PIXELS = 256 * 1600
DEFAULT_AIM = "balanced"


def ensure_thresholds(
    segmenter: Segmenter,
    labels: Labels,
    aim: str | None = None,
    number: float | None = None,
    batch_size: int = 8,
) -> Thresholds:
    """The thresholds in the run's directory; chosen now and saved there for an aim, or if missing.

    aim: kaggle, balanced, positive, which takes the least empty accuracy as its `number`, or
    alarms, which takes the clean strips of a hundred that may have one; None takes those in the
    directory whatever they were chosen for, DEFAULT_AIM where there are none.
    """
    run = segmenter.run
    found = thresholds_module.load(run.path, labels.num_classes)
    if aim is None and found is not None:
        return found
    if aim == "alarms":
        rate = number / 100
        best = false_alarms.best(false_alarms.choices(segmenter, labels, rate))
        chosen, curve = best.thresholds(labels.num_classes, rate), None
    else:
        split = splits.read(run.path / "split.csv", labels)
        val = split[split["split"] == "val"]
        chosen, curve = tune(segmenter, labels, val, aim or DEFAULT_AIM, number, batch_size)
    way_out = "A run directory must be writable where its thresholds are chosen."
    with refusals_said(f"the thresholds to {run.path}", way_out):
        chosen.save(run.path)
        (run.path / CURVE_FILE).unlink(missing_ok=True)
        if curve is not None:
            publish(run.path / CURVE_FILE, curve.to_csv(index=False))
    return chosen


def tune(
    segmenter: Segmenter,
    labels: Labels,
    images: pd.DataFrame,
    aim: str,
    least_empty: float | None = None,
    batch_size: int = 8,
) -> tuple[Thresholds, pd.DataFrame]:
    """The decision that suits the aim on `images` (columns image and group), and its curve.

    least_empty: the empty accuracy that the aim `positive` must leave. Raises UserError where no
    decision does.

    Classes are tried one by one, as if the others were not there. A class that too few images show
    is said, and decided as all classes together would be.

    The curve has a row a class and probability: dice_positive and empty_accuracy as they are with
    that probability and the peak and total that were chosen; and whether it was taken.
    """
    names = images["image"].tolist()
    totals = scaled_totals(labels, names)
    scores = outcomes_of(segmenter, labels, names, totals, batch_size)
    classes = range(1, labels.num_classes + 1)
    shown = np.array([[k in labels.classes(name) for k in classes] for name in names])
    groups = images["group"].tolist()
    if aim == "positive":
        found = most_positive(scores, shown, groups, least_empty)
        if found is None:
            raise UserError(
                f"no decision of {segmenter.run.name} leaves {least_empty:g} of the absent classes "
                "empty on val. Ask for less: --empty-accuracy"
            )
        chosen, pooled = found
    else:
        chosen, pooled = choose(scores, shown, groups, aim)
    for k in np.flatnonzero(pooled):
        print(
            f"{segmenter.run.name}: {shown[:, k].sum()} val images show class "
            f"{labels.class_titles[k]}, fewer than {SELDOM}: too few to choose for; it is decided "
            "as suits all classes together"
        )
    thresholds = Thresholds(
        probability=tuple(PROBABILITIES[i] for i, _, _ in chosen),
        peak=tuple(max(PEAKS[j], PROBABILITIES[i]) for i, j, _ in chosen),
        area=(0,) * labels.num_classes,
        total=tuple(int(totals[j]) for _, _, j in chosen),
        aim=aim if least_empty is None else f"{aim}, empty accuracy {least_empty:g}",
    )
    return thresholds, _curve(scores, shown, chosen)


def scaled_totals(labels: Labels, names: Sequence[str]) -> np.ndarray:
    """TOTALS, (T,) int64, for images whose median size is not that of a strip."""
    pixels = list(in_threads(lambda name: labels.read(name).size, names))
    return np.round(np.array(TOTALS) * np.median(pixels) / STRIP_PIXELS).astype(np.int64)


def outcomes_of(
    segmenter: Segmenter, labels: Labels, names: Sequence[str], totals: np.ndarray, batch_size: int
) -> np.ndarray:
    """`outcomes` of every image and class, (N, K, L, P, T) float32: some kilobytes an image."""
    classes = range(1, labels.num_classes + 1)
    scores = []
    with ThreadPoolExecutor(cores()) as pool, tqdm(total=len(names), unit="image") as bar:
        bar.set_description(f"thresholds of {segmenter.run.name}")
        for batch_names, images in decoded_batches(labels, names, batch_size, pool):
            probabilities = segmenter.probabilities(images).numpy(force=True)
            for name, channels in zip(batch_names, probabilities, strict=True):
                truth = labels.label_map(name, channels.shape[1:])
                masks = (truth == k for k in classes)
                each = map if truth.size >= LARGE else pool.map  # a large image class by class
                scores.append(list(each(partial(outcomes, totals=totals), channels[1:], masks)))
            bar.update(len(images))
    return np.array(scores)


def _curve(scores: np.ndarray, shown: np.ndarray, chosen: np.ndarray) -> pd.DataFrame:
    everything = np.ones((1, len(shown)))
    rows = []
    for k, (taken, peak, total) in enumerate(chosen):
        sides = means(scores[:, k, :, peak, total], shown[:, k], everything)
        for row, (positive, empty) in enumerate(zip(*(side[0] for side in sides), strict=True)):
            rows.append(
                {
                    "class": k + 1, "probability": PROBABILITIES[row], "dice_positive": positive,
                    "empty_accuracy": empty, "taken": row == taken,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
