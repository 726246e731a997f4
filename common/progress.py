"""Progress bars where somebody watches: on a terminal or in a notebook, not in a log file."""

from __future__ import annotations

import sys
from typing import Any

import tqdm as library


class tqdm(library.tqdm):
    """tqdm's bar; where stderr is neither a terminal nor a notebook's it draws nothing."""

    def __init__(self, *arguments: Any, disable: bool | None = None, **options: Any) -> None:
        # Left to itself, tqdm takes a notebook's stderr, which is no terminal, for a file.
        in_notebook = type(sys.stderr).__module__.startswith("ipykernel")
        if not disable:
            disable = sys.stderr is None or (False if in_notebook else None)
        super().__init__(*arguments, disable=disable, **options)
