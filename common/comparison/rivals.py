"""Predictions that others made, as a Kaggle table, beside runs: NAME=FILE on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from common import rle
from common.dataset.images import opened
from common.errors import UserError, refuse
from common.labels import Labels, read_masks

SHOWN = 5  # problems of a table
UNKNOWN = "AUROC, calibration, latency, throughput, memory, parameters and work"


def apart(arguments: Sequence[Path]) -> tuple[list[Path], dict[str, Path]]:
    """The arguments that are run directories, and the tables by name.

    A folder is a run directory whatever its name. Raises UserError for a table without a name, or
    with one that cannot be a folder's or that another has.
    """
    runs: list[Path] = []
    tables: dict[str, Path] = {}
    for argument in arguments:
        name, equals, file = str(argument).partition("=")
        if argument.is_file():
            raise UserError(f"{argument} is no run directory. Name predictions: NAME={argument}")
        if argument.is_dir() or not equals:
            runs.append(argument)
        elif not Path(name).name or Path(name).name != name or name == "..":
            raise UserError(f"{argument}: {name!r} cannot name predictions.")
        elif name in tables:
            raise UserError(f"two tables of predictions are called {name}. Rename one.")
        else:
            tables[name] = Path(file)
    if tables and not runs:
        raise UserError(
            "predictions are compared on the images that a run tests. Name a run directory, too: "
            "python -m common.compare runs/A NAME=FILE"
        )
    return runs, tables


def read(name: str, path: Path, labels: Labels, test: Sequence[str]) -> tuple[Labels, list[str]]:
    """The data set with the masks of the table in place of the truth, and what is to be said.

    Raises UserError for rows that name no image or class of the data set, come twice, or hold no
    mask that fits the image; of images that are not in `test` the size is not looked at.
    """
    masks, lines, problems = read_masks(path, labels.images, labels.num_classes)
    for image in filter(masks.get, test):
        with opened(labels.path(image)) as picture:
            shape = picture.height, picture.width
        for defect_class, text in masks[image].items():
            try:
                rle.decode(text, shape)
            except rle.RLEError as error:
                line = lines[image, defect_class]
                problems.append(f"{path}, line {line} ({image}, class {defect_class}): {error}")
    refuse(problems, SHOWN)
    named = {image for image, _ in lines}
    unnamed, others = sum(image not in named for image in test), len(named.difference(test))
    said = [f"{name} is known by its predictions alone: {UNKNOWN} are unknown."]
    if unnamed:
        said.append(
            f"{name}: {unnamed} of {len(test)} test images are not in {path}: they count as "
            "predicted clean."
        )
    if others:
        said.append(f"{name}: {others} images in {path} are no test images and were passed over.")
    return dataclasses.replace(labels, rles=masks), said
