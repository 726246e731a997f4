"""Every quality figure of a comparison, from tallies, for the images or any resample of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from common.comparison.glossary import describe
from common.comparison.tally import SIZE_EDGES, Tally
from common.labels import class_titles
from common.metrics import image_sums, mean_of_defined, ratio, scores_from_sums


def figures(
    tally: Tally, weights: np.ndarray | None = None, thresholded: bool = False
) -> dict[str, np.ndarray]:
    """Every metric of `describe`, as name -> (B,) float64; NaN where it is not defined.

    weights: (B, N), how often each image counts in each of B resamples; None counts each once
    (B = 1). thresholded: of the decisions with thresholds and least areas.

    A class that the images show, but a resample of them does not, is left out of its means over
    classes, for all variants alike. Else whoever predicts the class there would get a 0 for it, and
    whoever never does none, and that chance would widen every difference.
    """
    if weights is None:
        weights = np.ones((1, len(tally)))
    confusions = tally.confusion_thresholded if thresholded else tally.confusion
    alarms = tally.alarms_thresholded if thresholded else tally.alarms
    num_classes = confusions.shape[-1]
    truth = confusions.sum(axis=2)[:, 1:] > 0
    predicted = confusions.sum(axis=1)[:, 1:] > 0
    clean = ~truth.any(axis=1)

    sums = weights @ image_sums(torch.from_numpy(confusions)).numpy()
    right = weights @ (truth & predicted)
    by_class = {
        "precision": ratio(right, weights @ predicted),
        "recall": ratio(right, weights @ truth),
        "f1": ratio(2 * right, weights @ predicted + weights @ truth),
        "auroc": np.stack(
            [auroc(*pair, weights) for pair in zip(tally.probability.T, truth.T, strict=True)],
            axis=1,
        ),
    }
    found = {
        **_means(scores_from_sums(sums, num_classes), (weights @ truth > 0) | ~truth.any(axis=0)),
        "false_alarms_per_clean_image": ratio(weights @ (alarms * clean), weights @ clean),
        **{
            f"{name}_class_{k}": values[:, k - 1]
            for name, values in by_class.items()
            for k in range(1, num_classes)
        },
    }
    return {name: found[name] for name in describe(class_titles(num_classes - 1, {}))}


def _means(scores: dict[str, np.ndarray], counted: np.ndarray) -> dict[str, np.ndarray]:
    """The scores, with pooled means over the classes `counted` (B, defect classes) alone."""
    classes = range(counted.shape[1] + 1)
    iou, dice = (
        np.stack([scores[f"{name}_class_{k}"] for k in classes], axis=1) for name in ("iou", "dice")
    )
    counted = np.insert(counted, 0, True, axis=1)
    iou, dice = np.where(counted, iou, np.nan), np.where(counted, dice, np.nan)
    return scores | {
        "iou_mean": mean_of_defined(iou[:, 1:]),
        "iou_mean_with_background": mean_of_defined(iou),
        "dice_mean": mean_of_defined(dice[:, 1:]),
    }


def auroc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, (B,): the chance that a positive image scores above a negative one.

    score: (N,); positive: (N,) bool; weights: (B, N). Ties count half (Mann-Whitney U). NaN where
    a resample holds no positive or no negative image, and where a score is.
    """
    if np.isnan(score).any():
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    _, first = np.unique(score[order], return_index=True)
    ordered = weights[:, order]
    negatives = np.add.reduceat(ordered * ~positive[order], first, axis=1)
    positives = np.add.reduceat(ordered * positive[order], first, axis=1)
    below = negatives.cumsum(axis=1) - negatives
    wins = (positives * (below + negatives / 2)).sum(axis=1)
    return ratio(wins, positives.sum(axis=1) * negatives.sum(axis=1))


def size_recall(
    tally: Tally, weights: np.ndarray | None = None, thresholded: bool = False
) -> np.ndarray:
    """Share of truth components found, (B, K + 1, bins): all classes together, then each class.

    weights, thresholded: as of `figures`.
    """
    if weights is None:
        weights = np.ones((1, len(tally)))
    hits = tally.found_thresholded if thresholded else tally.found
    with_total = [
        np.concatenate([counts.sum(axis=1, keepdims=True), counts], axis=1).astype(np.float64)
        for counts in (hits, tally.components)
    ]
    found, components = (np.tensordot(weights, counts, axes=1) for counts in with_total)
    return ratio(found, components)


def size_bins() -> list[tuple[int, int | None]]:
    """Lower and upper border of each size bin, pixels; the last has no upper one."""
    return list(zip((0, *SIZE_EDGES), (*SIZE_EDGES, None), strict=True))


def empty(tally: Tally) -> Tally:
    """The tally of predicting nothing on the same images."""
    confusion = np.zeros_like(tally.confusion)
    confusion[:, :, 0] = tally.confusion.sum(axis=2)
    alarms, found = np.zeros_like(tally.alarms), np.zeros_like(tally.found)
    return dataclasses.replace(
        tally,
        confusion=confusion,
        confusion_thresholded=confusion,
        alarms=alarms,
        alarms_thresholded=alarms,
        probability=np.zeros_like(tally.probability),
        found=found,
        found_thresholded=found,
    )
