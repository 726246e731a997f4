"""The image files that a user names on the command line, and what their headers say."""

from __future__ import annotations

import glob
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from common.errors import UserError
from common.pixels import EXTENSIONS, is_image
from common.progress import in_threads

LARGE = 1 << 25  # pixels
DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
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
    return any(in_threads(_is_large, paths))


def _is_large(path: Path) -> bool:
    try:
        with opened(path) as picture:
            return picture.width * picture.height >= LARGE
    except UserError:
        return False


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture, of which PIL has read the header only. Raises UserError where it cannot."""
    with reading(path):
        picture = Image.open(path)
    with picture:
        yield picture


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what PIL raises of a damaged or foreign file into a UserError."""
    try:
        yield
    except DAMAGED as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _expand(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = sorted(path.iterdir())
    else:
        candidates = sorted(map(Path, glob.glob(argument, recursive=True)))  # noqa: PTH207 (Path.glob refuses absolute patterns)
    return list(filter(is_image, candidates))


def refuse_doubles(names: Sequence[str]) -> None:
    """Raises UserError where a name occurs twice."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} images are called {name}; rename them or segment them apart.")
