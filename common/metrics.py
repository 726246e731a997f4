"""Segmentation metrics, all of them derived from one confusion matrix an image.

A confusion matrix `(C, C)` counts pixels, rows by truth, columns by prediction, class 0 being the
background; of an image it is all that any of the metrics needs. Every score is a function of sums
over images (`image_sums`), so scores stream over batches in constant memory, add up over processes,
and are resampled thousands of times by one product of matrices. `scores` says what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from common.distributed import sum_over_ranks

Array = Tensor | np.ndarray


class ConfusionMatrix:
    """Scores of a stream of batches, accumulated on the batches' device without waiting for it."""

    def __init__(self, num_classes: int = 5, device: torch.device | str = "cpu") -> None:
        """device: where the sums begin; they follow the batches, if there are any."""
        self.num_classes = num_classes
        no_images = torch.zeros(0, num_classes, num_classes, device=device)
        self._sums = image_sums(no_images).sum(dim=0)

    def reset(self) -> None:
        """Forgets everything."""
        self._sums = torch.zeros_like(self._sums)

    def update(self, pred: Array, target: Array) -> None:
        """Adds a batch.

        pred: (N, H, W) class indices, or (N, C, H, W) float logits, decided by argmax;
        target: (N, H, W) class indices. Raises ValueError as `confusion` does.
        """
        batch = image_sums(confusion(decide(pred), target, self.num_classes)).sum(dim=0)
        self._sums = self._sums.to(batch.device) + batch

    def all_reduce(self) -> None:
        """Adds up the sums of all processes, once, before `compute`; alone, does nothing."""
        self._sums = sum_over_ranks(self._sums)

    def compute(self) -> dict[str, float]:
        """The metrics of `scores` over all images so far; every one NaN where there were none."""
        return scores_from_sums(self._sums.cpu().numpy(), self.num_classes)


def confusion(pred: Array, target: Array, num_classes: int = 5) -> Tensor:
    """Confusion matrices of N images.

    pred, target: (N, H, W), any integer type, values in [0, num_classes). Returns
    (N, num_classes, num_classes) int64, rows truth, columns prediction, on the inputs' device,
    without making the host wait for it. Raises ValueError for wrong shapes or types and, on the
    CPU, for values out of range; on a GPU, where looking would wait, those are miscounted.
    """
    pred, target = _as_tensor(pred), _as_tensor(target)
    floating = pred.is_floating_point() or target.is_floating_point()
    if floating or pred.ndim != 3 or pred.shape != target.shape:
        raise ValueError(
            "prediction and truth must be integers of one shape (N, H, W), got "
            f"{pred.dtype} {tuple(pred.shape)} and {target.dtype} {tuple(target.shape)}"
        )
    pred, target = pred.flatten(1).int(), target.flatten(1).int()
    cells = num_classes**2
    codes = target * num_classes + pred
    if codes.device.type != "cpu":
        # torch.bincount asks the device for the largest code and waits for the answer.
        counts = torch.stack([(codes == cell).sum(dim=1) for cell in range(cells)], dim=1)
    else:
        check_range("prediction", pred, num_classes)
        check_range("truth", target, num_classes)
        codes += cells * torch.arange(len(codes), dtype=torch.int32).unsqueeze(1)
        counts = torch.bincount(codes.flatten(), minlength=len(codes) * cells)
    return counts.view(len(codes), num_classes, num_classes)


def decide(pred: Array) -> Tensor:
    """Class indices (N, H, W): the argmax of float logits (N, C, H, W); indices pass unchanged."""
    pred = _as_tensor(pred)
    # On the CPU, max is several times as fast as argmax over a dimension that is not the last.
    return pred.max(dim=1).indices if pred.ndim == 4 and pred.is_floating_point() else pred


