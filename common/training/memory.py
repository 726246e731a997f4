"""Keeping freed memory: the one allocator setting that matters for tensors on a CPU."""

from __future__ import annotations

import ctypes
import sys

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
