"""Who trains, who validates, who tests: by near-duplicate group, decided once, kept in split.csv.

Strips are photographed in sequence and public sets hold copies, so images split one by one put
twins on both sides and a score then measures memory. Images that look the same, if need be mirrored
or turned, or that groups.csv puts together, form a group, and a group stays whole.

A data set splits alike on every machine: nothing here depends on a library's random numbers.
"""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.dataset import near_duplicates
from common.dataset.stratify import apportion, shuffled
from common.errors import UserError
from common.files import publish, refusals_said
from common.labels import Labels, fingerprint
from common.progress import in_threads
from common.tables import matcher, read_rows

PARTS = ("train", "val", "test")
COLUMNS = ["image", "split", "group"]
FRACTIONS = (0.70, 0.15, 0.15)  # of the images, for each part
VERSION = 2  # of the near-duplicate rule; part of the name of what is kept of its work


def make_split(
    labels: Labels,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    cache: Path | None = None,
) -> pd.DataFrame:
    """Table `image,split,group`, sorted by image; a group is named by its first image.

    Stratified: every part gets its share of each class and of each set of classes in an image.
    fractions: of train, val and test. cache: folder that keeps the near-duplicates of a data set.
    Raises UserError with fewer than three groups, and for images that cannot be read.
    """
    table = deal(labels, near_duplicate_pairs(labels, cache), fractions, seed)
    return table.assign(split=[PARTS[k] for k in table["split"]])


def make_fold(labels: Labels, folds: int, fold: int, cache: Path | None = None) -> pd.DataFrame:
    """As `make_split`, of a partition into `folds` parts of one size: part `fold`, from 0, tests.

    The part behind it, in a circle, validates, and the others train. So over all folds every image
    is tested once. Raises UserError with fewer groups than folds, else as `make_split`.
    """
    table = deal(labels, near_duplicate_pairs(labels, cache), [1 / folds] * folds)
    part = {fold: "test", (fold + 1) % folds: "val"}
    return table.assign(split=[part.get(k, "train") for k in table["split"]])


def deal(
    labels: Labels, pairs: np.ndarray, fractions: Sequence[float], seed: int = 0
) -> pd.DataFrame:
    """Table `image,split,group` in which the split is the number of one of the fractions.

    pairs: near-duplicates, (M, 2) positions in `labels.images`. Raises UserError with fewer groups
    than fractions.
    """
    group = group_images(labels, pairs)
    names = sorted(set(group))
    if len(names) < len(fractions):
        raise UserError(
            f"{labels.root} has {len(labels.images)} images in {len(names)} groups of "
            f"near-duplicates; a split into {len(fractions)} parts needs a group for each.\n"
            "Where they are no copies of each other, split them yourself: --split FILE, a table "
            "image,split,group."
        )
    sets: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}
    for image, name in zip(labels.images, group, strict=True):
        sets[name].append(labels.classes(image))
    part = apportion(list(sets.values()), shuffled(names, seed), fractions)
    part_of = dict(zip(names, part.tolist(), strict=True))
    split = [part_of[name] for name in group]
    return pd.DataFrame({"image": labels.images, "split": split, "group": group})


def limit(split: pd.DataFrame, count: int, labels: Labels) -> pd.DataFrame:
    """About `count` images of the split: whole groups, every part kept, every class if possible.

    Each part gets its share of `count` and at least one group. count: at least 3.
    """
    chosen: list[str] = []
    for part in PARTS:
        rows = split[split["split"] == part]
        quota = max(1, round(count * len(rows) / len(split)))
        taken: list[str] = []
        for images in _each_class_first(rows, labels):
            if not taken or len(taken) + len(images) / 2 <= quota:
                taken += images
        chosen += taken
    return split[split["image"].isin(chosen)].reset_index(drop=True)


def share(split: pd.DataFrame, fraction: float, labels: Labels) -> list[str]:
    """Images of the train part that make up about this fraction of it: whole groups, nested.

    A smaller fraction's images are among a larger one's; the first groups show every class.
    """
    rows = split[split["split"] == "train"]
    chosen: list[str] = []
    for images in _each_class_first(rows, labels):
        if chosen and len(chosen) + len(images) / 2 > fraction * len(rows):
            break
        chosen += images
    return sorted(chosen)


def leak(split: pd.DataFrame) -> float:
    """Expected number of val and test images with a group-mate in train under a random split.

    The random split has parts of the same sizes; the expectation is exact (hypergeometric).
    """
    held_out = int((split["split"] != "train").sum())
    others = len(split) - 1
    expected = 0.0
    for size, groups in split["group"].value_counts().value_counts().items():
        mates = np.arange(size - 1)
        alone = np.prod(np.maximum(held_out - 1 - mates, 0) / np.maximum(others - mates, 1))
        expected += groups * size * held_out / len(split) * (1 - alone)
    return expected


def leak_line(split: pd.DataFrame) -> str:
    """What a random split would have leaked, in one line."""
    held_out = int((split["split"] != "train").sum())
    return (
        f"split by {split['group'].nunique()} near-duplicate groups; a random split would have "
        f"leaked {leak(split):.0f} of {held_out} val and test images (a near-duplicate in train)"
    )


def write(split: pd.DataFrame, path: Path) -> None:
    """Publishes split.csv."""
    publish(path, split[COLUMNS].to_csv(index=False))


def members(split: pd.DataFrame, part: str) -> list[str]:
    """Images of 'train', 'val' or 'test'."""
    return split.loc[split["split"] == part, "image"].tolist()


def part_of(run: Path, part: str, labels: Labels) -> list[str]:
    """Images of a part in the run directory `run`."""
    return members(read(run / "split.csv", labels), part)


