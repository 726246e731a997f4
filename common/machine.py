"""What a process runs on: the cores and the memory it has, and the versions it works with."""

from __future__ import annotations

import math
import os
import platform
import sys
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of work in so many


def cores() -> int:
    """Cores that this process may use; the machine may have more.

    Of those that it is bound to, as many as its container's share of time pays for.
    """
    bound = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0))
    count = bound or os.cpu_count() or 1
    try:
        time, period = map(int, QUOTA.read_text().split())
    except (OSError, ValueError):  # no Linux, no container, or one without a limit: "max"
        return count
    return max(1, min(count, math.ceil(time / period)))


def peak_memory() -> int:
    """The most memory, in bytes, that this process has held at once."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    status = Path("/proc/self/status")  # Linux, whose getrusage counts the parent's as the child's
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str | None]:
    """Versions that figures may depend on, by name; "cuda" is PyTorch's, None without."""
    import cv2
    import numpy as np
    import torch
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "cuda": torch.version.cuda,
    }
