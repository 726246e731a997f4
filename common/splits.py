"""Who trains, who validates, who tests: by near-duplicate group, decided once, kept in split.csv.

Strips are photographed in sequence and public sets hold copies, so images split one by one put
twins on both sides and a score then measures memory. Images whose perceptual hashes agree, or that
groups.csv puts together, form a group, and a group stays whole.

The hash of an image is the sign (-1, 0, 1) of each cell of its thumbnail, averaged over blocks and
freed of slow illumination: equal for re-encoded, brighter and slightly shifted copies. Two images
are near-duplicates where the cosine of their hashes is at least SIMILAR. Products of such vectors
are whole numbers and exact in float32: the same groups come out on every machine.
"""

from __future__ import annotations

import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from common.errors import UserError
from common.files import publish
from common.labels import Labels, fingerprint, read_image

PARTS = ("train", "val", "test")
COLUMNS = ["image", "split", "group"]
FOLDS = 7  # one tests, one validates, five train
THUMBNAIL = (16, 100)  # rows, columns
FAINT = 0.25  # grey levels: a cell closer to its surroundings than this has no sign
SIMILAR = 0.55
MARKED = 200  # cells with a sign that a hash needs to say anything; black frames have fewer


def make_split(labels: Labels, seed: int = 0, cache: Path | None = None) -> pd.DataFrame:
    """Table `image,split,group`, sorted by image: about 5/7 train, 1/7 val, 1/7 test.

    Stratified by the set of classes in an image. cache: folder that keeps the hashes of a data
    set. Raises UserError with fewer than three groups, and for images that cannot be read.
    """
    group = _name_groups(_near_duplicates(hashes(labels, cache)), labels)
    folds = min(FOLDS, len(set(group)))
    if folds < len(PARTS):
        raise UserError(
            f"{labels.root} has {len(labels.images)} images in {folds} groups of near-duplicates; "
            "train, val and test need a group each."
        )
    stratum = [" ".join(map(str, labels.classes(name))) for name in labels.images]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    part = np.full(len(labels.images), "train", dtype=object)
    with warnings.catch_warnings():  # a class set rarer than the folds is spread as far as it goes
        warnings.filterwarnings("ignore", message="The least populated class")
        held_out = [rows for _, rows in splitter.split(part, _merge_rare(stratum, folds), group)]
    part[held_out[0]], part[held_out[1]] = "test", "val"
    split = pd.DataFrame({"image": labels.images, "split": part, "group": group})
    _check_parts(split, str(labels.root))
    return split


def limit(split: pd.DataFrame, count: int, labels: Labels, seed: int = 0) -> pd.DataFrame:
    """About `count` images of the split: whole groups, every part kept, rare classes first.

    Each part gets its share of `count` and at least one group. count: at least 3.
    """
    random = np.random.default_rng(seed)
    chosen: list[str] = []
    for part in PARTS:
        rows = split[split["split"] == part]
        quota = max(1, round(count * len(rows) / len(split)))
        members = {group: list(images) for group, images in rows.groupby("group")["image"]}
        order = _rarest_first(members, random.permutation(sorted(members)).tolist(), labels)
        taken = 0
        for group in order:
            if taken and taken + len(members[group]) > quota:
                continue
            chosen.append(group)
            taken += len(members[group])
    return split[split["group"].isin(chosen)].reset_index(drop=True)


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


def read(path: Path, labels: Labels) -> pd.DataFrame:
    """Reads split.csv; it may leave out images of the data set.

    Raises UserError for another form, unknown or repeated images, an empty part, or a group on
    two sides.
    """
    try:
        split = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the split {path}: {error}") from error
    if list(split.columns) != COLUMNS:
        raise UserError(f"{path} has the columns {', '.join(split)}; expected image,split,group.")
    if unknown := sorted(set(split["image"]) - set(labels.images)):
        raise UserError(
            f"{path} names {len(unknown)} images that {labels.image_dir} does not hold, such as "
            f"{unknown[0]}. Does it belong to another data set?"
        )
    if (repeated := split["image"].duplicated()).any():
        raise UserError(f"{path} names {split.loc[repeated, 'image'].iloc[0]} more than once.")
    if other := sorted(set(split["split"]) - set(PARTS)):
        raise UserError(f"{path} has the part {other[0]!r}; expected {', '.join(PARTS)}.")
    straddling = split.groupby("group")["split"].nunique()
    if (straddling > 1).any():
        raise UserError(
            f"{path}: group {straddling.idxmax()} lies in more than one part; that leaks."
        )
    _check_parts(split, str(path))
    return split.sort_values("image", ignore_index=True)


