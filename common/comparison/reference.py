"""The same predictions, scored step by step the reference's way, and ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from common import labels as labels_module
from common.comparison.entrants import check_data, load_runs, test_part, variants
from common.comparison.evaluate import decoded_batches
from common.comparison.report import markdown_table
from common.dataset import splits
from common.devices import pick_device
from common.files import publish, refusals_said, spare, try_folder
from common.inference import Segmenter, upsample
from common.labels import Labels, tables_beside
from common.machine import cores
from common.metrics import confusion, scores
from common.progress import tqdm
from common.resize import resize_labels

if TYPE_CHECKING:
    from common.reference import Config

SEEN = 0.55  # share of the reference's val images that are in its train list
DRAWS = 300  # fewer would say little, whatever the network
OURS = ("accuracy", "iou_mean", "dice_mean")
ITS = ("reference_accuracy", "reference_iou", "reference_dice")


@dataclass(frozen=True)
class Step:
    """One row of the table: a split and a size, and the figures (metrics of OURS and ITS)."""

    split: str
    size: str
    figures: dict[str, float]


def draw_val(
    train: Sequence[str], test: Sequence[str], generator: np.random.Generator
) -> list[str]:
    """A val list as the reference's would be for a network trained on `train`.

    As many draws as `test` has images, but at least DRAWS, with replacement; SEEN of them are from
    `train`.
    """
    count = max(len(test), DRAWS)
    seen = round(SEEN * count)
    drawn = [*generator.choice(train, seen), *generator.choice(test, count - seen)]
    return [str(name) for name in drawn]


def confusions(
    segmenter: Segmenter, labels: Labels, names: Sequence[str], batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Confusion matrices (N, C, C) of the most probable class: at native and at the network's size.

    At the network's size the truth is resized as in training.
    """
    native, own = [], []
    classes, size = labels.num_classes + 1, segmenter.run.size
    with ThreadPoolExecutor(cores()) as pool, tqdm(total=len(names), unit="image") as bar:
        bar.set_description(segmenter.run.name)
        for batch_names, images in decoded_batches(labels, names, batch_size, pool):
            truth = [labels.label_map(name, images[0].shape) for name in batch_names]
            small = [resize_labels(label_map, size) for label_map in truth]
            logits = segmenter.logits(segmenter.preprocess(images))
            large = upsample(logits, images[0].shape)
            native.append(confusion(large.argmax(1).cpu(), np.stack(truth), classes))
            own.append(confusion(logits.argmax(1).cpu(), np.stack(small), classes))
            bar.update(len(images))
    return torch.cat(native), torch.cat(own)


def steps(
    segmenter: Segmenter, labels: Labels, test: Sequence[str], batch_size: int, seed: int
) -> list[Step]:
    """The rows for one run, from our evaluation to the reference's."""
    train = splits.part_of(segmenter.run.path, "train", labels)
    drawn = draw_val(train, test, np.random.default_rng(seed))
    names = sorted({*test, *drawn})
    row = {name: i for i, name in enumerate(names)}
    native, own = confusions(segmenter, labels, names, batch_size)
    ours, its = ([row[name] for name in part] for part in (test, drawn))
    size = f"{segmenter.run.size[0]}x{segmenter.run.size[1]}"
    return [
        Step("test images, never trained on", "native", scores(native[ours])),
        Step("test images, never trained on", size, scores(own[ours])),
        Step(f"drawn with replacement, {SEEN:.0%} trained on", size, scores(own[its])),
    ]


def mean_steps(trainings: Sequence[Sequence[Step]]) -> list[Step]:
    """The rows of one variant: each figure's mean over its trainings' rows."""
    return [
        replace(
            rows[0],
            figures={
                metric: float(np.mean([row.figures[metric] for row in rows]))
                for metric in OURS + ITS
            },
        )
        for rows in zip(*trainings, strict=True)
    ]


def markdown(by_variant: dict[str, list[list[Step]]]) -> str:
    """The section, ready for a README. by_variant: the rows of each of a variant's trainings."""
    head = ["", "trainings", "images", "scored at", "accuracy", "mean IoU", "mean Dice"]
    head += [f"reference {title}" for title in ("accuracy", "IoU", "Dice")]
    lines = []
    for name, trainings in by_variant.items():
        for step in mean_steps(trainings):
            figures = [_text(step.figures[metric]) for metric in OURS + ITS]
            lines.append([name, str(len(trainings)), step.split, step.size, *figures])
    table = markdown_table(head, lines)
    return (
        "## What the reference's numbers mean\n\n"
        "The same predictions, scored our way (top left of each block) and step by step the "
        "reference's (bottom right): at the network's own size, on val images of which "
        f"{SEEN:.0%} were trained on, with the background's row and column of the confusion "
        "matrix set to 0, so that missed and invented defects cost nothing. Means over the "
        "trainings of a variant.\n\n"
        f"{table}\n"
    )


def _text(value: float) -> str:
    """Three digits; a dash where the figure is not defined."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def score(config: Config) -> None:
    """Prints and writes the section on the runs of `config`."""
    entered = load_runs(config.runs)
    labels = entered[0].labels(config.data)
    check_data(entered, labels, labels_module.fingerprint(labels))
    _, asked = test_part(entered, labels)
    inputs = [*map(labels.path, labels.images), *chain(*(run.path.iterdir() for run in entered))]
    spare([*inputs, *tables_beside(config.out)], config.out)
    with refusals_said(config.out):
        try_folder(config.out.parent)
    device = pick_device(config.device)
    rows = [
        steps(Segmenter(run, device), labels, sorted(own), config.batch_size, config.seed)
        for run, own in asked
    ]
    by_variant = {
        name: [rows[i] for i in chain.from_iterable(trainings)]
        for name, trainings in variants([run for run, _ in asked]).items()
    }
    text = markdown(by_variant)
    with refusals_said(config.out):
        publish(config.out, text)
    print(text)
