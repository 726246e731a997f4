"""Files that are either whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def publish(path: Path, content: bytes | str) -> None:
    """Writes `content` to `path` in one step that no reader and no crash can see half of.

    Raises OSError where the folder or the disk refuses; `path` then keeps its earlier content.
    """
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def publish_json(path: Path, value: Any) -> None:
    """Publishes `value` as indented JSON."""
    publish(path, json.dumps(value, indent=2) + "\n")