def hashes(labels: Labels, cache: Path | None = None) -> np.ndarray:
    """Perceptual hashes of all images, (N, cells) int8 of -1, 0 and 1, in the order of images."""
    path = cache / f"hashes-{fingerprint(labels)}.npy" if cache else None
    if path and path.exists():
        return np.load(path)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: perceptual_hash(read_image(labels.path(name))), labels.images)
        result = np.stack(list(tqdm(found, "near-duplicates", len(labels.images), unit="image")))
    if path:
        buffer = io.BytesIO()
        np.save(buffer, result)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            publish(path, buffer.getvalue())
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}\n"
                "Free some space or name another folder with --store."
            ) from error
    return result


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """Hash of a grey image (H, W) uint8: sign of each thumbnail cell against its surroundings."""
    cells = cv2.resize(image, THUMBNAIL[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    cells -= cv2.GaussianBlur(cells, (0, 0), 2)
    return ((cells > FAINT).astype(np.int8) - (cells < -FAINT).astype(np.int8)).ravel()


def _near_duplicates(signs: np.ndarray, block: int = 1024) -> np.ndarray:
    """Group number of each image: connected components of the near-duplicate relation."""
    vectors = signs.astype(np.float32)
    marked = np.abs(vectors).sum(axis=1)
    vectors[marked < MARKED] = 0
    norms = np.sqrt(np.maximum(marked, 1))
    pairs = []
    for start in range(0, len(vectors), block):
        rows = slice(start, start + block)
        # Later columns suffice: the relation is symmetric.
        cosine = vectors[rows] @ vectors[start:].T / norms[rows, None] / norms[None, start:]
        pairs.append(np.argwhere(cosine >= SIMILAR) + start)
    a, b = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(vectors),) * 2)
    return connected_components(graph, directed=False)[1]


def _name_groups(numbers: np.ndarray, labels: Labels) -> list[str]:
    """Merges hash groups with those of groups.csv; a group is named by its first image."""
    given = labels.groups or {}
    by_file = {group: i for i, group in enumerate(sorted(set(given.values())))}
    nodes = numbers.max() + 1
    pairs = [
        (number, nodes + by_file[given[name]])
        for name, number in zip(labels.images, numbers, strict=True)
        if name in given
    ]
    if pairs:
        a, b = np.array(pairs).T
        graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(nodes + len(by_file),) * 2)
        numbers = connected_components(graph, directed=False)[1][numbers]
    first: dict[int, str] = {}
    for name, number in zip(labels.images, numbers.tolist(), strict=True):
        first.setdefault(number, name)
    return [first[number] for number in numbers.tolist()]


def _merge_rare(strata: list[str], folds: int) -> list[str]:
    """Strata rarer than the folds become one, unless they are all there is."""
    counts = pd.Series(strata).value_counts()
    merged = [stratum if counts[stratum] >= folds else "rare" for stratum in strata]
    return merged if max(pd.Series(merged).value_counts()) >= folds else ["all"] * len(strata)


def _rarest_first(members: dict[str, list[str]], order: list[str], labels: Labels) -> list[str]:
    """Groups in `order`, but first one for each class, beginning with the rarest class."""
    classes = {g: {k for name in members[g] for k in labels.classes(name)} for g in order}
    counts = pd.Series([k for g in order for k in classes[g]], dtype=int).value_counts()
    front: list[str] = []
    for k in counts.index[::-1]:
        if not any(k in classes[g] for g in front):
            front.append(next(g for g in order if k in classes[g]))
    return front + [g for g in order if g not in front]


def _check_parts(split: pd.DataFrame, where: str) -> None:
    if missing := [part for part in PARTS if part not in set(split["split"])]:
        raise UserError(f"{where}: the {' and the '.join(missing)} part would be empty.")
