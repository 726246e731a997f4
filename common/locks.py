"""One process at a time, by a lock file, where the file system knows locks."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from common.progress import tqdm

# What file systems without locks answer: some network shares and those mounted so.
UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


def hold(path: Path, wait: bool = True) -> AbstractContextManager:
    """Takes the lock file `path`, made where it is missing; leaving the context gives it back.

    The lock goes with the process, however that ends; the file stays. Where the file system knows
    no locks this is said once, and nothing is held. Raises BlockingIOError where another process
    holds the lock and `wait` is False, OSError where the file cannot be written.
    """
    # A file in place of the lock (its "soft" one) would outlive a process that was killed.
    lock = FileLock(path, fallback_to_soft=False, thread_local=False)
    try:
        return lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise BlockingIOError(errno.EAGAIN, "another process holds the lock", str(path)) from error
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        _say_unlocked(path.parent)
        return nullcontext()


@cache
def _say_unlocked(folder: Path) -> None:
    tqdm.write(
        f"warning: the file system of {folder} knows no locks: take care that no two processes "
        "work there at a time"
    )
