"""The image files that a user names on the command line."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from common.errors import UserError
from common.labels import EXTENSIONS
from common.machine import cores

LARGE = 1 << 25  # pixels
Image.MAX_IMAGE_PIXELS = 1 << 29  # an error comes at twice that, where OpenCV's comes


def find_images(arguments: Sequence[str]) -> list[Path]:
    """The image files that folders, files and glob patterns name, each once, in order.

    Raises UserError where one of them names nothing, and where two files share a name: the table
    could not tell them apart.
    """
    if not arguments:
        raise UserError("no images given: name a folder, files, or a glob pattern in quotes.")
    found: dict[Path, None] = {}
    for argument in arguments:
        paths = _expand(argument)
        if not paths:
            raise UserError(
                f"{argument}: no image there ({', '.join(sorted(EXTENSIONS))}).\n"
                "Name a folder that holds images, files, or a glob pattern in quotes."
            )
        found |= dict.fromkeys(path.absolute() for path in paths)
    refuse_doubles([path.name for path in found])
    return list(found)


def any_large(paths: Sequence[Path]) -> bool:
    """Whether one of the images has LARGE pixels or more, by its header; unreadable ones have not.

    What works on several images at a time takes these one by one, or memory would not do.
    """
    with ThreadPoolExecutor(cores()) as pool:
        return any(pool.map(_is_large, paths))


def _is_large(path: Path) -> bool:
    try:
        with opened(path) as picture:
            return picture.width * picture.height >= LARGE
    except UserError:
        return False


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture, of which PIL has read the header only.

    Raises UserError, also out of the block, where it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _expand(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = sorted(path.iterdir())
    else:
        candidates = sorted(map(Path, glob.glob(argument, recursive=True)))  # noqa: PTH207 (Path.glob refuses absolute patterns)
    return [
        path
        for path in candidates
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    ]


def refuse_doubles(names: Sequence[str]) -> None:
    """Raises UserError where a name occurs twice."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} images are called {name}; rename them or segment them apart.")
