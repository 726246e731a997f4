"""Memory: kept where tensors on a CPU free it; said in words where there is none left."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from common.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc to keep large freed blocks instead of giving them back to the kernel.

    A training step frees and allocates the same large tensors again and again; by default each
    comes back as fresh pages, which the kernel must fault in and clear one by one. Returns
    whether it was set: False on systems without glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, _LARGEST))


@contextmanager
def no_memory_said(message: Callable[[], str]) -> Iterator[None]:
    """Turns a lack of memory, on a GPU or on the CPU, into a UserError with `message()`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # PyTorch has a type of its own for GPUs alone; on the CPU the text tells.
        told = any(text in str(error) for text in ("DefaultCPUAllocator", "bad_alloc"))
        if not (told or isinstance(error, MemoryError | torch.OutOfMemoryError)):
            raise
        raise UserError(message()) from error
