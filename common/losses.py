"""Losses by pixel and region: cross-entropy, one-vs-rest BCE, Dice, focal Tversky, Lovász.

All of them act on the same logits `(N, C, H, W)` (class 0 is the background) and a target
`(N, H, W)` int64 of class indices, and return a scalar. The decision is always the argmax over the
C channels. BCE reads each channel as a detector of its class against the rest, with a sigmoid
instead of a softmax; a sigmoid keeps the order, so the argmax of its C detectors is the argmax of
the logits, and BCE can be added to losses that read the same logits through a softmax.

Everything is computed in float32 with autocast off, whatever the type of the logits: in float16 a
sum over one 128x800 image already overflows, in bfloat16 it loses all but two digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config import loss_names
from common.distributed import sum_over_ranks, world_size
from common.metrics import check_range

LARGEST = 10.0  # a class weight, as a multiple of the smallest


def cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy, each pixel weighted by its true class; mean over all N*H*W pixels.

    Unlike torch's weighted mean it divides by the number of pixels and not by the sum of their
    weights, so the loss of a batch is the mean of the losses of its equal shards.
    """
    total = F.cross_entropy(logits, target, weight=class_weights, reduction="sum")
    return total / target.numel()


def binary_cross_entropy(
    logits: Tensor, target: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Sigmoid cross-entropy of C one-vs-rest detectors, the background's included.

    Mean over all N*C*H*W terms; a pixel's C terms are weighted by its true class, as in
    `cross_entropy`, so a rare class gains weight where it is present, not where it is absent.
    """
    # -log sigmoid(-x) where the class is absent, -log sigmoid(x) = softplus(x) - x where present.
    terms = SoftplusSum.apply(logits) - logits.gather(1, target.unsqueeze(1)).squeeze(1)
    if class_weights is not None:
        terms = terms * class_weights[target]
    return terms.mean() / logits.shape[1]


class SoftplusSum(torch.autograd.Function):
    """Sum over C of log(1 + exp(x)), of (N, C, H, W) float32: (N, H, W).

    The sum of logarithms is taken as one logarithm of a product, of factors between 1 and 2: a
    fifth of the time on a CPU, where logarithms are dear. Its error is that of float32 near 1.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        total = logits.clamp(min=0).sum(dim=1)
        for some in logits.split(100, dim=1):  # a product of 128 could be too large for float32
            first, *others = some.abs().neg_().exp_().add_(1).unbind(1)
            for factor in others:
                first *= factor
            total += first.log_()
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        return logits.sigmoid().mul_(gradient.unsqueeze(1))


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss, pooled over the batch; in training on several processes, the global batch.

    1 - (2 * inside + 1) / (probability + truth + 1), from the three sums of `dice_sums`, averaged
    over the classes that the truth contains: an absent class has no Dice to gain, and probability
    given to it is taken from a class that is present. 0 for a perfect prediction, always below 1.
    V-Net's loss (Milletari et al. 2016) with linear sums, smoothed by one pixel.
    """
    inside, probability, truth = _global_sums(logits, target)
    return _mean_where(1 - (2 * inside + 1) / (probability + truth + 1), truth > 0)


def focal_tversky(logits: Tensor, target: Tensor) -> Tensor:
    """Focal Tversky loss (Abraham & Khan 2019, arXiv:1810.07842), pooled as `soft_dice` is.

    (1 - T) ** (3/4), where T = (inside + 1) / (inside + .7 * missed + .3 * invented + 1) is the
    Tversky index, smoothed by one pixel: a missed pixel costs more than an invented one, so that
    small defects are found, and the exponent (the paper's 1 / gamma, gamma 4/3) keeps the pull
    strong on a class that is nearly right. Averaged over the classes that the truth contains; the
    paper sums, over one class and its background. 0 for a perfect prediction, always below 1.
    """
    inside, probability, truth = _global_sums(logits, target)
    missed, invented = truth - inside, probability - inside
    tversky = (inside + 1) / (inside + 0.7 * missed + 0.3 * invented + 1)
    # The power's slope has no bound at 0, where a perfect prediction lies.
    return _mean_where((1 - tversky).clamp(min=1e-9) ** 0.75, truth > 0)


def _mean_where(values: Tensor, present: Tensor) -> Tensor:
    return (values * present).sum() / present.sum()


def _global_sums(logits: Tensor, target: Tensor) -> Tensor:
    """`dice_sums` over the batches of all processes where gradients are wanted.

    Only there: in validation, processes may hold different numbers of batches, and the collective
    call would wait for ever.
    """
    sums = dice_sums(logits, target)
    return _over_ranks(sums) if sums.requires_grad and world_size() > 1 else sums


def dice_sums(logits: Tensor, target: Tensor) -> Tensor:
    """What Dice and Tversky are made of, per class over all pixels: a (3, C) tensor.

    Rows: softmax probability inside the class's truth, softmax probability anywhere, true pixels.
    """
    probabilities = logits.softmax(dim=1)
    truth = one_hot(target, logits.shape[1])
    return torch.stack(
        [x.sum(dim=(0, 2, 3)) for x in (probabilities * truth, probabilities, truth.float())]
    )


def _over_ranks(sums: Tensor) -> Tensor:
    """The sums over all processes, such that DDP's mean of gradients is that of the global loss.

    The gradient reaches this process's own sums only, world_size times as strong: averaged over
    the processes it is exactly the gradient of one process that saw the whole batch.
    """
    own = sums * world_size()
    return own + (sum_over_ranks(sums.detach().clone()) - own.detach())


def lovasz_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Lovász-softmax (Berman et al. 2018, arXiv:1705.08790): a convex surrogate of 1 - IoU.

    Per image: the mean over the classes that the image's truth contains (so 1 - IoU of the
    background where it is clean), then the mean over images. Taken per image it judges as the
    metrics do (a small defect counts as much as a large one), is the mean over equal shards, and
    sorts only the few classes that an image contains.
    """
    probabilities = logits.softmax(dim=1).flatten(2)
    truth = one_hot(target, logits.shape[1]).flatten(2)
    present = truth.any(dim=2)
    weights = present / (present.sum(dim=1, keepdim=True) * len(logits))
    if logits.device.type == "cpu":
        # Picking rows makes the host wait for a GPU; on the CPU it saves most of the sorting.
        probabilities, truth, weights = (x[present] for x in (probabilities, truth, weights))
    errors = (truth.float() - probabilities).abs()
    slopes = lovasz_slopes(errors.detach(), truth)
    return (weights * (errors * slopes).sum(dim=-1)).sum()


def lovasz_slopes(errors: Tensor, truth: Tensor) -> Tensor:
    """Gradient of the Lovász extension of the Jaccard loss with respect to the pixels' errors.

    errors: (..., L) float32 in [0, 1]; truth: (..., L) bool; returns (..., L) float32. The
    extension is linear as long as the order of the errors stays the same, so its value is
    `(errors * slopes).sum(-1)`. A pixel's slope is the rise of 1 - |intersection| / |union| when,
    counted from the largest error down, it is the next one to be wrong.
    """
    order = descending(errors)
    wrong_truth = truth.gather(-1, order)
    misses = wrong_truth.cumsum(-1, dtype=torch.int32)
    ranks = torch.arange(1, errors.shape[-1] + 1, dtype=torch.int32, device=errors.device)
    # At least 1, so that a class without a pixel divides by no zero; its row has weight 0.
    positives = truth.sum(-1, keepdim=True, dtype=torch.int32).clamp_(min=1)
    # A miss shrinks the intersection by 1, a false alarm grows the union by 1. Written out per
    # case: the difference of two neighbouring Jaccard values would cancel most digits of float32.
    intersection = (positives - misses).float()
    union = (positives + ranks - misses).float()
    slopes = torch.where(wrong_truth, 1 / union, intersection / (union * (union - 1)))
    return torch.empty_like(slopes).scatter_(-1, order, slopes)


def descending(errors: Tensor) -> Tensor:
    """Indices (..., L) int64 that sort non-negative float32 values from largest to smallest."""
    if errors.device.type != "cpu":
        return errors.argsort(dim=-1, descending=True)
    # The bits of non-negative floats sort like integers. With the index in the low half of a
    # 64-bit key, sorting values alone gives the order, and NumPy's vectorised sort is several
    # times as fast as torch's sort of values with indices.
    keys = errors.view(torch.int32).bitwise_not().long() << 32
    keys |= torch.arange(errors.shape[-1])
    keys.numpy().sort(axis=-1)
    return keys & 0xFFFFFFFF


def one_hot(target: Tensor, num_classes: int) -> Tensor:
    """(N, H, W) class indices -> (N, C, H, W) bool, without the wait of `F.one_hot` on a device."""
    classes = torch.arange(num_classes, device=target.device).view(1, -1, 1, 1)
    return target.unsqueeze(1) == classes


def class_weights(pixel_counts: Tensor | np.ndarray | Sequence[int]) -> Tensor:
    """Weights of the classes for `build_loss`: inverse square roots of their pixel shares.

    pixel_counts: pixels of each of the C classes as a training draws them, the background's first.
    So a class that sampling or crops show more often gains less weight: what is rare is corrected
    for once.
    Returns (C,) float32. No weight exceeds LARGEST times the smallest, and the mean over pixels is
    1, so the loss keeps its scale. An absent class, on which no training pixel depends, gets 1.
    Raises ValueError for counts that are not one-dimensional, negative, or all zero.
    """
    counts = torch.as_tensor(pixel_counts).double().cpu()
    if counts.ndim != 1 or (counts < 0).any() or not counts.any():
        raise ValueError(
            f"pixel counts must be one number a class, none negative, not all zero; got {counts}"
        )
    share = counts / counts.sum()
    weights = share.rsqrt()
    weights = weights.clamp(max=LARGEST * weights.min())
    weights /= (share * weights).sum()
    return torch.where(counts > 0, weights, 1.0).float()


TERMS: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "ce": cross_entropy,
    "bce": binary_cross_entropy,
    "dice": lambda logits, target, _: soft_dice(logits, target),
    "focal_tversky": lambda logits, target, _: focal_tversky(logits, target),
    "lovasz": lambda logits, target, _: lovasz_softmax(logits, target),
}


def build_loss(name: str, class_weights: Tensor | None = None) -> Loss:
    """The loss called `name`: ce, bce, dice, focal_tversky, lovasz, or a sum such as "ce+dice".

    class_weights: (C,) float, used by ce and bce (the others count classes alike as it is).
    Raises ValueError for an unknown or repeated name.
    """
    return Loss(loss_names(name), class_weights)


class Loss(nn.Module):
    """The sum of the named losses. See `build_loss`.

    Called with logits (N, C, H, W) of any float type and target (N, H, W) int64 in [0, C), it
    returns a float32 scalar, finite for finite logits. Raises ValueError for wrong shapes and
    types, and on the CPU for a target out of range. On a GPU, where looking would make the host
    wait, a target out of range is undefined: a device-side assertion or a wrong value.
    """

    def __init__(self, names: Sequence[str], class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self._check(logits, target)
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            return sum(TERMS[name](logits, target, self.class_weights) for name in self.names)

    def extra_repr(self) -> str:
        return "+".join(self.names)

    def _check(self, logits: Tensor, target: Tensor) -> None:
        if logits.ndim != 4 or not logits.is_floating_point():
            raise ValueError(f"logits must be float (N, C, H, W), got {_describe(logits)}")
        n, classes, *size = logits.shape
        if target.shape != (n, *size) or target.dtype != torch.int64:
            raise ValueError(
                f"target must be int64 {(n, *size)} for logits {tuple(logits.shape)}, "
                f"got {_describe(target)}"
            )
        if target.numel() == 0:
            raise ValueError(f"a batch without pixels has no loss: logits {tuple(logits.shape)}")
        if self.class_weights is not None and self.class_weights.shape != (classes,):
            raise ValueError(
                f"logits have {classes} classes, class weights are {_describe(self.class_weights)}"
            )
        if target.device.type == "cpu":
            check_range("target", target, classes)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
