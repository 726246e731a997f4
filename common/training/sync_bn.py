"""Batch normalisation over the batches of all processes: torch's own on GPUs, this one on CPUs."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.nn.functional import all_reduce


class SyncBatchNormCpu(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of the global batch.

    Every process must hold a batch of the same number of images.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape and dtype; updates the running statistics in training.

        Computed in float32, from deviations: a difference of squares would cancel.
        """
        if not self.training:
            return super().forward(features)
        count = torch.distributed.get_world_size() * features[:, 0].numel()
        values = features.float()
        mean = all_reduce(values.sum((0, 2, 3))) / count
        deviations = values - mean[:, None, None]
        variance = all_reduce(deviations.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        normalised = deviations * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(features.dtype)


def synchronise_batch_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with every BatchNorm2d replaced by a synchronised one of the same state."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            synced = SyncBatchNormCpu(child.num_features, child.eps, child.momentum).to(device)
            synced.load_state_dict(child.state_dict())
            setattr(model, name, synced)
        else:
            synchronise_batch_norms(child, device)
    return model
