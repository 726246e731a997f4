"""From a config to a data set made ready: labels -> split -> store."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from common import labels as labels_module
from common import runs
from common.config import PROJECT, TrainConfig
from common.dataset import ancestry, splits
from common.dataset.store import Store, open_store
from common.distributed import is_main, one_at_a_time_per_node
from common.errors import UserError
from common.labels import Labels
from common.pixels import bits_in_use
from data.synthetic import IMAGES, generate


@dataclass(frozen=True)
class Data:
    """A data set made ready for one run: what is in it, who belongs where, and its pixels."""

    labels: Labels
    fingerprint: str
    split: pd.DataFrame
    store: Store
    share: float = 1.0
    """Of the train part, that is trained on."""
    seen: ancestry.Seen = field(default_factory=dict)
    """What earlier weights that it starts from were trained or validated on."""

    @property
    def num_classes(self) -> int:
        """Classes of the network's output, the background included."""
        return self.labels.num_classes + 1

    def rows(self, part: str) -> np.ndarray:
        """Rows of the store that are trained on ('train'), or belong to 'val' or 'test', int64."""
        return self._rows[part]

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        members = {part: splits.members(self.split, part) for part in splits.PARTS}
        if self.share < 1:
            members["train"] = splits.share(self.split, self.share, self.labels)
        row = {name: i for i, name in enumerate(self.store.names)}
        return {part: np.sort([row[name] for name in names]) for part, names in members.items()}

    @property
    def epoch_images(self) -> int:
        """Images that an epoch of training draws: the whole train part's number at any share."""
        return len(splits.members(self.split, "train"))

    @cached_property
    def val_classes(self) -> list[int]:
        """Defect classes that the val part shows at the store's size, ascending."""
        shown = self.store.pixel_counts[self.rows("val"), 1:].any(axis=0)
        return (np.flatnonzero(shown) + 1).tolist()

    def lost_masks(self) -> list[tuple[int, int]]:
        """For each defect class, how many masks have no pixel left at the store's size, of all."""
        masks = np.array([
            [k in self.labels.classes(name) for k in range(1, self.num_classes)]
            for name in self.store.names
        ])  # fmt: skip
        lost = masks & (self.store.pixel_counts[:, 1:] == 0)
        return list(zip(lost.sum(axis=0).tolist(), masks.sum(axis=0).tolist(), strict=True))

    @cached_property
    def normalisation(self) -> tuple[float, float]:
        """Mean and standard deviation of the training images' grey values, in [0, 1]."""
        images = self.store.images
        sums = np.zeros(3)
        for row in self.rows("train"):
            counts = np.bincount(images[row].ravel(), minlength=256)
            grey = np.arange(256) / 255
            sums += counts.sum(), counts @ grey, counts @ grey**2
        mean = sums[1] / sums[0]
        return float(mean), float(np.sqrt(max(sums[2] / sums[0] - mean**2, 1e-6)))


def prepare(config: TrainConfig) -> Data:
    """Reads, splits and decodes the data set of `config`.

    Raises UserError for anything wrong with the data: it is all found here, before training.
    """
    own = config.out is not None and config.split == config.out / "split.csv"  # of a resumed run
    if config.folds is not None and config.split and not own:
        raise UserError("--folds makes its own split; leave out --split, or --folds and --fold.")
    with one_at_a_time_per_node():
        root = config.data or default_root()
        labels = labels_module.load(root)
        paths = [labels.path(name) for name in labels.images]
        bits = runs.load(config.out).bits if own else bits_in_use(paths)
        labels = dataclasses.replace(labels, bits=bits)
        fingerprint = labels_module.fingerprint(labels)
        if config.split:
            split = splits.read(config.split, labels)
            if not own:
                _warn_of_leaks(split, config, labels)
        else:
            split = splits.make_split(labels, cache=config.store)
            if config.limit:
                split = splits.limit(split, config.limit, labels)
            if config.folds is not None:
                some = dataclasses.replace(labels, images=tuple(split["image"]))
                split = splits.make_fold(some, config.folds, config.fold, config.store)
        seen: ancestry.Seen = {}
        if config.init and not own:
            earlier = runs.load(config.init)
            seen = ancestry.seen_by(earlier)
            test = splits.members(split, "test")
            split = _apart(split, ancestry.tainted(earlier, seen, labels, test), config)
        names = sorted(split["image"])
        size = (config.height, config.width)
        # Groups say who trains, not what a store holds: other ones need no other store.
        content = fingerprint
        if labels.groups is not None:
            content = labels_module.fingerprint(dataclasses.replace(labels, groups=None))
        store = open_store(labels, names, size, config.store, content, config.workers)
    return Data(labels, fingerprint, split, store, config.share, seen)


def _apart(split: pd.DataFrame, tainted: set[str], config: TrainConfig) -> pd.DataFrame:
    """The split with images that the weights of --init know out of its test part.

    A split that was made here gives their groups to the train part. Raises UserError for one that
    the user gave or asked for, and where nothing would be left to test on.
    """
    if not tainted:
        return split
    tested = len(splits.members(split, "test"))
    said = (
        f"{len(tainted)} of the {tested} test images, such as {min(tainted)}, or "
        f"near-duplicates of them, were trained or validated on by {config.init} or its ancestors"
    )
    if config.split or config.folds is not None:
        raise UserError(f"{said}.\nTest on others (--split), or leave out --init.")
    groups = set(split.loc[split["image"].isin(tainted), "group"])
    moved = split["group"].isin(groups) & (split["split"] == "test")
    split = split.assign(split=split["split"].mask(moved, "train"))
    left = len(splits.members(split, "test"))
    if not left:
        raise UserError(f"{said}: nothing is left to test on. Add strips that it has not seen.")
    if is_main():
        print(f"{said}: with their groups they train here, {left} images test")
    return split


def _warn_of_leaks(split: pd.DataFrame, config: TrainConfig, labels: Labels) -> None:
    """Says which near-duplicates a user's split has put on two sides."""
    leak = splits.find_leak(split, labels, config.store)
    if leak.pairs and is_main():
        print(
            f"warning: {config.split} puts near-duplicates, if need be mirrored or turned, into "
            f"different parts (pairs: {len(leak.pairs)}), such as {' and '.join(leak.pairs[0])}; "
            f"{leak.tested} of {(split['split'] == 'test').sum()} test images have one in train. "
            "Scores on them measure memory"
        )


def default_root() -> Path:
    """data/severstal where it is, else data/synthetic, which is made when missing."""
    for name in ("severstal", "synthetic"):
        root = PROJECT / "data" / name
        if (root / "train.csv").exists():
            if is_main():
                print(f"no --data given: using {root}")
            return root
    root = PROJECT / "data" / "synthetic"
    if is_main():
        print(f"no --data given and no data/severstal: making {IMAGES} images in {root}")
    generate(root, IMAGES, seed=0)
    return root
