"""One optimiser step and its parts: learning rate, optimiser, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from common.config import TrainConfig
from common.training.muon import Muon

MUON_LR = 10  # Muon's learning rate, in those of AdamW


def learning_rate(step: int, total: int, peak: float, warmup: float) -> float:
    """Learning rate of step 0 <= step < total: a linear rise, then a cosine down to 1 % of peak."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return peak * (step + 1) / rise
    progress = (step - rise) / max(1, total - rise)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


class MuonAdamW:
    """Muon on the weights of convolutions, fused AdamW on biases and batch norms, as one.

    Weight decay acts on convolution weights only.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        weights = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        self.muon = Muon(weights, MUON_LR * config.lr, config.weight_decay, dtype=dtype)
        self.adamw = torch.optim.AdamW(others, config.lr, weight_decay=0.0, fused=True)

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self.adamw.param_groups[0]["lr"]

    @lr.setter
    def lr(self, lr: float) -> None:
        self.adamw.param_groups[0]["lr"] = lr
        self.muon.param_groups[0]["lr"] = MUON_LR * lr

    def zero_grad(self) -> None:
        self.muon.zero_grad()
        self.adamw.zero_grad()

    def step(self, bad: torch.Tensor) -> None:
        """Updates the weights; not where `bad`, a 0-d float tensor on the device, is 1.0."""
        self.muon.step(bad)
        self.adamw.grad_scale, self.adamw.found_inf = None, bad
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`. Raises what PyTorch does, or ValueError, for another network's."""
        for name, optimiser in (("muon", self.muon), ("adamw", self.adamw)):
            optimiser.load_state_dict(state[name])
            for weight, kept in optimiser.state.items():
                # PyTorch takes any, and a fused step would read beyond what is too short.
                if any(value.numel() not in (1, weight.numel()) for value in kept.values()):
                    raise ValueError(f"{name} holds moments of another size than the weights")


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves the averaged weights and batch statistics towards the model's: an exponential mean.

    Counters (integer buffers) are copied.
    """
    pairs = list(zip(_state(average), _state(model), strict=True))
    floats = [(a, m) for a, m in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [m for _, m in floats], 1 - decay)
    for a, m in pairs:
        if not a.is_floating_point():
            a.copy_(m)


def ema_decay(step: int, decay: float) -> float:
    """Decay at a step: short memory at first, so that the random start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


def optimise(
    model: nn.Module,
    criterion: nn.Module,
    optimiser: MuonAdamW,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    clip: float,
    mixed_precision: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward, backward, update. Returns (loss, bad), two 0-d tensors on the device.

    bad is 1.0 where the loss or a gradient is not finite: the optimiser then leaves parameters and
    moments as they are. Nothing here waits for the device.
    """
    optimiser.zero_grad()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed_precision):
        logits = model(images)
    loss = criterion(logits, targets)
    # A loss that is not finite makes all gradients so, on every process that shares them.
    loss.backward(torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan).to(loss))
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    bad = (~torch.isfinite(norm)).float()
    optimiser.step(bad)
    return loss.detach(), bad


def _state(model: nn.Module) -> Iterable[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
