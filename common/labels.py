"""A data set in Kaggle's layout: a folder of images, and train.csv with their masks.

The images are what the folder holds: clean ones have no row in train.csv and belong to the set.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from common import rle
from common.errors import UserError

EXTENSIONS = {".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
NEW_COLUMNS = ("ImageId", "ClassId", "EncodedPixels")
OLD_COLUMNS = ("ImageId_ClassId", "EncodedPixels")
DEFAULT_CLASSES = 4


class LabelError(UserError):
    """A data set that cannot be used as it is; the message names the file and the row."""


@dataclass(frozen=True)
class Labels:
    """What is in a data set.

    images: sorted file names. rles: image -> class -> run-length encoding, without empty ones.
    groups: image -> group, from groups.csv; None where there is no such file. num_classes: defect
    classes, the largest ClassId; 4 where there is no mask at all.
    """

    root: Path
    image_dir: Path
    images: tuple[str, ...]
    rles: dict[str, dict[int, str]]
    groups: dict[str, str] | None
    num_classes: int

    def path(self, name: str) -> Path:
        """Where the image lies."""
        return self.image_dir / name

    def classes(self, name: str) -> tuple[int, ...]:
        """Defect classes of an image, ascending; empty where it is clean."""
        return tuple(sorted(self.rles.get(name, ())))

    def label_map(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """Class of each pixel (H, W) uint8, 0 background; where masks overlap, the larger class.

        Raises LabelError where a mask does not fit into `shape`, the image's height and width.
        """
        label_map = np.zeros(shape[::-1], np.uint8).T  # masks run down the columns
        for defect_class in self.classes(name):
            try:
                mask = rle.decode(self.rles[name][defect_class], shape)
            except rle.RLEError as error:
                raise LabelError(
                    f"{self.root / 'train.csv'}: mask of {name}, class {defect_class}: {error}"
                ) from error
            np.putmask(label_map.T, mask.T.view(bool), defect_class)
        return np.ascontiguousarray(label_map)


def load(root: Path | str) -> Labels:
    """Reads the data set in `root`: train_images/, train.csv in either format, groups.csv.

    Formats: `ImageId,ClassId,EncodedPixels`, a row a mask; and `ImageId_ClassId,EncodedPixels`, a
    row an image and class, empty where there is no defect. Raises LabelError for the first thing
    that is wrong.
    """
    root = Path(root)
    labels, problems = inspect(root)
    if problems:
        more = f"\n... and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise LabelError(
            f"{problems[0]}{more}\nList every problem with: python -m data.check {root}"
        )
    return labels


def inspect(root: Path) -> tuple[Labels, list[str]]:
    """Reads a data set as `load` does, but returns what is wrong with its rows beside it.

    Raises LabelError where there is nothing to read: no folder, no images, no table.
    """
    image_dir = root / "train_images"
    images = _image_names(root, image_dir)
    table = _read_csv(root / "train.csv")
    rles, problems = _masks(table, set(images), root / "train.csv")
    groups, group_problems = _groups(root / "groups.csv", set(images))
    largest = max((k for masks in rles.values() for k in masks), default=DEFAULT_CLASSES)
    labels = Labels(root, image_dir, images, rles, groups, largest)
    return labels, problems + group_problems


def read_image(path: Path) -> np.ndarray:
    """The image as grey values (H, W) uint8; 16-bit ones are scaled down by 256.

    Raises LabelError where it is missing, no image, or cut off: OpenCV would fill the rest of a
    truncated file with grey and say nothing.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror or error}") from error
    if _is_truncated(data):
        raise LabelError(f"{path} is truncated: its end is missing. Copy or download it again.")
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise LabelError(f"{path} is not an image that OpenCV can read.")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise LabelError(f"{path} has {image.dtype} pixels; 8 or 16 bits a pixel are read.")
    return image