def scores(confusions: Array) -> dict[str, float]:
    """All metrics of a set of images.

    confusions: (N, C, C), one matrix an image, rows truth, columns prediction.
    A score that is not defined (a class that does not occur, no image at all) is NaN.

    Over the pooled pixels of all images, errors against the background counted:
    - `accuracy`: share of right pixels.
    - `iou_class_k`, `dice_class_k`: TP / (TP + FP + FN) and 2 TP / (2 TP + FP + FN) of each class,
      0 the background; NaN for a class in neither truth nor prediction.
    - `iou_mean`, `dice_mean`: means over the defect classes 1..C-1 that occur in truth or
      prediction; so a class that is invented counts as 0.
    - `iou_mean_with_background`: the same over the classes 0..C-1, what most papers call mIoU.

    Over pairs of an image and a defect class, each pair's Dice taken by itself:
    - `kaggle_dice`: mean over all pairs; 1 where truth and prediction are both empty. The metric of
      the Severstal competition.
    - `kaggle_dice_empty`: the `kaggle_dice` of predicting nothing at all, on the same truth.
    - `empty_accuracy`: share of the pairs without a defect in the truth for which nothing is
      predicted.
    - `dice_positive`: mean over the pairs with a defect in the truth; a miss is 0.
    - `dice_positive_class_k`: the same for one class; `dice_positive_macro`: mean over classes.

    `reference_accuracy`, `reference_iou`, `reference_dice`: with the pooled matrix's background row
    and column set to 0, trace / sum, and the mean IoU and Dice over the classes left. What is
    missed (truth k, predicted 0) or invented (truth 0, predicted k) stands in that row and column,
    so these scores do not see it: only taking one defect for another costs anything.
    """
    sums = image_sums(torch.as_tensor(confusions)).numpy(force=True)
    return scores_from_sums(np.ones(len(sums)) @ sums, confusions.shape[-1])


def image_sums(confusions: Tensor) -> Tensor:
    """The numbers (N, C*C + 4*(C-1)) float64 of N images whose sums determine every score.

    confusions: (N, C, C). Columns: the matrix itself, then for each defect class 1..C-1 its Dice
    (0 where there is nothing to overlap), and 1 or 0 for truth and prediction both empty, for truth
    present, and for truth absent. Sums of these rows over any sets of images, such as groups, go to
    `scores_from_sums`.
    """
    pixels = confusions.double()
    hits = pixels.diagonal(dim1=1, dim2=2)[:, 1:]
    truth, pred = pixels.sum(dim=2)[:, 1:], pixels.sum(dim=1)[:, 1:]
    dice = 2 * hits / (truth + pred).clamp(min=1)
    return torch.cat([pixels.flatten(1), dice, truth + pred == 0, truth > 0, truth == 0], dim=1)


def scores_from_sums(
    sums: np.ndarray, num_classes: int
) -> dict[str, float] | dict[str, np.ndarray]:
    """The metrics of `scores` from sums (F,) of rows of `image_sums`; arrays (B,) from (B, F)."""
    cells = num_classes**2
    pixels = sums[..., :cells].reshape(*sums.shape[:-1], num_classes, num_classes)
    dice, empty, positive, negative = np.split(sums[..., cells:], 4, axis=-1)
    pairs = (positive + negative).sum(axis=-1)
    accuracy, iou_pooled, dice_pooled = _pooled(pixels)
    # Dropping the background row and column leaves the same sums as setting them to 0.
    reference_accuracy, reference_iou, reference_dice = _pooled(pixels[..., 1:, 1:])
    dice_positive = ratio(dice, positive)

    result = {
        "accuracy": accuracy,
        "iou_mean": mean_of_defined(iou_pooled[..., 1:]),
        "iou_mean_with_background": mean_of_defined(iou_pooled),
        "dice_mean": mean_of_defined(dice_pooled[..., 1:]),
        **{f"iou_class_{k}": iou_pooled[..., k] for k in range(num_classes)},
        **{f"dice_class_{k}": dice_pooled[..., k] for k in range(num_classes)},
        "kaggle_dice": ratio(dice.sum(axis=-1) + empty.sum(axis=-1), pairs),
        "kaggle_dice_empty": ratio(negative.sum(axis=-1), pairs),
        "empty_accuracy": ratio(empty.sum(axis=-1), negative.sum(axis=-1)),
        "dice_positive": ratio(dice.sum(axis=-1), positive.sum(axis=-1)),
        "dice_positive_macro": mean_of_defined(dice_positive),
        **{f"dice_positive_class_{k}": dice_positive[..., k - 1] for k in range(1, num_classes)},
        "reference_accuracy": reference_accuracy,
        "reference_iou": mean_of_defined(reference_iou),
        "reference_dice": mean_of_defined(reference_dice),
    }
    return result if sums.ndim > 1 else {name: float(value) for name, value in result.items()}


