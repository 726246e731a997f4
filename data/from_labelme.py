"""Makes a data set of a folder of images with LabelMe's annotations beside them.

    python -m data.from_labelme photographs --out data/mine
    python -m data.from_labelme annotations --images photographs --out data/mine --classes scratch

Polygons, rectangles, circles and masks are painted in the order of the file, as LabelMe's own
exports do: where they overlap the last one counts, and _background_ erases. Labels become classes
in alphabetical order, or in that of --classes, and keep their names. A file without shapes says
that its image is clean.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from common import rle
from common.cli import run
from common.errors import UserError, refuse
from common.pixels import read_image
from data.annotation_files import (
    Index,
    every_image,
    find_image,
    index_images,
    optional_size,
    part,
    read_json,
)
from data.conversion import (
    Annotation,
    check_target,
    gather,
    number_classes,
    room_for,
    write,
)
from data.labelme_shapes import Shape, draw

BACKGROUND = "_background_"


@dataclass
class Config:
    """Make a data set of images and LabelMe's JSON files."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the JSON files, in subfolders or not."""
    out: Path
    """Folder of the new data set; must not exist yet."""
    images: Path | None = None
    """Folder of the images that they name. Default: the same."""
    classes: tuple[str, ...] = ()
    """The labels in the order of their classes. Default: in alphabetical order."""
    missing_is_clean: bool = False
    """Take an image without a JSON file as one without defects."""


@dataclass(frozen=True)
class Drawing:
    """An image with its shapes in order. size: height and width, where the file says so."""

    image: Path
    size: tuple[int, int] | None
    shapes: list[Shape]


def convert(config: Config) -> str:
    """Writes the data set and returns what is in it, in words.

    Raises UserError, before anything is written, that lists images that are missing, unreadable,
    of another size or without a file, and shapes that have no area or are malformed.
    """
    if not config.folder.is_dir():
        raise UserError(f"there is no folder {config.folder}.")
    files = sorted(config.folder.rglob("*.json"))
    if not files:
        raise UserError(f"{config.folder} holds no JSON files.")
    index = index_images(config.images or config.folder)
    drawings = gather(partial(_read, folder=config.folder, index=index), files)
    bare = every_image(index) - {drawing.image for drawing in drawings}
    if not config.missing_is_clean:
        hint = "(--missing-is-clean takes it as clean)"
        refuse([f"{path} has no JSON file {hint}" for path in sorted(bare)])
    drawings = sorted(
        [*drawings, *(Drawing(path, None, []) for path in bare)], key=lambda drawing: drawing.image
    )
    check_target(config.out, [drawing.image for drawing in drawings])
    labels = {shape.label for drawing in drawings for shape in drawing.shapes}
    classes = number_classes(sorted(labels - {BACKGROUND}), config.classes)
    annotations = gather(partial(_paint, classes=classes | {BACKGROUND: 0}), drawings)
    return write(config.out, annotations, {k: name for name, k in classes.items()})


def _read(path: Path, folder: Path, index: Index) -> Drawing:
    content = read_json(path)
    name = part(content, "imagePath", str, str(path))
    shapes = []
    for number, entry in enumerate(part(content, "shapes", list, str(path)), start=1):
        where = f"{path}, shape {number}"
        label = " ".join(part(entry, "label", str, where).split())
        kind = entry.get("shape_type") or "polygon"
        points = part(entry, "points", list, where)
        if not label:
            raise UserError(f"{where} has no label.")
        shapes.append(Shape(label, str(kind), points, entry.get("mask"), f"{where} ({label})"))
    beside = (path.parent.relative_to(folder) / name.replace("\\", "/")).as_posix()
    size = optional_size(content, "imageHeight", "imageWidth")
    return Drawing(find_image(index, beside, str(path)), size, shapes)


def _paint(drawing: Drawing, classes: Mapping[str, int]) -> Annotation:
    """The image's masks: shapes drawn over one another, each in its class."""
    height, width = drawing.size or (0, 0)
    with room_for(height * width):
        size = read_image(drawing.image).shape
        if drawing.size not in (None, size):
            raise UserError(
                f"{drawing.image} is {size[0]}x{size[1]}, in its JSON file {height}x{width}"
            )
        canvas = Image.new("L", size[::-1])
        for shape in drawing.shapes:
            draw(canvas, shape, classes[shape.label])
        return Annotation(drawing.image, rle.encode_classes(np.asarray(canvas)))


def main(argv: list[str] | None = None) -> int:
    """Makes the data set; returns the exit code."""
    return run(lambda config: print(convert(config)), Config, argv)


if __name__ == "__main__":
    sys.exit(main())
