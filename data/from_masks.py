"""Makes a data set of a folder of images and a folder of label maps.

    python -m data.from_masks photographs annotations --out data/mine
    python -m data.from_masks photographs annotations --out data/mine --map 255 1
    python -m data.from_masks JPEGImages SegmentationClass --out data/mine --labelmap labelmap.txt

The label map of photographs/x.jpg is annotations/x.png, of the same size: 0 is background, any
other value the class, of grey and of palette images alike. Classes are numbered from 1 without
gaps; --map says what values or colours mean (once it names a class, others are refused), --classes
how many classes there are where some may be missing. The data set holds copies of the images and
train.csv, and is there whole or not at all.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from common import rle
from common.cli import run
from common.dataset.images import opened
from common.errors import UserError
from common.pixels import read_image
from data.conversion import Annotation, check_target, gather, room_for, write
from data.label_maps import Key, classify, make_key, read_labelmap
from data.pairing import pair_up

SHOWN = 10  # values that a message lists
MANY = 32  # more classes than this are mostly the grey edges of smoothed masks


@dataclass
class Config:
    """Make a data set of images and label maps (pixel value = class, 0 = background)."""

    images: Annotated[Path, tyro.conf.Positional]
    """Folder of images."""
    masks: Annotated[Path, tyro.conf.Positional]
    """Folder of label maps: one for each image, under the same name but for the extension."""
    out: Path
    """Folder of the new data set; must not exist yet."""
    map: dict[str, int] = field(default_factory=dict)
    """Values or colours in the label maps, each with its class: 255 1 128 2, or '#fa3253' 1."""
    labelmap: Path | None = None
    """Colours, classes and their names from CVAT's labelmap.txt."""
    keep: bool = False
    """Take values that --map does not name as the classes that they are."""
    threshold: float | None = None
    """Make binary masks of grey ones: class 1 from this value on."""
    classes: int | None = None
    """How many classes there are. Default: the largest one, and then each must occur."""
    suffix: str = ""
    """How label maps end behind the image's name: _mask, .bmp. Default: .png, .tif or .bmp."""
    missing_is_clean: bool = False
    """Take an image without a label map as one without defects."""

    def __post_init__(self) -> None:
        if self.classes is not None and not 1 <= self.classes <= 255:
            raise ValueError(f"--classes must be from 1 to 255, got {self.classes}")
        if self.threshold is not None and not self.threshold > 0:
            raise ValueError(f"--threshold must be above 0, got {self.threshold}")
        if self.threshold is not None and (self.map or self.labelmap or self.keep):
            raise ValueError("--threshold makes class 1 of all: it goes without --map and --keep")
        make_key(self.map, self.keep)


@dataclass(frozen=True)
class Read:
    """An image with what its label map (None: there is none) held.

    unknown: value or colour that the key does not know -> pixels.
    """

    annotation: Annotation
    label_map: Path | None
    unknown: Counter[int]


def convert(config: Config) -> str:
    """Writes the data set and returns what is in it, in words.

    Raises UserError, before anything is written, that lists images without a label map, maps
    without an image, of another size or unreadable, and values that are no class.
    """
    meant, names = read_labelmap(config.labelmap) if config.labelmap else ({}, {})
    try:
        key = make_key(meant | config.map, config.keep, config.threshold)
    except ValueError as error:
        raise UserError(str(error)) from error
    pairs = pair_up(config.images, config.masks, config.suffix, config.missing_is_clean)
    check_target(config.out, [image for image, _ in pairs])
    read = gather(partial(_read, key=key), pairs)
    _refuse_unknown(read, key)
    if not names:
        _check_classes(read, config)
    return write(config.out, [one.annotation for one in read], names, config.classes or 0)


def _read(pair: tuple[Path, Path | None], key: Key) -> Read:
    """The image's masks. Raises UserError where image or label map cannot be used."""
    image_path, mask_path = pair
    if mask_path is None:
        read_image(image_path)  # proves that it can be read
        return Read(Annotation(image_path, {}), None, Counter())
    with opened(mask_path) as picture, room_for(picture.width * picture.height):
        height, width = read_image(image_path).shape
        if picture.size != (width, height):
            raise UserError(
                f"{mask_path} is {picture.height}x{picture.width}, its image {height}x{width}"
            )
        label_map, unknown = classify(mask_path, picture, key)
        return Read(Annotation(image_path, rle.encode_classes(label_map)), mask_path, unknown)


def _refuse_unknown(read: Sequence[Read], key: Key) -> None:
    """Refuses values that are no class, with how often they were found."""
    pixels: Counter[int] = Counter()
    maps: dict[int, list[str]] = {}
    for one in read:
        pixels.update(one.unknown)
        for value in one.unknown:
            maps.setdefault(value, []).append(one.label_map.name)
    if not pixels:
        return
    listed = ", ".join(
        f"{key.name(value)} ({count} pixels of {len(maps[value])} maps, such as {maps[value][0]})"
        for value, count in pixels.most_common(SHOWN)
    )
    raise UserError(
        f"the label maps hold {'colours' if key.colours else 'values'} that are no class: {listed}"
        + (f" and {len(pixels) - SHOWN} more" if len(pixels) > SHOWN else "")
        + ".\nSay what they mean with --map (0: background)"
        + ("." if key.colours else ", take those up to 255 as they are with --keep, or make binary "
           "masks of smoothed ones with --threshold 128.")
    )  # fmt: skip


def _check_classes(read: Sequence[Read], config: Config) -> None:
    """Refuses classes beyond those there are, and gaps where nobody said how many there are."""
    maps: dict[int, list[Read]] = {}
    for one in read:
        for defect_class in one.annotation.rles:
            maps.setdefault(defect_class, []).append(one)
    largest = config.classes or len(maps)
    strange = sorted(k for k in maps if k > largest)
    smooth = largest > MANY and not (config.classes or config.keep)
    if not (strange or smooth):
        return

    def describe(k: int) -> str:
        pixels = sum(int(rle.runs(one.annotation.rles[k])[1].sum()) for one in maps[k])
        return f"{k} ({pixels} pixels of {len(maps[k])} maps, such as {maps[k][0].label_map.name})"

    shown = strange or sorted(maps, reverse=True)
    named = ", ".join(map(describe, shown[:SHOWN]))
    good = ", ".join(str(k) for k in sorted(maps) if k <= largest) or "none"
    count = f"there are {largest} classes" if config.classes else "classes are numbered 1, 2, ..."
    raise UserError(
        f"the label maps hold unexpected values: {named}"
        + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
        + (f"; {count}, of which there are: {good}" if strange else f"; {largest} in all")
        + f".\nSay what they mean with --map, as in --map {shown[0]} 1 (0: background)"
        + ("" if config.classes else ", or how many classes there are with --classes")
        + "; --threshold 128 makes binary masks of smoothed ones."
    )


def main(argv: list[str] | None = None) -> int:
    """Makes the data set; returns the exit code."""
    return run(lambda config: print(convert(config)), Config, argv)


if __name__ == "__main__":
    sys.exit(main())
