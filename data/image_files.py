"""What an image file says that its grey values do not: how it was written, and what was damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import simplejpeg

from common.dataset.images import opened
from common.errors import UserError
from common.pixels import EXTENSIONS, largest_value

ORIENTATION, PHOTOMETRIC, WHITE_IS_ZERO = 274, 262, 0  # tags of EXIF and TIFF
NO_END = "Premature end of JPEG file"


@dataclass(frozen=True)
class Facts:
    """orientation: of EXIF, 1 where the picture is stored upright. inverted: a 16-bit TIFF whose
    white is 0, which OpenCV reads as black. damage: what the JPEG decoder warned of. bits: those
    that the largest value of a grey 16-bit picture needs, None of other pictures.
    """

    orientation: int = 1
    inverted: bool = False
    damage: str = ""
    bits: int | None = None


def facts(path: Path) -> Facts:
    """Of a readable image; nothing odd of a format that PIL does not know."""
    try:
        with opened(path) as picture:
            form, deep = picture.format, picture.mode.startswith("I")
            orientation = picture.getexif().get(ORIENTATION, 1)
            inverted = deep and form == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    except UserError:
        return Facts()
    largest = largest_value(path) if deep else None
    return Facts(
        orientation=orientation,
        inverted=inverted,
        damage=_jpeg_damage(path) if form == "JPEG" else "",
        bits=None if largest is None else largest.bit_length(),
    )


def _jpeg_damage(path: Path) -> str:
    """The decoder's warning, which OpenCV writes to the console without the file's name.

    That the end marker is missing is no damage of an image that could be read.
    """
    try:
        simplejpeg.decode_jpeg(path.read_bytes(), "GRAY", strict=True)
    except ValueError as error:
        return "" if str(error) == NO_END else str(error)
    return ""


def passed_over(image_dir: Path) -> Iterable[tuple[str, list[str]]]:
    """What lies in the folder of images and is not read: what it is, and the names."""
    files = sorted(p.relative_to(image_dir) for p in image_dir.rglob("*") if p.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    if below := [str(p) for p in files if len(p.parts) > 1 and p.suffix.lower() in EXTENSIONS]:
        yield "images in subfolders, which are passed over", below
    others = [path.name for path in files if len(path.parts) == 1]
    others = [name for name in others if Path(name).suffix.lower() not in EXTENSIONS]
    if others:
        endings = Counter(Path(name).suffix or "none" for name in others).most_common()
        listed = ", ".join(f"{ending} ({count})" for ending, count in endings)
        yield f"files passed over for their endings, {listed}", others
