"""A trained network that another learns from beside the labels: its probabilities of every crop.

Knowledge distillation (Hinton, Vinyals & Dean 2015, arXiv:1503.02531) at temperature 1; how it
enters the loss is said in `common.losses.Loss`.
"""

from __future__ import annotations

import torch

from common import runs
from common.blocks import fuse
from common.config import TrainConfig
from common.dataset.prepare import Data
from common.devices import memory_format
from common.errors import UserError


class Teacher:
    """The best network of the run that --teacher names; it does not learn."""

    def __init__(self, config: TrainConfig, data: Data, device: torch.device) -> None:
        """Raises UserError for a run of another input size, of other classes or of other bits."""
        run = runs.load(config.teacher)
        theirs = (*run.size, run.num_classes - 1, run.bits)
        ours = (config.height, config.width, data.num_classes - 1, data.labels.bits)
        if theirs != ours:
            said = "{}x{}, {} classes of defect, {} bits in use of 16-bit images"
            raise UserError(
                f"--teacher {config.teacher} does not fit. It has {said.format(*theirs)}; this "
                f"run has {said.format(*ours)}."
            )
        self.network = fuse(run.build_model()).requires_grad_(False)
        self.network.to(device, memory_format=memory_format(device))
        self.mixed_precision = config.precision == "bf16"
        # Images come normalised for the learner.
        (mean, std), (its_mean, its_std) = data.normalisation, run.normalisation
        self.gain, self.offset = std / its_std, (mean - its_mean) / its_std

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) float32 as the learner gets it -> probabilities (N, C, H, W) float32."""
        images = images * self.gain + self.offset
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.mixed_precision):
            logits = self.network(images)
        return logits.float().softmax(1)
