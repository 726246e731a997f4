"""Looks through a data set: what is in it, and everything that is wrong with it.

    python -m data.check data/severstal
    python -m data.check data/severstal --overlays pictures
    python -m data.check data/new_strips --run runs/A

Every image is read and every mask laid on it. Exit code 0 where nothing is wrong, else 2. With a
run, one line says where the images leave the range of those that the run was trained on. What is
legal but most likely not meant is "worth a look". With --overlays, truth is drawn on the images
into DIR/suspects, what is worth a look first, and near-duplicates whose masks disagree most side
by side into DIR/twins.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import tyro

from common import labels, rle
from common.cli import run
from common.dataset import drift, near_duplicates
from common.dataset.splits import group_images
from common.files import try_folder
from common.labels import LabelError, Labels
from common.pixels import bits_in_use
from common.progress import in_threads
from common.resize import resize_image
from data import suspects, twins
from data.image_files import Facts, facts
from data.mask_fit import Fit, fit

SHOWN_GROUPS = 10


@dataclass
class Config:
    """Count what a data set holds and list everything that is wrong with it."""

    root: Annotated[Path, tyro.conf.Positional]
    """Data set: train_images/, train.csv and, where there is one, groups.csv."""
    run: Path | None = None
    """Run directory whose training images these are compared with."""
    overlays: Path | None = None
    """Folder for pictures of what is worth a look: suspects/ and twins/."""


@dataclass(frozen=True)
class Look:
    """An image that could be read, seen with its masks.

    areas: class -> pixels, of masks that fit. overlap: pixels in more than one mask. fit: how those
    masks lie on the image, None where there is none.
    """

    name: str
    shape: tuple[int, int]
    areas: dict[int, int]
    overlap: int
    statistics: np.ndarray
    description: np.ndarray
    facts: Facts
    fit: Fit | None


def check(root: Path, size: tuple[int, int] | None = None) -> tuple[Labels, list[Look], list[str]]:
    """The data set, its readable images, and every problem of rows, images and masks.

    size: height and width that images get before their brightness, contrast and black share are
    taken; None for their own. Raises LabelError where there is no data set to look at.
    """
    found, problems = labels.inspect(root)
    found = replace(found, bits=bits_in_use(list(map(found.path, found.images))))
    looks, bar = [], {"desc": "reading", "unit": "image", "leave": False}
    for look, wrong in in_threads(partial(_look, found, size), found.images, **bar):
        problems += wrong
        looks += [look] if look else []
    return found, looks, problems


def _look(found: Labels, size: tuple[int, int] | None, name: str) -> tuple[Look | None, list[str]]:
    try:
        image = found.read(name)
    except LabelError as error:
        return None, [str(error)]
    areas, runs, problems = {}, [], []
    depth = np.zeros(image.shape, np.uint8, order="F")  # as masks are
    for defect_class in found.classes(name):
        try:
            mask = found.mask(name, defect_class, image.shape)
        except LabelError as error:
            problems.append(str(error).partition("\n")[0])
        else:
            areas[defect_class] = int(mask.sum())
            runs.append(rle.runs(found.rles[name][defect_class]))
            depth += mask
    figures = drift.statistics(resize_image(image, size) if size else image)
    overlap = int((depth > 1).sum())
    description = near_duplicates.describe(image)
    lie = None
    if runs:
        starts, lengths = (np.concatenate(parts) for parts in zip(*runs, strict=True))
        lie = fit(image, (depth > 0).astype(np.uint8), starts, lengths)
    file = facts(found.path(name))
    return Look(name, image.shape, areas, overlap, figures, description, file, lie), problems


def compare_twins(found: Labels, looks: list[Look], pairs: np.ndarray) -> list[twins.Twins]:
    """How the masks of near-duplicates agree, where all of them fit their images."""
    sound = [set(look.areas) == set(found.classes(look.name)) for look in looks]
    names = [(looks[i].name, looks[j].name) for i, j in pairs if sound[i] and sound[j]]
    return twins.compare(found, names)


def describe(found: Labels, looks: list[Look], pairs: np.ndarray) -> Iterable[str]:
    """What the readable images hold, in lines. pairs: near-duplicates, (M, 2) places in `looks`."""
    defective = sum(bool(look.areas) for look in looks)
    yield (
        f"{found.root}: {len(found.images)} images; of {len(looks)} readable ones {defective} with "
        f"defects, {len(looks) - defective} clean"
    )
    shapes = Counter(look.shape for look in looks)
    yield "sizes: " + ", ".join(f"{h}x{w} ({n})" for (h, w), n in shapes.most_common())
    yield _class_table(found, looks).to_string(float_format="{:.3f}".format)
    sets = Counter(" and ".join(map(str, sorted(look.areas))) for look in looks if look.areas)
    yield "classes together: " + ", ".join(f"{k} ({n})" for k, n in sets.most_common())
    if looks:
        ranges = drift.reference(look.statistics for look in looks)
        yield "1st to 99th percentile: " + ", ".join(
            f"{figure.replace('_', ' ')} {low:.3f} to {high:.3f}"
            for figure, (low, high) in ranges.items()
        )
    if overlapping := [look.name for look in looks if look.overlap]:
        yield (
            f"overlapping masks: {len(overlapping)} images, such as {overlapping[0]}; there the "
            "larger class counts"
        )
    if found.groups is not None:
        yield f"groups.csv: {len(set(found.groups.values()))} groups of {len(found.groups)} images"
    yield from _near_duplicates(found, looks, pairs)


def _class_table(found: Labels, looks: list[Look]) -> pd.DataFrame:
    pixels = sum(look.shape[0] * look.shape[1] for look in looks)
    rows = []
    for defect_class, title in enumerate(found.class_titles, start=1):
        areas = [look.areas[defect_class] for look in looks if defect_class in look.areas]
        rows.append(
            {
                "class": title,
                "images": len(areas),
                "% of images": 100 * len(areas) / max(len(looks), 1),
                "% of pixels": 100 * sum(areas) / max(pixels, 1),
                "median area (pixels)": int(np.median(areas)) if areas else 0,
            }
        )
    return pd.DataFrame(rows).set_index("class")


def _near_duplicates(found: Labels, looks: list[Look], pairs: np.ndarray) -> Iterable[str]:
    if not looks:
        return
    readable = replace(found, images=tuple(look.name for look in looks), groups=None)
    groups: dict[str, list[str]] = {}
    for name, first in zip(readable.images, group_images(readable, pairs), strict=True):
        groups.setdefault(first, []).append(name)
    doubled = sorted((names for names in groups.values() if len(names) > 1), key=len, reverse=True)
    yield (
        f"near-duplicates: {sum(map(len, doubled))} images in {len(doubled)} groups; a split keeps "
        "each on one side"
    )
    for names in doubled[:SHOWN_GROUPS]:
        yield "  " + " ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    if len(doubled) > SHOWN_GROUPS:
        yield f"  and {len(doubled) - SHOWN_GROUPS} more groups"


def report(config: Config) -> int:
    """Prints what was found; 0 where nothing is wrong, else 2."""
    record = None
    if config.run:
        from common import runs  # brings torch along, which takes seconds

        record = runs.load(config.run)
    if config.overlays:
        try_folder(config.overlays)
    found, looks, problems = check(config.root, record.size if record else None)
    pairs = near_duplicates.pairs([look.description for look in looks])
    print(*describe(found, looks, pairs), sep="\n")
    compared = []
    if len(pairs):
        compared = compare_twins(found, looks, pairs)
        print(*twins.describe_twins(found, compared, len(pairs)), sep="\n")
        if config.overlays:
            drawn = twins.draw_twins(found, compared, config.overlays / "twins")
            print(f"{drawn} pictures in {config.overlays / 'twins'}")
    worth = suspects.find(found, looks, compared)
    for suspicion in worth:
        print(f"worth a look: {suspicion}")
    if config.overlays:
        folder = config.overlays / "suspects"
        print(f"{suspects.draw(found, looks, worth, folder)} pictures in {folder}")
    known = record.data.get("drift") if record else None
    if known and (line := drift.warning(known, (k.statistics for k in looks))):
        print(f"warning: {line}")
    for problem in problems:
        print(f"problem: {problem}")
    if any(set(look.areas) != set(found.classes(look.name)) for look in looks):
        print(labels.UNFIT)
    print(f"{len(problems)} problems" if problems else "nothing is wrong")
    return 2 if problems else 0


def main(argv: list[str] | None = None) -> int:
    """Looks through the data set; returns the exit code."""
    return run(report, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
