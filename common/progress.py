"""Progress bars where somebody watches: on a terminal or in a notebook, not in a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import tqdm as library

from common.machine import cores

Item, Result = TypeVar("Item"), TypeVar("Result")


class tqdm(library.tqdm):
    """tqdm's bar; where stderr is neither a terminal nor a notebook's it draws nothing."""

    def __init__(self, *arguments: Any, disable: bool | None = None, **options: Any) -> None:
        # Left to itself, tqdm takes a notebook's stderr, which is no terminal, for a file.
        in_notebook = type(sys.stderr).__module__.startswith("ipykernel")
        if not disable:
            disable = sys.stderr is None or (False if in_notebook else None)
        super().__init__(*arguments, disable=disable, **options)


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int = 0, **bar: Any
) -> Iterator[Result]:
    """`work` of each item, in order; for what releases the interpreter lock.

    threads: 0 for one a core. bar: options of tqdm; without any there is no bar. What `work` raises
    is raised here; then, and where nobody asks further, items that were not begun are let be.
    """
    pool = ThreadPoolExecutor(threads or cores())
    try:
        yield from tqdm(pool.map(work, items), total=len(items), **(bar or {"disable": True}))
    finally:
        pool.shutdown(cancel_futures=True)
