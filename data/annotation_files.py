"""What annotation tools write as JSON, read with suspicion, and the images that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from common.errors import UserError
from common.tables import same
from data.conversion import list_images

Index = Mapping[str, list[Path]]


def read_json(path: Path) -> Any:
    """The file's content. Raises UserError where it cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def part(entry: Any, key: str, kinds: type | tuple[type, ...], where: str) -> Any:
    """`entry[key]`. Raises UserError, which says `where`, unless it is there and of such a type."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UserError(f"{where}: {key!r} is missing or is not what it should be.")
    return value


def is_near(value: Any, length: int) -> bool:
    """Whether it is a coordinate in an image of that length, or not far outside it."""
    return type(value) in (int, float) and -length <= value <= 2 * length


def optional_size(entry: dict[str, Any], height: str, width: str) -> tuple[int, int] | None:
    """Height and width under these keys, None unless both are positive numbers."""
    size = entry.get(height), entry.get(width)
    return size if all(isinstance(value, int) and value > 0 for value in size) else None


def index_images(folder: Path) -> Index:
    """Every image in `folder` and below, by its name with and without the folders before it.

    Raises UserError where there are none.
    """
    index: dict[str, list[Path]] = {}
    for path in list_images(folder, below=True):
        parts = path.relative_to(folder).parts
        for i in range(len(parts)):
            index.setdefault(same("/".join(parts[i:])), []).append(path)
    return index


def every_image(index: Index) -> set[Path]:
    """All images of the index."""
    return {path for paths in index.values() for path in paths}


def find_image(index: Index, name: str, where: str) -> Path:
    """The image that an annotation tool knows as `name`, a path on whatever machine it ran.

    The longest end of it that is there counts. Raises UserError where nothing or several fit.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    for i in range(len(parts)):
        paths = index.get(same("/".join(parts[i:])), [])
        if len(paths) > 1:
            raise UserError(f"{where}: {name} may be {' or '.join(map(str, paths[:3]))}.")
        if paths:
            return paths[0]
    raise UserError(f"{where}: there is no image {name!a}.")
