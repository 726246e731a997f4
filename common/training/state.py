"""What one training works on, and how far it has come."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from common.config import TrainConfig
from common.dataset.loader import Loader
from common.dataset.prepare import Data
from common.distributed import launcher
from common.tracking import Tracker
from common.training.step import MuonAdamW


@dataclass
class Progress:
    """How far a run has come: the part of its state that is no tensor on the device."""

    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    loss_sum: float = 0.0
    """Of the losses of these steps."""
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Learner:
    """What learns, and from what."""

    config: TrainConfig
    device: torch.device
    data: Data
    train: Loader
    val: Loader
    model: nn.Module
    """Bare network; `network` is the same one compiled and wrapped for many devices."""
    network: nn.Module
    average: nn.Module
    """Averaged weights: what is validated and kept."""
    criterion: nn.Module
    optimiser: MuonAdamW

    @property
    def mixed_precision(self) -> bool:
        return self.config.precision == "bf16"


@dataclass
class Training(Learner):
    """Everything that one training works on."""

    folder: Path
    progress: Progress
    tracker: Tracker
    baselines: dict[str, float]
    """What predictions that look at no image score on the val part."""

    @property
    def resume_command(self) -> str:
        folder = shlex.quote(str(self.folder))
        return f"{launcher()} -m {self.config.variant}.train --resume {folder}"
