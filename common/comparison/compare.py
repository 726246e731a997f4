"""A comparison, step by step: entrants, decisions, tallies, figures, costs, and what is written."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from common import labels as labels_module
from common.comparison import plots, report, results, rivals, timing
from common.comparison.contestants import Contestant, Network, Rival
from common.comparison.entrants import (
    check_data,
    load_runs,
    missing_folds,
    networks,
    test_part,
    variants,
)  # fmt: skip
from common.comparison.evaluate import evaluate, pooled
from common.comparison.glossary import describe
from common.comparison.page.page import GalleryItem, write_page
from common.comparison.results import Json, Scored, Training
from common.comparison.showcase import gallery
from common.comparison.tally import Tally
from common.comparison.tracking import log_comparison
from common.comparison.tune import ensure_thresholds
from common.devices import pick_device, pick_precision
from common.errors import UserError
from common.files import publish, publish_json, try_folder
from common.inference import Segmenter
from common.labels import Labels
from common.runs import Run

if TYPE_CHECKING:
    from common.compare import Config

TIMED_IMAGES = 8


def compare(config: Config, command: str) -> Json:
    """Compares, writes everything into `config.out`, and returns what results.json holds.

    command: how it was called, for the record. Raises UserError where runs and data do not belong
    together, where a disk refuses, and where a batch does not fit the GPU.
    """
    try:
        return _compare(config, command)
    except OSError as error:
        out, place = map(os.path.realpath, (config.out, error.filename or config.out))
        if not Path(place).is_relative_to(out):
            raise  # of a file that is read: the system's words say enough
        raise UserError(
            f"cannot write {error.filename or config.out}: {error.strerror or error}\n"
            "Make room or name another folder with --out; what was evaluated so far is kept."
        ) from error
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"a batch of {config.batch_size} images does not fit the GPU. Lower --batch-size."
        ) from error


def _compare(config: Config, command: str) -> Json:
    paths, tables = rivals.apart(config.runs)
    entered = load_runs(paths)
    labels = entered[0].labels(config.data)
    fingerprint = labels_module.fingerprint(labels)
    check_data(entered, labels, fingerprint)
    test, asked = test_part(entered, labels)
    names = test["image"].tolist()
    try_folder(config.out)
    device = pick_device(config.device)
    precision = pick_precision(config.precision, device)

    by_variant = variants([run_record for run_record, _ in asked])
    masks, notes = _masks(tables, by_variant, labels, names)
    contestants = _networks(asked, labels, config, device, precision)
    for name, path in tables.items():
        by_variant[name] = [[len(contestants)]]
        folder = _folder(config, name, contestants)
        contestants.append(Rival(predictions=folder, path=path, masks=masks[name]))

    state = config.out / ".evaluation"
    context = [fingerprint, precision]
    tallies = evaluate(contestants, labels, names, context, state, config.batch_size)
    scored = [
        Scored(name, [_training(names, contestants, tallies, rows) for rows in trainings])
        for name, trainings in by_variant.items()
    ]
    quality = results.quality(scored, test["group"].tolist(), config.resamples, config.seed)
    costs = _costs(scored, labels, names, precision, config.repeats)
    entries = [entry | costs.get(entry["name"], {}) for entry in quality["variants"]]
    whole = {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "notes": missing_folds(entered) + notes,
        "data": {
            "root": str(labels.root),
            "fingerprint": fingerprint,
            "images": len(names),
            "clean_images": sum(not labels.classes(name) for name in names),
            "groups": test["group"].nunique(),
            "classes": list(range(1, labels.num_classes + 1)),
            "class_titles": list(labels.class_titles),
            "sizes": results.sizes(scored[0].tallies[0]),
        },
        "machine": timing.machine(device) | {"precision": precision},
        "metrics": describe(labels.class_titles),
        **quality,
        "variants": entries,
    }
    _write(whole, gallery(scored, labels, names), config, entered[0].options)
    return whole


def _masks(
    tables: dict[str, Path], by_variant: Collection[str], labels: Labels, names: Sequence[str]
) -> tuple[dict[str, Labels], list[str]]:
    """What each table of predictions says of the images, and what is to be said of the tables."""
    masks, notes = {}, []
    for name, path in tables.items():
        if name in by_variant:
            raise UserError(f"{name} is what a variant is called. Give {path} another name.")
        masks[name], said = rivals.read(name, path, labels, names)
        notes += said
    return masks, notes


def _networks(
    asked: Sequence[tuple[Run, frozenset[str]]],
    labels: Labels,
    config: Config,
    device: torch.device,
    precision: str,
) -> list[Contestant]:
    """Every run with its network on the device, its decision and a folder for its label maps."""
    result: list[Contestant] = []
    for run_record, images in asked:
        segmenter = Segmenter(run_record, device, precision)
        thresholds = ensure_thresholds(
            segmenter, labels, config.aim, config.number, config.batch_size
        )
        folder = _folder(config, run_record.name, result)
        result.append(
            Network(predictions=folder, images=images, segmenter=segmenter, thresholds=thresholds)
        )
    return result


def _folder(config: Config, name: str, others: Sequence[Contestant]) -> Path:
    """Where label maps go: by the name, with the first number behind it that is none of others'."""
    taken = {other.predictions.name for other in others}
    numbered = (f"{name}-{number}" for number in count(2))
    free = next(candidate for candidate in chain([name], numbered) if candidate not in taken)
    return config.out / "predictions" / free


def _training(
    names: Sequence[str],
    contestants: Sequence[Contestant],
    tallies: Sequence[Tally],
    rows: Sequence[int],
) -> Training:
    """The training of the contestants in these rows; over them every image is there once."""
    own = [[name for name in names if contestants[i].tests(name)] for i in rows]
    tally = pooled(names, zip(own, [tallies[i] for i in rows], strict=True))
    return Training([contestants[i] for i in rows], tally)


def _costs(
    scored: Sequence[Scored], labels: Labels, names: Sequence[str], precision: str, repeats: int
) -> dict[str, Json]:
    """By variant, what to call its network and what that needs: the first of its trainings'.

    Timed on images of the commonest size.
    """
    trained = {one.name: one.networks[0] for one in scored if one.networks}
    segmenters = [one.segmenter for one in trained.values()]
    shapes = [
        [tuple(weight.shape) for weight in segmenter.network.state_dict().values()]
        for segmenter in segmenters
    ]
    named = networks([segmenter.run for segmenter in segmenters], shapes)
    tally = scored[0].tallies[0]
    size = results.sizes(tally)[0]
    timed = np.flatnonzero((tally.size == (size["height"], size["width"])).all(axis=1))
    needed = timing.costs(
        [(one.segmenter, one.thresholds) for one in trained.values()],
        [labels.read(names[row]) for row in timed[:TIMED_IMAGES]],
        precision,
        repeats,
    )
    return {
        name: {"network": network} | cost
        for name, network, cost in zip(trained, named, needed, strict=True)
    }


def _write(whole: Json, shown: list[GalleryItem], config: Config, options: Json) -> None:
    out = config.out
    table = report.table(whole)
    publish_json(out / "results.json", whole)
    publish(out / "results.csv", table.to_csv(index=False))
    publish(out / "results.md", report.markdown(whole))
    pictures = plots.save_all(whole, out / "plots")
    write_page(whole, shown, out / "index.html")
    project, group = options.get("wandb_project"), options.get("wandb_group")
    log_comparison(whole, table, pictures, shown, out, project, group, config.wandb)
