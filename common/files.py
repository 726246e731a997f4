"""Files that are either whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from common.errors import UserError

LONGEST = 40  # characters of a name that a file being written keeps: names end at 255 bytes


@contextmanager
def publishing(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO]:
    """A file to write to, opened with `mode` and `options`; at the end it is put at `path`.

    No reader and no crash can see half of it: after an exception `path` keeps its earlier content.
    It has the rights that an earlier file had, else those of any new one. Where `path` is a link,
    what it leads to is replaced; a terminal, a pipe or /dev/null is written to as it is. Raises
    OSError at once where folder or disk refuse, where `path` is a folder, another device or a file
    that may not be written, and at the end where the disk is full.
    """
    path = Path(os.path.realpath(path))
    kind = _kind(path)
    if stat.S_ISCHR(kind) or stat.S_ISFIFO(kind):
        with path.open(mode, **options) as file:
            yield file
        return
    if stat.S_ISBLK(kind):
        raise OSError(errno.EINVAL, "a disk, which this would overwrite", str(path))
    if kind:
        with path.open("ab"):  # refuses what may not be written, as replacing it would not
            pass
    new = path.with_name(f".{path.name[:LONGEST]}.{secrets.token_hex(4)}")
    try:
        with new.open(mode.replace("w", "x"), **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if kind:
            with suppress(OSError):  # some file systems know no rights
                shutil.copymode(path, new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def publish(path: Path, content: bytes | str) -> None:
    """Writes `content` to `path` in one step, as `publishing` does.

    What of a text is no Unicode, as some file names are not, is written as \\udce4.
    """
    with publishing(path) as file:
        is_text = isinstance(content, str)
        file.write(content.encode(errors="backslashreplace") if is_text else content)


def publish_json(path: Path, value: Any) -> None:
    """Publishes `value` as indented JSON, which knows no NaN: `without_nan`."""
    publish(path, json.dumps(without_nan(value), indent=2, allow_nan=False) + "\n")


def try_folder(folder: Path) -> None:
    """Makes the folder and writes into it, before work is done for it. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def refusals_said(what: object, way_out: str = "") -> Iterator[None]:
    """Turns an OSError in the block, which writes `what`, into a UserError.

    way_out: what to do, in lines of its own.
    """
    try:
        yield
    except OSError as error:
        said = f"cannot write {what}: {error.strerror or error}"
        raise UserError(f"{said}\n{way_out}" if way_out else said) from error


def without_nan(value: Any) -> Any:
    """The same nested dicts and lists with every number that is not finite made None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def spare(inputs: Iterable[Path], out: Path) -> None:
    """Raises UserError where `out` is one of the files `inputs`, by whatever name or link."""
    if not out.exists():
        return
    for path in inputs:
        if path.exists() and path.samefile(out):
            raise UserError(f"--out {out} would overwrite {path}. Name another file.")


def _kind(path: Path) -> int:
    """The mode of what lies at `path`; 0 where nothing does."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0