def fingerprint(labels: Labels) -> str:
    """A hash of the whole content: image names and bytes, train.csv, groups.csv. 16 hex digits.

    Equal on every machine that holds the same files; any changed byte changes it.
    """

    def digest(path: Path) -> bytes:
        try:
            return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        except OSError as error:
            raise LabelError(f"cannot read {path}: {error.strerror or error}") from error

    tables = [p for p in (labels.root / "train.csv", labels.root / "groups.csv") if p.exists()]
    paths = [labels.path(name) for name in labels.images] + tables
    total = hashlib.blake2b(digest_size=8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(digest, paths)
        bar = tqdm(
            digests, "fingerprint", len(paths), leave=False, unit="file", disable=len(paths) < 2000
        )
        for path, content in zip(paths, bar, strict=True):
            total.update(path.name.encode() + b"\0" + content)
    return total.hexdigest()


def _image_names(root: Path, image_dir: Path) -> tuple[str, ...]:
    if not root.is_dir():
        raise LabelError(
            f"no data set {root}: there is no such folder.\n"
            "Get Kaggle's with: python -m data.download   or make one: python -m data.synthetic"
        )
    if not image_dir.is_dir():
        raise LabelError(f"{root} holds no folder train_images/: images belong there.")
    names = sorted(
        entry.name
        for entry in os.scandir(image_dir)
        if Path(entry.name).suffix.lower() in EXTENSIONS and not entry.name.startswith(".")
    )
    if not names:
        raise LabelError(f"{image_dir} holds no images ({', '.join(sorted(EXTENSIONS))}).")
    return tuple(names)


def _read_csv(path: Path) -> pd.DataFrame:
    """The table as ImageId, ClassId, EncodedPixels, all texts; the index is the file's line."""
    if not path.exists():
        raise LabelError(f"{path} is missing: it holds the masks of the images.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise LabelError(f"cannot read {path} as a table: {error}") from error
    table.index = pd.RangeIndex(2, len(table) + 2)  # line 1 is the header
    if tuple(table.columns) == OLD_COLUMNS:
        parts = table["ImageId_ClassId"].str.rpartition("_")
        table = table.assign(ImageId=parts[0], ClassId=parts[2])
    elif set(table.columns) != set(NEW_COLUMNS):
        raise LabelError(
            f"{path} has the columns {', '.join(map(str, table.columns))}; expected "
            f"{','.join(NEW_COLUMNS)} or {','.join(OLD_COLUMNS)}."
        )
    return table[list(NEW_COLUMNS)].fillna("")


def _masks(
    table: pd.DataFrame, images: set[str], path: Path
) -> tuple[dict[str, dict[int, str]], list[str]]:
    masks: dict[str, dict[int, str]] = {}
    problems = []
    seen: dict[tuple[str, int], int] = {}
    for line, image, class_id, text in table.itertuples():
        where = f"{path}, line {line} ({image}, class {class_id})"
        if image not in images:
            problems.append(f"{where}: there is no such image in train_images/")
        elif (defect_class := _class_number(class_id)) is None:
            problems.append(f"{where}: ClassId must be a whole number from 1 to 255")
        elif (image, defect_class) in seen:
            problems.append(f"{where}: a duplicate of line {seen[image, defect_class]}")
        else:
            seen[image, defect_class] = line
            if text.strip().lower() in ("", "nan"):
                continue
            try:
                rle.runs(text)
            except rle.RLEError as error:
                problems.append(f"{where}: malformed run-length encoding: {error}")
            else:
                masks.setdefault(image, {})[defect_class] = text
    return masks, problems


def _class_number(text: str) -> int | None:
    plain = text.isascii() and text.isdigit() and len(text) <= 3
    return int(text) if plain and 1 <= int(text) <= 255 else None


def _groups(path: Path, images: set[str]) -> tuple[dict[str, str] | None, list[str]]:
    if not path.exists():
        return None, []
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise LabelError(f"cannot read {path} as a table: {error}") from error
    if set(table.columns) != {"image", "group"}:
        raise LabelError(
            f"{path} has the columns {', '.join(table.columns)}; expected image,group."
        )
    problems = [f"{path}: {name} is not in train_images/" for name in set(table["image"]) - images]
    doubled = table.loc[table["image"].duplicated(), "image"]
    problems += [f"{path}: {name} has more than one row" for name in doubled]
    return dict(zip(table["image"], table["group"], strict=True)), sorted(problems)


def _is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker (a little padding may follow it)."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[-64:]
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return False