def read(path: Path, labels: Labels) -> pd.DataFrame:
    """Reads split.csv; it may leave out images of the data set.

    Raises UserError for another form, unknown or repeated images, an empty part, or a group on
    two sides.
    """
    rows, problems = read_rows(path, COLUMNS)
    if problems:
        raise UserError(problems[0])
    split = pd.DataFrame([fields for _, fields in rows], columns=COLUMNS)
    find = matcher(labels.images)
    split["image"] = [find(name) or name for name in split["image"]]
    if unknown := sorted(set(split["image"]) - set(labels.images)):
        raise UserError(
            f"{path} names {len(unknown)} images that {labels.image_dir} does not hold, such as "
            f"{unknown[0]}. Does it belong to another data set?"
        )
    if (repeated := split["image"].duplicated()).any():
        raise UserError(f"{path} names {split.loc[repeated, 'image'].iloc[0]} more than once.")
    if other := sorted(set(split["split"]) - set(PARTS)):
        raise UserError(f"{path} has the part {other[0]!r}; expected {', '.join(PARTS)}.")
    if missing := [part for part in PARTS if part not in set(split["split"])]:
        raise UserError(f"{path}: the {' and the '.join(missing)} part would be empty.")
    for group in (split["group"], split["image"].map(labels.groups or {})):
        straddling = split.groupby(group)["split"].nunique() > 1
        if straddling.any():
            raise UserError(
                f"{path}: group {straddling.idxmax()} lies in more than one part; that leaks."
            )
    return split.sort_values("image", ignore_index=True)


def near_duplicate_pairs(labels: Labels, cache: Path | None = None) -> np.ndarray:
    """Images that look the same, (M, 2) positions in `labels.images`.

    cache: folder where they are kept under the data set's fingerprint. Raises UserError for an
    image that cannot be read and a cache that cannot be written.
    """
    bits = "" if labels.bits == 16 else f"-{labels.bits}-bits"
    path = cache / f"near-duplicates-{VERSION}-{fingerprint(labels)}{bits}.npy" if cache else None
    if path and path.exists():
        pairs = _kept_pairs(path, len(labels.images))
        if pairs is not None:
            return pairs
        print(f"{path} is damaged; near-duplicates are looked for anew")

    def describe(name: str) -> np.ndarray:
        return near_duplicates.describe(labels.read(name))

    bar = {"desc": "near-duplicates", "unit": "image", "leave": False}
    pairs = near_duplicates.pairs(list(in_threads(describe, labels.images, **bar)))
    if path:
        buffer = io.BytesIO()
        np.save(buffer, pairs)
        with refusals_said(path, "Free some space or name another folder with --store."):
            path.parent.mkdir(parents=True, exist_ok=True)
            publish(path, buffer.getvalue())
    return pairs


def _kept_pairs(path: Path, images: int) -> np.ndarray | None:
    """What `near_duplicate_pairs` kept of so many images; None where the file is damaged."""
    try:
        pairs = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    whole = pairs.dtype == np.int64 and pairs.ndim == 2 and pairs.shape[1] == 2
    if not whole or not ((pairs >= 0) & (pairs < images)).all():
        return None
    return pairs


@dataclass(frozen=True)
class Leak:
    """Near-duplicates that a split puts into different parts.

    pairs: their names, two by two. tested: how many test images have a copy in train, a copy of a
    copy included.
    """

    pairs: list[tuple[str, str]]
    tested: int


def find_leak(split: pd.DataFrame, labels: Labels, cache: Path | None = None) -> Leak:
    """What the split leaks; images outside it are not looked at.

    cache, errors: as for `near_duplicate_pairs`.
    """
    some = dataclasses.replace(labels, images=tuple(split["image"]), groups=None)
    part = split["split"].to_numpy()
    pairs = near_duplicate_pairs(some, cache)
    group = np.array(group_images(some, pairs))
    tested = np.isin(group[part == "test"], group[part == "train"]).sum()
    straddling = [(some.images[i], some.images[j]) for i, j in pairs if part[i] != part[j]]
    return Leak(straddling, int(tested))


def group_images(labels: Labels, pairs: np.ndarray) -> list[str]:
    """Group of each image: all that `pairs` and groups.csv link, named by the first of them."""
    given = labels.groups or {}
    first: dict[str, int] = {}
    links = [
        (i, first.setdefault(given[name], i))
        for i, name in enumerate(labels.images)
        if name in given
    ]
    linked = np.concatenate([pairs, np.array(links, np.int64).reshape(-1, 2)])
    number = near_duplicates.groups(linked, len(labels.images))
    _, leader, member = np.unique(number, return_index=True, return_inverse=True)
    return [labels.images[leader[k]] for k in member]


def _each_class_first(rows: pd.DataFrame, labels: Labels) -> list[list[str]]:
    """The images of each group of these rows of a split: groups at random, but some come first.

    First one for each class: small and of many classes, the rarest class's before others.
    """
    members = {name: list(images) for name, images in rows.groupby("group")["image"]}
    names = sorted(members)
    order = [names[i] for i in shuffled(names, seed=0)]
    classes = {g: {k for image in members[g] for k in labels.classes(image)} for g in order}
    counts = Counter(k for held in classes.values() for k in held)
    front: list[str] = []
    for defect_class in sorted(counts, key=lambda k: (counts[k], k)):
        if not any(defect_class in classes[name] for name in front):
            having = [name for name in order if defect_class in classes[name]]
            front.append(min(having, key=lambda name: (len(members[name]), -len(classes[name]))))
    return [members[name] for name in [*front, *(name for name in order if name not in front)]]
