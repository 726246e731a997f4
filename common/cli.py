"""Commands from typed dataclasses: options parsed by tyro, problems said in words, exit codes."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import tyro

from common.errors import Interrupted, UserError

Config = TypeVar("Config")
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # writing to a file names none

# Positional arguments go by their names; what may be left out is not offered as "None".
HELP_STYLE = (tyro.conf.PositionalMetavarFromFieldName, tyro.conf.DisallowNone)
# Packages that only some commands need, and the extra of pyproject.toml that brings each.
EXTRAS = {
    "kagglehub": "download", "onnx": "export", "onnxruntime": "export", "onnxscript": "export",
    "pycocotools": "coco",
}  # fmt: skip


def run(
    function: Callable[[Config], object] | str,
    config_type: type[Config],
    argv: Sequence[str] | None,
) -> int:
    """Parses `argv` (None: the command line) into `config_type` and calls `function` with it.

    A function named as "module:name" is imported once the options are known to be good: PyTorch
    takes seconds to load, which neither --help nor a mistyped option should wait for.

    Returns the exit code: what `function` returned where that is an int, else 0; 2 for unknown
    options, impossible values, every UserError and every OSError that names a file, printed to
    stderr without a traceback; 128 + signal number after a signal. `--help` prints the options and
    returns 0.
    """
    _open_streams()
    try:
        config, result = parse(config_type, argv), None
        if config is not None:
            action = pkgutil.resolve_name(function) if isinstance(function, str) else function
            result = action(config)
        sys.stdout.flush()  # here, where a full disk can still be said
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        wanted = f"steel-defect-segmentation[{EXTRAS[error.name]}]"
        print(f"error: this needs {error.name}: pip install '{wanted}'", file=sys.stderr)
        return 2
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left, as `head` does
        _drop_output()
        return 141
    except OSError as error:  # what reads or writes says more of most; this is the net below
        if error.filename is None and error.errno not in DISK:
            raise
        _drop_output()
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        print(f"error: {place}{error.strerror}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # of Path.resolve, before Python 3.13
        if not str(error).startswith("Symlink loop"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


def _open_streams() -> None:
    """Makes stdout and stderr streams that can be printed to, whatever they were given as.

    A stream that was closed would give its number to the next file, and get lost lines written
    into it. One in latin-1 cannot show every letter, nor any one a file name that is no Unicode.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (the process's own)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Leaves Python nothing to complain of where it empties stdout at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(config_type: type[Config], argv: Sequence[str] | None) -> Config | None:
    """The options as a `config_type`; None where `--help` was asked for, and has been printed.

    `--help` begins with the docstring of the module that `config_type` stands in.
    A `config_type` with an attribute `given` gets there the names of the fields that `argv` names;
    its `shorthands` are options that stand for fields. Raises UserError for options that are
    unknown, missing or given beside their shorthand, and for those that the dataclass refuses:
    its `__post_init__` raises ValueError.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            config = tyro.cli(
                config_type,
                args=argv,
                prog=_program(),
                description=sys.modules[config_type.__module__].__doc__,
                config=HELP_STYLE,
            )
    except ValueError as error:
        raise UserError(str(error)) from error
    except SystemExit as leaving:  # tyro's way out, with its message on stderr
        if leaving.code in (0, None):
            return None
        raise UserError(f"these options cannot be used\n{said.getvalue().strip()}") from None
    if hasattr(config, "given"):
        config.given = _named(config_type, sys.argv[1:] if argv is None else argv)
    return config


def _program() -> str:
    """The command as it is typed: python -m common.compare, python unet_64x400/train.py."""
    module = sys.modules["__main__"].__spec__
    return f"python -m {module.name}" if module else f"python {sys.argv[0]}"


def _named(config_type: type, argv: Sequence[str]) -> frozenset[str]:
    """Fields whose option stands in `argv`: --batch-size 4, --batch_size=4, --no-compile, ..."""
    words = {word.partition("=")[0].removeprefix("--").replace("-", "_")
             for word in argv if word.startswith("--")}  # fmt: skip
    names = {field.name for field in dataclasses.fields(config_type)}
    named = {name for name in names if name in words or f"no_{name}" in words}
    for short, stands_for in getattr(config_type, "shorthands", {}).items():
        if short not in words:
            continue
        if named.intersection(stands_for):
            options = " and ".join(f"--{name}" for name in stands_for)
            raise UserError(f"--{short} stands for {options}: give the one or the others.")
        named.update(stands_for)
    return frozenset(named)
