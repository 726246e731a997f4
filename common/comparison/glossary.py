"""What the figures of a comparison are called, how each is made, and which way is better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

# In the order in which a reader should judge by them: the first that was measured is shown first.
# Positive Dice does not see what is invented on images without the class, so it cannot lead.
HEADLINES = ("dice_mean", "dice_positive_macro", "dice_positive", "iou_mean", "kaggle_dice")

_POOLED = "Over all pixels of the test images at native size, errors against background counted"
_BY_IMAGE = "By image: the class is in the truth, the class is predicted anywhere"
_REFERENCE = (
    "The pooled confusion matrix with the background's row and column set to 0, so that a missed "
    "or an invented defect costs nothing; only to compare with figures that were made this way"
)

# key, title, explanation
_OVERALL = (
    ("dice_mean", "Mean Dice", f"{_POOLED}: 2 TP / (2 TP + FP + FN), mean over defect classes."),
    ("iou_mean", "Mean IoU", f"{_POOLED}: TP / (TP + FP + FN), mean over defect classes."),
    (
        "iou_mean_with_background",
        "Mean IoU with background",
        "The IoU of the background and of every defect class, then the mean: what most papers call "
        "mIoU. The background is almost all of a strip and almost always right, which lifts it.",
    ),
    (
        "dice_positive",
        "Positive Dice",
        "Over pairs of an image and a defect class in its truth: mean Dice; a miss is 0.",
    ),
    (
        "dice_positive_macro",
        "Positive Dice, macro",
        "Positive Dice of each class, then the mean over classes: a rare class weighs as much as a "
        "frequent one.",
    ),
    (
        "kaggle_dice",
        "Kaggle Dice",
        "Over all pairs of an image and a defect class: mean Dice, 1 where truth and prediction "
        "are both empty. To be read beside what predicting nothing scores.",
    ),
    (
        "empty_accuracy",
        "Empty accuracy",
        "Over pairs of an image and a defect class that is not in its truth: share for which "
        "nothing is predicted. Predicting nothing scores 1: to be read beside Positive Dice.",
    ),
    ("accuracy", "Pixel accuracy", f"{_POOLED}: share of right pixels, most of them background."),
)
_BY_CLASS = (
    ("dice", "Dice", f"{_POOLED}: 2 TP / (2 TP + FP + FN)."),
    ("iou", "IoU", f"{_POOLED}: TP / (TP + FP + FN)."),
    (
        "dice_positive",
        "Positive Dice",
        "Over the images with the class in their truth: mean Dice of the class; a miss is 0.",
    ),
    ("precision", "Precision", f"{_BY_IMAGE}. Share of such predictions that are right."),
    ("recall", "Recall", f"{_BY_IMAGE}. Share of such images that are predicted so."),
    ("f1", "F1", f"{_BY_IMAGE}. Harmonic mean of precision and recall."),
    (
        "auroc",
        "AUROC",
        "By image: the chance that an image with the class has a higher peak probability of it "
        "than an image without. It needs no threshold; 0.5 is guessing.",
    ),
)
_FALSE_ALARMS = (
    "Connected components (8 neighbours) predicted on images without any defect, divided by the "
    "number of such images."
)
_AS_REFERENCE = (
    ("reference_accuracy", "Reference accuracy", f"{_REFERENCE}: share of right pixels."),
    ("reference_iou", "Reference IoU", f"{_REFERENCE}: mean IoU."),
    ("reference_dice", "Reference Dice", f"{_REFERENCE}: mean Dice."),
)


def describe(classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every metric by key: title, explanation, better ("higher", "lower" or None) and unit.

    classes: what to call the defect classes, in order.
    """

    def entry(title: str, explanation: str, better: str | None, unit: str) -> dict[str, Any]:
        return {"title": title, "explanation": explanation, "better": better, "unit": unit}

    overall = {key: entry(title, how, "higher", "share") for key, title, how in _OVERALL}
    alarms = entry("False alarms per clean image", _FALSE_ALARMS, "lower", "components")
    by_class = {
        f"{key}_class_{k}": entry(f"{title}, class {name}", how, "higher", "share")
        for key, title, how in _BY_CLASS
        for k, name in enumerate(classes, start=1)
    }
    reference = {key: entry(title, how, None, "share") for key, title, how in _AS_REFERENCE}
    return {**overall, "false_alarms_per_clean_image": alarms, **by_class, **reference}


def widened(results: dict[str, Any]) -> str:
    """Says that the intervals of differences are corrected, where there are several of them."""
    count = len(results["variants"])
    pairs = count * (count - 1) // 2
    if pairs < 2:
        return ""
    return (
        f"Each figure compares {pairs} pairs: the intervals of their differences are widened so "
        "that, with 95 % confidence, all of them hold together (Bonferroni). "
    )


def said_once(results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to call each metric of the results, and its entry; all classes share the first one's."""
    for metric, about in results["metrics"].items():
        _, by_class, k = metric.rpartition("_class_")
        if not by_class:
            yield about["title"], about
        elif k == "1":
            yield f"{about['title'].split(',')[0]} of a class", about
