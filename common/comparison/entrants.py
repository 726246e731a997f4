"""Which runs a comparison is between, which are seeds of one variant, and on what images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd

from common import runs
from common.config import completed
from common.dataset import splits
from common.errors import UserError
from common.labels import Labels
from common.runs import Run

# Options that may differ between seeds of one variant: they change no recipe.
_NOT_RECIPE = {
    "compile", "data", "device", "out", "resume", "seed", "split", "store", "wandb", "wandb_group",
    "workers",
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
    """Raises UserError unless every run was trained on this very data set."""
    others = [run for run in entered if run.data["fingerprint"] != fingerprint]
    if others:
        listed = "\n".join(
            f"  {run.path}: {run.data['root']} ({run.data['fingerprint']})" for run in others
        )
        raise UserError(
            f"the data in {labels.root} (fingerprint {fingerprint}) is not what these runs were "
            f"trained on:\n{listed}\nName their data with --data, or leave them out."
        )


def test_part(entered: Sequence[Run], labels: Labels) -> pd.DataFrame:
    """The images that are in every run's test part, in name order: columns image, group.

    Raises UserError where a run was trained on images that another is tested on: no comparison
    between them could be believed.
    """
    entries = [splits.read(run.path / "split.csv", labels) for run in entered]
    parts = [
        {part: set(split.loc[split["split"] == part, "image"]) for part in ("train", "test")}
        for split in entries
    ]
    for (run, own), (other, its) in permutations(zip(entered, parts, strict=True), 2):
        if shared := own["train"] & its["test"]:
            raise UserError(
                f"{run.path} was trained on {len(shared)} of the {len(its['test'])} test images of "
                f"{other.path}.\nTrain them on one split: --split {other.path / 'split.csv'}"
            )
    common = set.intersection(*(own["test"] for own in parts))
    if not common:
        raise UserError(
            "the runs have no test image in common.\n"
            f"Train them on one split: --split {entered[0].path / 'split.csv'}"
        )
    first = entries[0]
    return first.loc[first["image"].isin(common), ["image", "group"]].reset_index(drop=True)


def variants(entered: Sequence[Run]) -> dict[str, list[int]]:
    """Positions of the runs that differ in nothing but their seed, together under one name.

    A name is the variant and its size; where recipes differ, also the options that do. Runs with
    one recipe and one seed are no repetition but two things to compare: they are told apart by
    their folders.
    """
    by_recipe: dict[str, list[int]] = {}
    for position, run in enumerate(entered):
        by_recipe.setdefault(repr((run.variant, _recipe(run))), []).append(position)
    firsts = [entered[positions[0]] for positions in by_recipe.values()]
    result = {}
    for run, positions in zip(firsts, by_recipe.values(), strict=True):
        namesakes = [other for other in firsts if _name(other) == _name(run)]
        name = _name(run) + _difference(_recipe(run), map(_recipe, namesakes))
        if len({entered[i].options.get("seed") for i in positions}) == len(positions):
            result[name] = positions
        else:
            result |= {f"{name} ({entered[i].path})": [i] for i in positions}
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
