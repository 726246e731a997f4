"""Commands from typed dataclasses: options parsed by tyro, problems said in words, exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from common.errors import UserError
from common.signals import Interrupted

Config = TypeVar("Config")


def run(
    function: Callable[[Config], object], config_type: type[Config], argv: Sequence[str] | None
) -> int:
    """Parses `argv` (None: the command line) into `config_type` and calls `function` with it.

    Returns the exit code: what `function` returned where that is an int, else 0; 2 for unknown
    options, impossible values and every UserError, printed without a traceback; 128 + signal
    number after a signal. `--help` prints the options and returns 0.
    """
    try:
        config = parse(config_type, argv)
        result = function(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as leaving:  # tyro's way out after --help
        return int(leaving.code or 0)
    return result if isinstance(result, int) else 0


def parse(config_type: type[Config], argv: Sequence[str] | None) -> Config:
    """The options as a `config_type`. Raises UserError for those that do not fit."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(config_type, args=argv)
    except ValueError as error:  # from the dataclass's own checks
        raise UserError(str(error)) from error
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise UserError(said.getvalue().strip()) from None
