"""Which runs a comparison is between, which of them are one variant, and on what images.

A training is one run, or one run a fold of the same seed, which together test every image once. A
variant is the trainings of one recipe, which differ in their seed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd

from common import runs
from common.config import completed
from common.dataset import ancestry, splits
from common.errors import UserError
from common.labels import Labels, is_fingerprint
from common.runs import Run

# Options that may differ between the runs of one variant: they change no recipe.
_NOT_RECIPE = {
    "compile", "data", "device", "fold", "out", "resume", "seed", "split", "store", "wandb",
    "wandb_group", "workers",
}  # fmt: skip
_SIZE = {"height", "width"}
_FITTED = {"batch_size", "crop", "epochs", "lr"}  # options that a size may ask for
Recipe = dict[str, Any]


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """The run directories, each once. Raises UserError where one is none, or is given twice."""
    if not paths:
        raise UserError("name at least one run directory: python -m common.compare runs/A runs/B")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("the same run directory is given twice.")
    return [runs.load(path) for path in paths]


def check_data(entered: Sequence[Run], labels: Labels, fingerprint: str) -> None:
    """Raises UserError unless every run was trained on this very data set, read alike."""
    others = [
        run for run in entered if not is_fingerprint(run.data["fingerprint"], labels, fingerprint)
    ]
    if others:
        listed = "\n".join(
            f"  {run.path}: {run.data['root']} ({run.data['fingerprint']})" for run in others
        )
        raise UserError(
            f"the data in {labels.root} (fingerprint {fingerprint}) is not what these runs were "
            f"trained on:\n{listed}\nName their data with --data, or leave them out."
        )
    if len({run.bits for run in entered}) > 1:
        listed = "\n".join(f"  {run.path}: {run.bits} bits" for run in entered)
        raise UserError(
            f"16-bit images have not the same bits in use for all runs:\n{listed}\n"
            "Compare those of one kind, or train the others anew."
        )


def test_part(
    entered: Sequence[Run], labels: Labels
) -> tuple[pd.DataFrame, list[tuple[Run, frozenset[str]]]]:
    """The images that every training tests, in name order, and those of them that each run tests.

    The table has the columns image and group. Over the runs of a training every image is there
    once; a fold of which no image is left is not there.

    Raises UserError where a run was trained on images that another is tested on: no comparison
    between them could be believed. Folds of one partition are, and each is asked about its own.
    """
    entries = [splits.read(run.path / "split.csv", labels) for run in entered]
    parts = [_Parts.of(split) for split in entries]
    tests = set().union(*(one.test for one in parts))
    for run in entered:
        if shared := ancestry.known(ancestry.read(run.path), labels, tests):
            raise UserError(
                f"{run.path} started from weights (--init) that were trained or validated on "
                f"{len(shared)} of the test images, such as {min(shared)}. Leave it out, or train "
                "it on a split that keeps them out of the test part."
            )
    for (run, own), (other, its) in permutations(zip(entered, parts, strict=True), 2):
        if (shared := own.train & its.test) and not _are_one_partition(run, own, other, its):
            raise UserError(
                f"{run.path} was trained on {len(shared)} of the {len(its.test)} test images of "
                f"{other.path}.\nTrain them on one split: --split {_typed(other)}"
            )
    trainings = [rows for several in variants(entered).values() for rows in several]
    tested = [frozenset.union(*(parts[i].test for i in rows)) for rows in trainings]
    common = frozenset.intersection(*tested)
    if not common:
        raise UserError(
            "\n".join(["the runs have no test image in common.", *missing_folds(entered)])
            + f"\nTrain them on one split: --split {_typed(entered[0])}"
        )
    table = entries[0].loc[entries[0]["image"].isin(common), ["image", "group"]]
    own = ((run, its.test & common) for run, its in zip(entered, parts, strict=True))
    return table.reset_index(drop=True), [(run, images) for run, images in own if images]


def missing_folds(entered: Sequence[Run]) -> list[str]:
    """A sentence for each training by folds that has not all of them."""
    said = []
    for name, trainings in variants(entered).items():
        for rows in trainings:
            options = [completed(entered[i].options) for i in rows]
            folds, seed = options[0]["folds"], options[0]["seed"]
            missing = sorted({*range(folds or 0)} - {its["fold"] for its in options})
            if missing:
                listed = ", ".join(map(str, missing))
                said.append(
                    f"{name}, seed {seed}: of {folds} folds not there: {listed}. The images that "
                    "they would test are left out for all."
                )
    return said


def variants(entered: Sequence[Run]) -> dict[str, list[list[int]]]:
    """The trainings of each recipe under one name, each the positions of its runs.

    A name is the variant and its size; where recipes differ, also the options that do. Runs with
    one recipe and one seed are no repetition but two things to compare: they are told apart by
    their folders. Raises UserError where that is so of runs by folds.
    """
    by_recipe: dict[str, list[int]] = {}
    for position, run in enumerate(entered):
        by_recipe.setdefault(repr((run.variant, _recipe(run))), []).append(position)
    firsts = [entered[positions[0]] for positions in by_recipe.values()]
    result = {}
    for run, positions in zip(firsts, by_recipe.values(), strict=True):
        namesakes = [other for other in firsts if _name(other) == _name(run)]
        name = _name(run) + _difference(_recipe(run), map(_recipe, namesakes))
        by_seed: dict[int, dict[int | None, int]] = {}
        for i in positions:
            options = completed(entered[i].options)
            by_seed.setdefault(options["seed"], {}).setdefault(options["fold"], i)
        trainings = [list(by_fold.values()) for by_fold in by_seed.values()]
        if sum(map(len, trainings)) == len(positions):
            result[name] = trainings
        elif completed(run.options)["folds"] is None:
            result |= {f"{name} ({entered[i].path})": [[i]] for i in positions}
        else:
            first = {i for rows in trainings for i in rows}
            again = next(entered[i].path for i in positions if i not in first)
            raise UserError(
                f"{again} is of a recipe, seed and fold that another run is of, too. Leave out one."
            )
    return result


def networks(entered: Sequence[Run], shapes: Sequence[list[tuple[int, ...]]]) -> list[str]:
    """What to call each run's network: one name where only the size tells runs apart.

    entered: a run a variant. shapes: those of each run's weights, which decide what is one network,
    whatever its variants are called. Options that differ, but for those that a size asks for, make
    it two.
    """
    for passed_over in (_SIZE | _FITTED, _SIZE):
        recipes = [
            {key: value for key, value in _recipe(run).items() if key not in passed_over}
            for run in entered
        ]
        keys = [repr(key) for key in zip(shapes, recipes, strict=True)]
        if len({(key, run.size) for key, run in zip(keys, entered, strict=True)}) == len(keys):
            break  # else what was passed over tells runs of one size apart
    names = []
    for key, recipe in zip(keys, recipes, strict=True):
        called = [run.variant for run, other in zip(entered, keys, strict=True) if other == key]
        rivals = [
            other for run, other in zip(entered, recipes, strict=True) if run.variant in called
        ]
        names.append(" and ".join(dict.fromkeys(called)) + _difference(recipe, rivals))
    return names


@dataclass(frozen=True)
class _Parts:
    """Images of a run's split: all, and those of the parts that matter here."""

    images: frozenset[str]
    train: frozenset[str]
    test: frozenset[str]

    @classmethod
    def of(cls, split: pd.DataFrame) -> _Parts:
        train, test = (frozenset(splits.members(split, part)) for part in ("train", "test"))
        return cls(frozenset(split["image"]), train, test)


def _are_one_partition(run: Run, own: _Parts, other: Run, its: _Parts) -> bool:
    """Whether two runs are folds of one partition, as their numbers and their test parts say."""
    mine, theirs = completed(run.options), completed(other.options)
    if mine["folds"] is None or mine["folds"] != theirs["folds"] or own.images != its.images:
        return False
    if mine["fold"] == theirs["fold"]:
        return own.test == its.test
    return own.test.isdisjoint(its.test)


def _typed(run: Run) -> str:
    return shlex.quote(str(run.path / "split.csv"))


def _name(run: Run) -> str:
    size = f"{run.size[0]}x{run.size[1]}"
    return run.variant if size in run.variant else f"{run.variant} {size}"


def _difference(own: Recipe, namesakes: Iterable[Recipe]) -> str:
    """The options by which a recipe stands apart from others of its name, in brackets."""
    others = list(namesakes)
    differing = [key for key in own if any(other.get(key) != own[key] for other in others)]
    return f" ({', '.join(f'{key} {own[key]}' for key in differing)})" if differing else ""


def _recipe(run: Run) -> Recipe:
    options = completed(run.options)
    return {key: value for key, value in options.items() if key not in _NOT_RECIPE}
