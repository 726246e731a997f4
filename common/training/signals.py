"""SIGINT and SIGTERM: before the first step the end, then a request that the loop answers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from common.distributed import max_over_ranks, world_size
from common.errors import Interrupted


class StopRequest:
    """Remembers the first signal. Further ones change nothing: SIGKILL and SIGQUIT still end all.

    torchrun signals the processes that are left as soon as one has gone, and so would cut off the
    save that the first signal asked for.
    """

    signum: int = 0

    def agreed(self, step: int, every: int) -> bool:
        """Whether all processes stop after this step, counted over the whole training.

        Many processes must stop at the same one, so they ask each other, every `every` steps.
        """
        if world_size() > 1:
            if (step + 1) % every:
                return False
            self.signum = max_over_ranks(self.signum)
        return bool(self.signum)


@contextmanager
def end_on_sigterm() -> Iterator[None]:
    """SIGTERM raises Interrupted in the block, as SIGINT raises KeyboardInterrupt.

    So what the block has taken is given back. Not among several processes, which may be waiting for
    one another where no exception reaches them.
    """

    def handle(signum: int, _frame: object) -> None:
        raise Interrupted("stopped by SIGTERM", signum)

    if world_size() > 1:
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a StopRequest while the block runs (main thread only)."""
    request = StopRequest()

    def handle(signum: int, _frame: object) -> None:
        request.signum = request.signum or signum

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
