"""The memory that a computation needs at most."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_of(compute: Callable[[], Any], device: torch.device) -> int:
    """Bytes of all tensors that `compute` makes and that are alive at once, at most.

    On a GPU as its allocator counts; on a CPU, whose allocator does not, by following tensors.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        compute()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with LiveTensors() as live:
        compute()
    return live.peak


class LiveTensors(TorchDispatchMode):
    """Follows the bytes of the tensors that operations make; `peak` is the most at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [*tree_leaves(args), *tree_leaves(kwargs)]
        known = {storage(t) for t in given if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and storage(made) not in known:
                self._alive[storage(made)] = made.untyped_storage().nbytes()
                weakref.finalize(made.untyped_storage(), self._alive.pop, storage(made), None)
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


def storage(tensor: torch.Tensor) -> int:
    """The address of a tensor's storage: views share it."""
    return tensor.untyped_storage()._cdata
