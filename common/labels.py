"""A data set in Kaggle's layout: a folder of images, and train.csv with their masks.

The images are what the folder holds: clean ones have no row in train.csv and belong to the set.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from common import rle
from common.pixels import EXTENSIONS, is_image, read_image
from common.progress import in_threads
from common.tables import LabelError, can_stand, matcher, near_miss, read_rows, summed_up

COLUMNS = ["ImageId", "ClassId", "EncodedPixels"]
OLD_COLUMNS = ["ImageId_ClassId", "EncodedPixels"]
TABLES = ("train.csv", "groups.csv", "classes.csv")
DEFAULT_CLASSES = 4
NOTHING = {"", "-1", "1 0", "nan", "none", "null", "na", "n/a", "<na>"}  # masks of no defect
MOST_CLASSES = 255  # a label map is of bytes
UNFIT = (
    "Was the image made smaller, or turned, after labelling? Put the original back, or bring its "
    "masks to the same size."
)


@dataclass(frozen=True)
class Labels:
    """What is in a data set.

    images: sorted file names. rles: image -> class -> run-length encoding, without empty ones.
    groups: image -> group, from groups.csv; None where there is no such file. num_classes: defect
    classes, the largest of train.csv and classes.csv; 4 where neither has a row. class_names:
    class -> name, from classes.csv, of those that have one. bits: in use of the values of 16-bit
    images, the lower ones (see `pixels.bits_in_use`); what `read` scales by.
    """

    root: Path
    image_dir: Path
    images: tuple[str, ...]
    rles: dict[str, dict[int, str]]
    groups: dict[str, str] | None
    num_classes: int
    class_names: dict[int, str] = field(default_factory=dict)
    bits: int = 16

    @property
    def class_titles(self) -> tuple[str, ...]:
        """What to call the defect classes, in order; see `class_titles`."""
        return class_titles(self.num_classes, self.class_names)

    def path(self, name: str) -> Path:
        """Where the image lies."""
        return self.image_dir / name

    def read(self, name: str) -> np.ndarray:
        """The image as grey values (H, W) uint8; see `read_image`."""
        return read_image(self.path(name), self.bits)

    def classes(self, name: str) -> tuple[int, ...]:
        """Defect classes of an image, ascending; empty where it is clean."""
        return tuple(sorted(self.rles.get(name, ())))

    def mask(self, name: str, defect_class: int, shape: tuple[int, int]) -> np.ndarray:
        """Pixels of a class (H, W) uint8, 0 or 1.

        Raises LabelError where they do not fit into `shape`, the image's height and width.
        """
        try:
            return rle.decode(self.rles.get(name, {}).get(defect_class), shape)
        except rle.RLEError as error:
            raise LabelError(
                f"{self.root / 'train.csv'} ({name}, class {defect_class}): {error}\n{UNFIT}"
            ) from error

    def label_map(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """Class of each pixel (H, W) uint8, 0 background; where masks overlap, the larger class.

        Raises LabelError where a mask does not fit into `shape`, the image's height and width.
        """
        columns = np.zeros(shape[::-1], np.uint8)  # masks run down the columns
        for defect_class in self.classes(name):
            mask = self.mask(name, defect_class, shape)
            np.maximum(columns, mask.T * np.uint8(defect_class), out=columns)
        return cv2.transpose(columns)


def class_titles(count: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """Titles of the defect classes 1 to `count`: "3 (scratch)", or "3" where it has no name."""
    return tuple(f"{k} ({names[k]})" if k in names else str(k) for k in range(1, count + 1))


def load(root: Path | str) -> Labels:
    """Reads the data set in `root`: train_images/, train.csv in either format, and, where they
    are, groups.csv and classes.csv.

    Formats: `ImageId,ClassId,EncodedPixels`, a row a mask; and `ImageId_ClassId,EncodedPixels`, a
    row an image and class, empty where there is no defect. Raises LabelError, which says the first
    thing that is wrong and how many more there are. Whether masks fit their images shows only
    when these are read.
    """
    root = Path(root)
    labels, problems = inspect(root)
    if problems:
        more = f"\n... and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise LabelError(
            f"{problems[0]}{more}\n"
            f"List every problem with: python -m data.check {shlex.quote(str(root))}"
        )
    return labels


def inspect(root: Path) -> tuple[Labels, list[str]]:
    """Reads a data set as `load` does, but returns what is wrong with its rows beside it.

    Raises LabelError where there is nothing to read: no folder, no images, no table.
    """
    image_dir = root / "train_images"
    images = _image_names(root, image_dir)
    rles, rows, problems = read_masks(root / "train.csv", images)
    largest = max((k for _, k in rows), default=0)
    groups, group_problems = _groups(root / "groups.csv", images)
    names, name_problems = _class_names(root / "classes.csv")
    num_classes = max(largest, *names, 0) or DEFAULT_CLASSES
    labels = Labels(root, image_dir, images, rles, groups, num_classes, names)
    return labels, problems + group_problems + name_problems


def tables_beside(path: Path) -> list[Path]:
    """The tables of the data set that `path` lies in, links followed; none where it is no such."""
    root = Path(os.path.realpath(path)).parent
    return [root / name for name in TABLES] if (root / "train_images").is_dir() else []


def defect_classes(label_map: np.ndarray) -> list[int]:
    """Classes other than background in a label map (H, W) uint8, ascending."""
    counts = cv2.calcHist([label_map], [0], None, [256], [0, 256]).ravel()
    return (np.flatnonzero(counts[1:]) + 1).tolist()


def fingerprint(labels: Labels) -> str:
    """A hash of what a data set means: image names and bytes, masks, groups. 16 hex digits.

    Equal on every machine that holds the same images and tables that say the same of them.
    """
    meaning = [
        labels.num_classes,
        [
            [sorted((k, text.split()) for k, text in labels.rles.get(name, {}).items()),
             (labels.groups or {}).get(name)]
            for name in labels.images
        ],
    ]  # fmt: skip
    return _hash_images(labels, json.dumps(meaning).encode())


def is_fingerprint(saved: str, labels: Labels, known: str) -> bool:
    """Whether `saved`, of a run's config.json, is of the data set with the fingerprint `known`.

    Older runs have a hash of the very bytes of train.csv and groups.csv.
    """
    if saved == known:
        return True
    tables = [p for p in (labels.root / "train.csv", labels.root / "groups.csv") if p.exists()]
    return saved == _hash_images(
        labels, *(table.name.encode() + b"\0" + digest(table) for table in tables)
    )


def _hash_images(labels: Labels, *further: bytes) -> str:
    """A hash of image names and bytes, and of what is further given. 16 hex digits."""
    total = hashlib.blake2b(digest_size=8)
    count = len(labels.images)
    bar = {"desc": "fingerprint", "unit": "file", "leave": False, "disable": count < 2000}
    digests = in_threads(digest, [labels.path(name) for name in labels.images], **bar)
    for name, content in zip(labels.images, digests, strict=True):
        total.update(name.encode() + b"\0" + content)
    for part in further:
        total.update(part)
    return total.hexdigest()


def digest(path: Path) -> bytes:
    """A hash of a file's bytes, (16,). Raises LabelError where it cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror or error}") from error


