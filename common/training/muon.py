"""Muon: momentum whose update is made orthogonal, for the weights of convolutions.

After Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
`torch.optim.Muon` takes matrices only, and cannot leave out a step whose loss is not finite without
asking the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: steepest at zero, where small directions start
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, on weights that are read as matrices.

    Rows are the first dimension, columns all others. An update's largest singular value is about
    the learning rate, so one rate suits narrow and wide layers. Weights of one shape are treated
    together: fewer and larger products, in `dtype`.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, bad: Tensor) -> None:
        """One update; none where `bad`, a 0-d float tensor on the device, is not 0.

        Weights without a gradient are left alone.
        """
        for group in self.param_groups:
            for weights in _by_shape(p for p in group["params"] if p.grad is not None):
                self._update(weights, group, bad)

    def _update(self, weights: list[Tensor], group: dict, bad: Tensor) -> None:
        good = 1 - bad
        grads = torch.stack([p.grad.flatten(1) for p in weights])
        grads = torch.where(bad > 0, 0.0, grads)
        kept = [self._momentum(p) for p in weights]
        momentum = torch.stack(kept).lerp_(grads, good * (1 - group["momentum"]))
        torch._foreach_copy_(kept, list(momentum.unbind()))
        updates = orthogonal(grads.lerp_(momentum, group["momentum"]), self.dtype)
        rows, columns = updates.shape[1:]
        updates *= good * (group["lr"] * math.sqrt(max(1, rows / columns)))
        for weight, update in zip(weights, updates, strict=True):
            weight.mul_(1 - good * (group["lr"] * group["weight_decay"]))
            weight.sub_(update.view(weight.shape))

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight.flatten(1))
        return state["momentum"]


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(N, rows, columns) -> the same shape, float32: about the nearest orthogonal matrices.

    Newton-Schulz iterations, computed in `dtype`, bring the singular values near 1 (0.7 to 1.2);
    what has no direction, a zero, stays zero.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)).to(dtype)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def _by_shape(weights: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    shapes: dict[torch.Size, list[Tensor]] = {}
    for weight in weights:
        shapes.setdefault(weight.flatten(1).shape, []).append(weight)
    return shapes.values()
