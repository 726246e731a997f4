"""Makes a data set of a folder of images and a folder of PNG label maps.

    python -m data.from_masks photographs annotations --out data/mine
    python -m data.from_masks photographs annotations --out data/mine --map 255 1

The label map of photographs/x.jpg is annotations/x.png, of the same size: 0 is background, any
other value the class, of grey and of palette images alike. Classes are numbered from 1 without
gaps; --map renumbers values, --classes tells how many there are where some may be missing. The
data set holds copies of the images and train.csv, and is there whole or not at all.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from common.cli import run
from common.errors import UserError
from common.files import publish
from common.labels import COLUMNS, EXTENSIONS, read_image
from common.rle import encode

SHOWN = 10


@dataclass
class Config:
    """Make a data set of images and PNG label maps (pixel value = class, 0 = background)."""

    images: Annotated[Path, tyro.conf.Positional]
    """Folder of images."""
    masks: Annotated[Path, tyro.conf.Positional]
    """Folder of label maps: a PNG for each image, under the same name but for the extension."""
    out: Path
    """Folder of the new data set; must not exist yet."""
    map: dict[int, int] = field(default_factory=dict)
    """Pairs of a value in the label maps and its class: --map 255 1 128 2. 0 is background."""
    classes: int | None = None
    """How many classes there are. Default: the largest one, and then each must occur."""

    def __post_init__(self) -> None:
        if self.classes is not None and not 1 <= self.classes <= 255:
            raise ValueError(f"--classes must be from 1 to 255, got {self.classes}")
        for value, defect_class in self.map.items():
            if not (0 <= value <= 65535 and 0 <= defect_class <= 255):
                raise ValueError(f"--map {value} {defect_class}: classes are from 0 to 255")


@dataclass(frozen=True)
class Annotation:
    """An image with its masks: class -> run-length encoding."""

    image: Path
    rles: dict[int, str]


def convert(config: Config) -> list[Annotation]:
    """Writes the data set and returns what is in it.

    Raises UserError, before anything is written, that lists images without a label map, maps of
    another size, in colour or unreadable, and values that are no class.
    """
    pairs = pair_up(config.images, config.masks)
    if config.out.exists():
        raise UserError(f"{config.out} is there already; name a new folder with --out.")
    annotations, problems = [], []
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        work = pool.map(partial(_annotate, classes=config.map), pairs)
        for result in tqdm(work, "reading", len(pairs), unit="image", leave=False):
            (problems if isinstance(result, str) else annotations).append(result)
    finally:
        pool.shutdown(cancel_futures=True)
    _refuse(problems)
    _check_classes(annotations, config.classes)
    if config.classes:  # an empty row keeps the count where the last class has no mask
        annotations[0].rles.setdefault(config.classes, "")
    _write(annotations, config.out)
    return annotations


def pair_up(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Each image with its label map, in order of names. Raises UserError where one has none."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}.")
    paths = sorted(
        path
        for path in images.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )
    if not paths:
        raise UserError(f"{images} holds no images ({', '.join(sorted(EXTENSIONS))}).")
    maps = {path.stem: path for path in masks.iterdir() if path.suffix.lower() == ".png"}
    by_stem: dict[str, Path] = {}
    problems = []
    for path in paths:
        if path.stem in by_stem:
            problems.append(f"{path} and {by_stem[path.stem].name} would share one label map")
        elif path.stem not in maps:
            problems.append(f"{path} has no label map {masks / path.stem}.png (clean: all zeros)")
        by_stem[path.stem] = path
    _refuse(problems)
    return [(path, maps[path.stem]) for path in paths]


def read_label_map(path: Path) -> np.ndarray:
    """Values (H, W) int64 of a grey or palette image, palette indices as they are.

    Raises UserError where it cannot be read or is in colour.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    values = np.asarray(image)
    if values.ndim == 3:  # colour: grey in truth where the channels agree
        channels = values[..., :2] if image.mode == "LA" else values[..., :3]
        if image.mode != "LA" and not (channels == channels[..., :1]).all():
            raise UserError(f"{path} is in colour; save class numbers as grey values or palette.")
        values = channels[..., 0]
    return values.astype(np.int64)


def _annotate(pair: tuple[Path, Path], classes: dict[int, int]) -> Annotation | str:
    """The image's masks, or what is wrong with them."""
    image_path, mask_path = pair
    try:
        shape, values = read_image(image_path).shape, read_label_map(mask_path)
    except UserError as error:
        return str(error)
    if values.shape != shape:
        return (
            f"{mask_path} is {values.shape[0]}x{values.shape[1]}, its image {shape[0]}x{shape[1]}"
        )
    rles: dict[int, str] = {}
    label_map = values.copy()
    for value, defect_class in classes.items():
        label_map[values == value] = defect_class
    for defect_class in np.unique(label_map).tolist():
        if defect_class > 255:
            return f"{mask_path} holds the value {defect_class}; classes go to 255 (see --map)"
        if defect_class > 0:
            rles[defect_class] = encode(label_map == defect_class)
    return Annotation(image_path, rles)


def _check_classes(annotations: Sequence[Annotation], classes: int | None) -> None:
    """Refuses classes beyond those there are, and gaps where nobody said how many there are."""
    example = {k: a.image.stem for a in reversed(annotations) for k in a.rles}
    largest = classes or len(example)
    strange = sorted(k for k in example if k > largest)
    if not strange:
        return
    named = ", ".join(f"{k} ({example[k]}.png)" for k in strange[:SHOWN])
    good = ", ".join(str(k) for k in sorted(example) if k <= largest) or "none"
    count = f"there are {classes} classes" if classes else "classes are numbered 1, 2, ..."
    raise UserError(
        f"the label maps hold unexpected values: {named}"
        + (f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else "")
        + f"; {count}, of which there are: {good}.\n"
        f"Say what they mean with --map, as in --map {strange[0]} 1 (0: background)"
        + ("." if classes else ", or how many classes there are with --classes.")
    )


def _refuse(problems: list[str]) -> None:
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError("\n".join([*problems[:SHOWN], *more]))


def _write(annotations: Sequence[Annotation], out: Path) -> None:
    """Copies the images and writes train.csv in a folder beside `out`, which it then becomes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for annotation in annotations:
        for defect_class, rle in sorted(annotation.rles.items()):
            table.writerow([annotation.image.name, defect_class, rle])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            new = Path(folder) / out.name
            (new / "train_images").mkdir(parents=True)
            for annotation in tqdm(annotations, "copying", unit="image", leave=False):
                shutil.copyfile(annotation.image, new / "train_images" / annotation.image.name)
            publish(new / "train.csv", text.getvalue())
            os.replace(new, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error


def main(argv: list[str] | None = None) -> int:
    """Makes the data set; returns the exit code."""

    def show(config: Config) -> None:
        annotations = convert(config)
        counts = Counter(k for a in annotations for k, rle in a.rles.items() if rle)
        print(
            f"{config.out}: {len(annotations)} images, "
            + ", ".join(f"class {k} on {counts[k]}" for k in sorted(counts))
            + f"\nnext: python -m data.check {config.out}\n"
            f"      python unet_64x400/train.py --data {config.out}"
        )

    return run(show, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
