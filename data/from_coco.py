"""Makes a data set of a COCO annotation file, as CVAT, Label Studio and Roboflow export it.

    python -m data.from_coco annotations.json photographs --out data/mine
    python -m data.from_coco annotations.json photographs --out data/mine --classes scratch patch

Polygons and run-length encodings become masks, those of one class united. Categories become classes
in the order of their ids, or in that of --classes, and keep their names. An image without
annotations is clean; one that the file does not list is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from common import rle
from common.cli import run
from common.errors import UserError, refuse
from common.pixels import read_image
from data.annotation_files import (
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


@dataclass
class Config:
    """Make a data set of images and a COCO annotation file with polygons or masks."""

    annotations: Annotated[Path, tyro.conf.Positional]
    """The JSON file."""
    images: Annotated[Path, tyro.conf.Positional]
    """Folder of the images that it names, in subfolders or not."""
    out: Path
    """Folder of the new data set; must not exist yet."""
    classes: tuple[str, ...] = ()
    """The categories in the order of their classes. Default: in the order of their ids."""


@dataclass
class Picture:
    """An image as the file lists it. size: height and width where it says so.

    masks: class -> (what a message calls the annotation, its segmentation).
    """

    path: Path
    size: tuple[int, int] | None
    masks: dict[int, list[tuple[str, Any]]] = field(default_factory=dict)


def convert(config: Config) -> str:
    """Writes the data set and returns what is in it, in words.

    Raises UserError, before anything is written, that lists images that are missing, unreadable or
    of another size, and annotations without a mask or with a malformed one.
    """
    content, index = read_json(config.annotations), index_images(config.images)
    where = str(config.annotations)
    entries = {key: part(content, key, list, where) for key in ("images", "categories")}
    annotations = part(content, "annotations", list, where)
    categories = _categories(entries["categories"], annotations, where)
    classes = number_classes(list(dict.fromkeys(categories.values())), config.classes)
    by_category = {key: classes[name] for key, name in categories.items()}
    pictures = _pictures(entries["images"], index, where)
    _attach(annotations, pictures, by_category, where)
    listed = list(pictures.values())
    check_target(config.out, [picture.path for picture in listed])
    done = gather(_draw, listed)
    names = {k: name for name, k in classes.items()}
    said = [write(config.out, [annotation for annotation, _ in done], names)]
    if empty := [text for _, found in done for text in found]:
        said.append(f"{len(empty)} annotations cover no pixel, such as {empty[0]}")
    if unlisted := every_image(index) - {picture.path for picture in listed}:
        said.append(f"{len(unlisted)} images that it does not list are left out")
    return "\n".join(said)


def _categories(
    entries: Sequence[Any], annotations: Sequence[Any], where: str
) -> dict[int | str, str]:
    """Name of each category by id, in the order of ids.

    A heading is left out: a category without annotations that others have as their supercategory.
    """
    names: dict[int | str, str] = {}
    for number, entry in enumerate(entries):
        key = part(entry, "id", (int, str), f"{where}, category {number}")
        name = " ".join(part(entry, "name", str, f"{where}, category {key!s:.40}").split())
        if key in names or not name:
            raise UserError(f"{where}: two categories have the id {key}, or one has no name.")
        names[key] = name
    used = {str(one.get("category_id")) for one in annotations if isinstance(one, dict)}
    above = ((entry.get("supercategory"), entry["name"]) for entry in entries)
    headings = {str(parent) for parent, name in above if parent != name}
    kept = {key: n for key, n in names.items() if str(key) in used or n not in headings}
    return dict(sorted(kept.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _pictures(entries: Sequence[Any], index: Any, where: str) -> dict[int | str, Picture]:
    """Every image by its id. Raises UserError that lists those that are missing."""
    pictures: dict[int | str, Picture] = {}
    problems = []
    for number, entry in enumerate(entries):
        key = part(entry, "id", (int, str), f"{where}, image {number}")
        name = part(entry, "file_name", str, f"{where}, image {key!s:.40}")
        if key in pictures:
            problems.append(f"{where}: two images have the id {key}")
            continue
        try:
            path = find_image(index, name, where)
        except UserError as error:
            problems.append(str(error))
        else:
            pictures[key] = Picture(path, optional_size(entry, "height", "width"))
    if not entries:
        problems.append(f"{where} lists no images")
    refuse(problems)
    return pictures


def _attach(
    annotations: Sequence[Any],
    pictures: Mapping[int | str, Picture],
    classes: Mapping[int | str, int],
    where: str,
) -> None:
    """Gives each picture its annotations. Raises UserError for those of none, or of no category."""
    problems = []
    for number, entry in enumerate(annotations):
        image, category = (
            part(entry, key, (int, str), f"{where}, annotation {number}")
            for key in ("image_id", "category_id")
        )
        text = f"annotation {entry.get('id', number)!s:.40}"
        if image not in pictures or category not in classes:
            problems.append(
                f"{where}: {text} is of image {image!s:.40} and category {category!s:.40}, "
                "of which one is not listed"
            )
            continue
        picture = pictures[image]
        masks = picture.masks.setdefault(classes[category], [])
        masks.append((f"{text} of {picture.path.name}", entry.get("segmentation")))
    refuse(problems)


def _draw(picture: Picture) -> tuple[Annotation, list[str]]:
    """The image's masks; and what its annotations that cover no pixel are called."""
    from data import coco_masks  # not above: where pycocotools is missing, `run` says so

    height, width = picture.size or (0, 0)
    with room_for(height * width):
        size = read_image(picture.path).shape
        if picture.size not in (None, size):
            raise UserError(f"{picture.path} is {size[0]}x{size[1]}, listed as {height}x{width}")
        empty, rles = [], {}
        for defect_class, masks in picture.masks.items():
            found = []
            for text, segmentation in masks:
                try:
                    own = coco_masks.parts(segmentation, *size)
                except ValueError as error:
                    raise UserError(f"{text}: {error}") from error
                if not coco_masks.area(own):
                    empty.append(text)
                found += own
            if coco_masks.area(found):
                rles[defect_class] = rle.encode(coco_masks.union(found))
        return Annotation(picture.path, rles), empty


def main(argv: list[str] | None = None) -> int:
    """Makes the data set; returns the exit code."""
    return run(lambda config: print(convert(config)), Config, argv)


if __name__ == "__main__":
    sys.exit(main())
