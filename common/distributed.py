"""The few things that differ between one process and many (torchrun): set-up, ranks, sums."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from common.errors import UserError

FILLING = timedelta(hours=24)  # that the caches of a large data set on a slow disk may take


def launched() -> bool:
    """Whether torchrun started this process (it sets these variables)."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launcher() -> str:
    """The command that starts as many processes on this node as there are now."""
    if not launched():
        return "python"
    return f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', 1)}"


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Joins the processes that torchrun started (NCCL on GPUs, else gloo); alone, does nothing.

    Raises UserError where another process dies, and where the variables that torchrun sets are not
    whole.
    """
    if not launched():
        yield
        return
    with lost_peer_said("start all of them again"):
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except ValueError as error:
            raise UserError(
                f"RANK and WORLD_SIZE are set, so this should be one process of many: {error}\n"
                "Start it with torchrun, or unset them to train in one process."
            ) from error
        try:
            yield
        finally:
            dist.destroy_process_group()


@contextmanager
def lost_peer_said(advice: str) -> Iterator[None]:
    """Turns the failure of what processes do together, where one has died, into a UserError."""
    try:
        yield
    except RuntimeError as error:
        # NCCL and the store have types of their own; gloo's is told by its text alone.
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise UserError(
            f"another process of this training has ended; what it said tells why. When it is "
            f"mended, {advice}."
        ) from error


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files, prints and logs."""
    return rank() == 0


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The tensor summed over all processes, in place; itself where there is one process."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def max_over_ranks(value: int) -> int:
    """The largest of all processes' numbers, on every process."""
    if world_size() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    box = torch.tensor(value, device=device)
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return int(box)


def barrier() -> None:
    """Waits here until all processes have come."""
    if world_size() > 1:
        dist.barrier()


def from_main(value: object) -> object:
    """Rank 0's value of a small picklable object, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@contextmanager
def one_at_a_time_per_node() -> Iterator[None]:
    """Lets each node's first process go ahead (it fills the caches), then the others."""
    if world_size() == 1:
        yield
        return
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    group = dist.new_group(backend="gloo", timeout=FILLING)  # NCCL gives up after 10 minutes
    if not first:
        dist.barrier(group)
    yield
    if first:
        dist.barrier(group)
    dist.destroy_process_group(group)
