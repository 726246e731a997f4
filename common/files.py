"""Files that are either whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def publishing(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO]:
    """A file to write to, opened with `mode` and `options`; at the end it is put at `path`.

    No reader and no crash can see half of it: after an exception `path` keeps its earlier content.
    Raises OSError where the folder or the disk refuses.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def publish(path: Path, content: bytes | str) -> None:
    """Writes `content` to `path` in one step, as `publishing` does."""
    with publishing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def publish_json(path: Path, value: Any) -> None:
    """Publishes `value` as indented JSON, which knows no NaN: `without_nan`."""
    publish(path, json.dumps(without_nan(value), indent=2, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """The same nested dicts and lists with every number that is not finite made None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