def _image_names(root: Path, image_dir: Path) -> tuple[str, ...]:
    if not root.is_dir():
        raise LabelError(
            f"no data set {root}: there is no such folder.\n"
            "If it lies elsewhere, name it with --data. Else get Kaggle's with:\n"
            "python -m data.download   or make one: python -m data.synthetic"
        )
    if not image_dir.is_dir():
        raise LabelError(f"{root} holds no folder train_images/: images belong there.")
    names = sorted(path.name for path in filter(is_image, image_dir.iterdir()))
    if not names:
        raise LabelError(f"{image_dir} holds no images ({', '.join(sorted(EXTENSIONS))}).")
    if strange := [name for name in names if not can_stand(name)]:
        raise LabelError(
            f"{image_dir} holds {len(strange)} images whose names no table can hold (a line break, "
            f"or bytes that are no UTF-8), such as {strange[0]!a}. Rename them."
        )
    return tuple(names)


def read_masks(
    path: Path, images: Iterable[str], num_classes: int = MOST_CLASSES
) -> tuple[dict[str, dict[int, str]], dict[tuple[str, int], int], list[str]]:
    """A table of masks in either format: the masks, where they stand, and what is wrong.

    The masks are image -> class -> run-length encoding, without empty ones; where they stand is
    (image, class) -> first line in the file, empty ones included, and class 0 for a clean image's
    row. images: what may be named. Whether masks fit their images is not looked at. Raises
    LabelError where it is no such table.
    """
    rows, unread = read_rows(path, COLUMNS, OLD_COLUMNS)
    find, near = matcher(images), near_miss(images)
    parts: dict[str, dict[int, list[tuple[int, str]]]] = {}  # a class may have rows for its parts
    problems = []
    first: dict[tuple[str, int], int] = {}
    for line, fields in rows:
        if len(fields) == 2:
            fields = *fields[0].rpartition("_")[::2], fields[1]
        name, class_id, text = fields
        text = "" if text.strip().lower() in NOTHING else text
        where = f"{path}, line {line} ({name}, class {class_id})"
        if (image := find(name)) is None:
            problems.append((where, f"there is no such image in train_images/{near(name)}"))
        elif (defect_class := _class_number(class_id, num_classes)) is None:
            if text or class_id.strip().lower() not in NOTHING:
                wanted = f"ClassId must be a whole number from 1 to {num_classes}"
                problems.append((where, wanted))
            else:
                first.setdefault((image, 0), line)
        else:
            first.setdefault((image, defect_class), line)
            try:
                starts, _ = rle.runs(text)
            except rle.RLEError as error:
                problems.append((where, f"malformed run-length encoding: {error}"))
            else:
                if len(starts):
                    own = parts.setdefault(image, {}).setdefault(defect_class, [])
                    own.append((line, text))
    masks: dict[str, dict[int, str]] = {image: {} for image in parts}
    for image, classes in parts.items():
        for defect_class, own in classes.items():
            lines, texts = zip(*own, strict=True)
            masks[image][defect_class] = texts[0]
            if len(own) > 1:
                try:
                    masks[image][defect_class] = rle.unite(texts)
                except rle.RLEError as error:
                    where = f"{path}, line {lines[1]} ({image}, class {defect_class})"
                    also = ", ".join(map(str, lines[:1] + lines[2:]))
                    problems.append(
                        (where, f"a duplicate, or masks that overlap: with line {also}: {error}")
                    )
    return masks, first, unread + list(summed_up(problems))


