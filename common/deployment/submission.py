"""Kaggle's table of masks, written row by row into a file that appears when it is whole."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.files import publishing
from common.labels import COLUMNS, OLD_COLUMNS

AddMasks = Callable[[str, dict[int, str]], None]


@contextmanager
def submission(path: Path, form: str, num_classes: int) -> Iterator[AddMasks]:
    """Opens the table; call what it gives with an image's name and its masks by class.

    form: "new" (ImageId,ClassId,EncodedPixels) has a row a mask, none for a clean image; "old"
    (ImageId_ClassId,EncodedPixels) a row for each of the `num_classes` defect classes of every
    image, empty without a defect. The file at `path` is replaced at the end; after an exception it
    is as it was. Raises OSError where folder or disk refuse.
    """
    with publishing(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS if form == "new" else OLD_COLUMNS)

        def add(name: str, masks: dict[int, str]) -> None:
            if form == "new":
                writer.writerows((name, k, masks[k]) for k in sorted(masks))
            else:
                classes = range(1, num_classes + 1)
                writer.writerows((f"{name}_{k}", masks.get(k, "")) for k in classes)

        yield add