def kaggle_dice(pred: Array, target: Array, num_classes: int = 5) -> float:
    """Mean Dice over image x defect class, 1 where both are empty (the Severstal competition's).

    pred: (N, H, W) class indices or (N, num_classes, H, W) float logits; target: (N, H, W).
    Raises ValueError as `confusion` does.
    """
    return scores(confusion(decide(pred), target, num_classes))["kaggle_dice"]


def baselines(pixel_counts: Array) -> dict[str, dict[str, float]]:
    """What two predictions score that look at no image: the floor under every result.

    pixel_counts: (N, C) pixels of each class in the truth of each image; with confusion matrices
    at hand, `confusions.sum(-1)`. Returns the `scores` of predicting nothing as "empty", and those
    of predicting the same defect everywhere as "all_class_k", for the k with the best
    `dice_positive`.
    """
    counts = torch.as_tensor(pixel_counts)
    num_classes = counts.shape[1]

    def everywhere(k: int) -> dict[str, float]:
        confusions = counts.new_zeros(*counts.shape, num_classes)
        confusions[:, :, k] = counts
        return scores(confusions)

    defects = {f"all_class_{k}": everywhere(k) for k in range(1, num_classes)}
    best = max(defects, key=lambda name: defects[name]["dice_positive"])
    return {"empty": everywhere(0), best: defects[best]}


def merit(row: Mapping[str, float]) -> tuple[float, float]:
    """What the best epoch has most of, from its row of metrics.csv: val mean Dice, then low loss.

    Mean Dice counts misses, false alarms and mix-ups alike. Where it is undefined, as on a val part
    without defects, it is taken as 0, as where nothing is found: the loss then decides alone.
    """
    dice, loss = row["val/dice_mean"], row["val/loss"]
    return dice if math.isfinite(dice) else 0.0, -loss if math.isfinite(loss) else -math.inf


def _pooled(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracy (...), IoU and Dice (..., C) of confusion matrices (..., C, C)."""
    hits = np.diagonal(pixels, axis1=-2, axis2=-1)
    both = pixels.sum(axis=-1) + pixels.sum(axis=-2)
    accuracy = ratio(hits.sum(axis=-1), pixels.sum(axis=(-2, -1)))
    return accuracy, ratio(hits, both - hits), ratio(2 * hits, both)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is 0."""
    shape = np.broadcast_shapes(np.shape(above), np.shape(below))
    return np.divide(above, below, out=np.full(shape, np.nan), where=below != 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values that are not NaN; NaN where all are."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def _as_tensor(values: Array) -> Tensor:
    # A copy: stored label maps are read-only, and views may run backwards; torch wants neither.
    return torch.from_numpy(np.array(values)) if isinstance(values, np.ndarray) else values


def check_range(name: str, values: Tensor, num_classes: int) -> None:
    """Raises ValueError, of `name`, unless all class indices lie in [0, num_classes)."""
    if values.numel() == 0:
        return
    low, high = (int(x) for x in values.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name} must lie in 0..{num_classes - 1} for {num_classes} classes, "
            f"holds {low}..{high}"
        )