def _class_number(text: str, largest: int = MOST_CLASSES) -> int | None:
    found = re.fullmatch(r"\s*([0-9]{1,3})(\.0+)?\s*", text)  # pandas writes 1.0 beside gaps
    return int(found[1]) if found and 1 <= int(found[1]) <= largest else None


def _groups(path: Path, images: Iterable[str]) -> tuple[dict[str, str] | None, list[str]]:
    """Group of each image that has one, and what is wrong; None where there is no groups.csv."""
    if not path.exists():
        return None, []
    rows, unread = read_rows(path, ["image", "group"])
    find, near = matcher(images), near_miss(images)
    groups: dict[str, str] = {}
    problems = []
    for line, (name, group) in rows:
        where = f"{path}, line {line} ({name})"
        if (image := find(name)) is None:
            problems.append((where, f"there is no such image in train_images/{near(name)}"))
        elif not group.strip():
            problems.append((where, "the group is empty"))
        elif groups.setdefault(image, group.strip()) != group.strip():
            problems.append((where, "a second group of the same image"))
    return groups, unread + list(summed_up(problems))


def _class_names(path: Path) -> tuple[dict[int, str], list[str]]:
    """Name of each class that has one, and what is wrong; no name where there is no file."""
    if not path.exists():
        return {}, []
    rows, problems = read_rows(path, ["class", "name"])
    names: dict[int, str] = {}
    for line, (class_id, name) in rows:
        where = f"{path}, line {line} ({class_id}, {name})"
        if (defect_class := _class_number(class_id)) is None:
            problems.append(f"{where}: class must be a whole number from 1 to 255")
        elif not name.strip():
            problems.append(f"{where}: the name is empty")
        elif defect_class in names or name.strip() in names.values():
            problems.append(f"{where}: a second name of one class, or class of one name")
        else:
            names[defect_class] = name.strip()
    return names, problems
