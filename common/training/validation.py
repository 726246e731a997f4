"""Loss and scores on the val part."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from common import distributed
from common.metrics import ConfusionMatrix
from common.training.state import Learner


@torch.inference_mode()
def validate(
    learner: Learner, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, float]:
    """Loss and scores of the averaged weights on all processes' `batches`, at the training size.

    batches: as `learner.val` gives them.
    """
    if distributed.world_size() > 1:  # each process saw other batches: rank 0's statistics count
        for buffer in learner.average.buffers():
            torch.distributed.broadcast(buffer, src=0)
    matrix = ConfusionMatrix(learner.data.num_classes, learner.device)
    loss_sum = torch.zeros(2, dtype=torch.float64, device=learner.device)
    for images, targets in batches:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=learner.mixed_precision):
            logits = learner.average(images)
        matrix.update(logits, targets)
        loss = learner.criterion(logits, targets).double()
        loss_sum += torch.stack((loss * len(images), torch.full_like(loss, len(images))))
    matrix.all_reduce()
    loss_sum = distributed.sum_over_ranks(loss_sum).tolist()
    scores = {f"val/{name}": value for name, value in matrix.compute().items()}
    return {"val/loss": loss_sum[0] / loss_sum[1], **scores}
