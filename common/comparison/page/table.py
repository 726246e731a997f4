"""The report page's table: what its columns are, and the text of every cell."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from common.comparison.glossary import HEADLINES
from common.comparison.page.answer import difference
from common.comparison.page.text import amount, count, interval, score

OVERVIEW = (*HEADLINES, "false_alarms_per_clean_image", "latency", "parameters")
UNKNOWN = "Unknown: its predictions are all that was given."
REFERENCE = ("accuracy", "iou_mean", "dice_mean")
VIEWS = (
    "Overview", "Dice by class", "IoU by class", "Image level", "Cost", "Reference", "All",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One figure. views: the named column sets that show it. cost: no metric of the predictions."""

    key: str
    title: str
    note: str
    unit: str
    better: str | None
    views: tuple[str, ...]
    cost: bool = False


@dataclass(frozen=True)
class Cell:
    """text is None where there is no figure; `reason` then says why. value: what sorts it."""

    text: str | None
    value: float | None
    detail: str = ""
    spread: str = ""
    reason: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Cost:
    """A column that is read from a variant's entry, with its range where it has one."""

    title: str
    note: str
    unit: str
    better: str | None
    text: Callable[[float], str]
    path: tuple[str, ...]
    low: str = ""
    high: str = ""

    def of(self, variant: dict[str, Any]) -> tuple[float | None, float | None, float | None]:
        """The variant's value, and its range; None for what was not measured."""
        *parents, key = self.path
        entry: dict[str, Any] = variant
        for parent in parents:
            entry = entry.get(parent) or {}
        return entry.get(key), entry.get(self.low), entry.get(self.high)


COSTS = {
    "latency": Cost(
        "Latency",
        "Time of one image at batch 1, from the decoded image to its label map: median of repeats "
        "after a warm-up, the device waited for; in brackets the spread of the repeats.",
        "ms", "lower", amount, ("latency", "median_ms"), "low_ms", "high_ms",
    ),
    "preprocess": Cost(
        "Preprocessing", "Part of the latency before the network: resizing, normalising.",
        "ms", "lower", amount, ("latency", "preprocess_ms"),
    ),
    "network": Cost(
        "Network", "Part of the latency in the network.",
        "ms", "lower", amount, ("latency", "network_ms"),
    ),
    "postprocess": Cost(
        "Postprocessing", "Part of the latency after the network: up to native size, decision.",
        "ms", "lower", amount, ("latency", "postprocess_ms"),
    ),
    "throughput": Cost(
        "Throughput",
        "Images a second at the batch size where it was highest; in brackets the spread.",
        "images/s", "higher", amount, ("throughput", "images_per_second"), "low", "high",
    ),
    "batch": Cost(
        "Best batch", "The batch size of the throughput.",
        "images", None, count, ("throughput", "batch"),
    ),
    "memory": Cost(
        "Peak memory", "The most memory that prediction took.",
        "MiB", "lower", count, ("peak_memory_mb",),
    ),
    "parameters": Cost(
        "Parameters", "Trained numbers of the network.", "", "lower", amount, ("parameters",),
    ),
    "conv_layers": Cost(
        "Convolutions", "Convolution layers of the network.", "", None, count, ("conv_layers",),
    ),
    "training": Cost(
        "Training time", "Of a training, validation counted, on whatever trained it.",
        "s", "lower", amount, ("training_seconds",),
    ),
    "gflop": Cost(
        "Work", "Floating-point operations of the network for one image.",
        "GFLOP", "lower", amount, ("gflop",),
    ),
}  # fmt: skip


def columns(results: dict) -> list[Column]:
    """All columns, metrics first, in the order of `results["metrics"]`."""
    scored = [
        Column(
            key, about["title"], about["explanation"], about["unit"], about["better"],
            _views(key),
        )
        for key, about in results["metrics"].items()
    ]  # fmt: skip
    scored.sort(key=lambda c: OVERVIEW.index(c.key) if c.key in OVERVIEW else len(OVERVIEW))
    costs = [
        Column(
            key, cost.title, cost.note, cost.unit, cost.better,
            ("Overview", "Cost") if key in OVERVIEW else ("Cost",), cost=True,
        )
        for key, cost in COSTS.items()
    ]  # fmt: skip
    return scored + costs


def cells(results: dict, column: Column, decision: str) -> list[Cell]:
    """The column's cell of every variant, in their order.

    decision: "scores" (most probable class) or "thresholded".
    """
    if column.cost:
        row = [_cost(column.key, variant, results) for variant in results["variants"]]
    else:
        row = [_scored(column, variant, decision) for variant in results["variants"]]
    return _marked(results, column, row, decision)


def baseline(results: dict, column: Column) -> Cell:
    """What predicting nothing at all scores."""
    value = results["baseline"].get(column.key)
    if value is not None:
        return Cell(score(value), value)
    nothing = "It has no network." if column.cost else "Not defined for a prediction of nothing."
    return Cell(None, None, reason=nothing)


def _views(key: str) -> tuple[str, ...]:
    found = ["Overview"] if key in OVERVIEW else []
    if re.fullmatch(r"dice_(positive_)?(class_\d+|macro)", key):
        found.append("Dice by class")
    if re.fullmatch(r"iou_(class_\d+|mean_with_background)", key):
        found.append("IoU by class")
    if re.match(r"(precision|recall|f1|auroc|false_alarms|empty)_", key):
        found.append("Image level")
    if key.startswith("reference_") or key in REFERENCE:
        found.append("Reference")
    return tuple(found)


def _scored(column: Column, variant: dict[str, Any], decision: str) -> Cell:
    given = variant[decision][column.key]
    if given["value"] is None:
        unknown = column.key.startswith("auroc") and variant["predictions"]
        return Cell(None, None, reason=UNKNOWN if unknown else _undefined(column))
    spread = given["seed_std"]
    return Cell(
        score(given["value"]),
        given["value"],
        detail=interval(given["low"], given["high"]),
        spread="" if spread is None else f"seeds ±{score(spread)}",
    )


def _undefined(column: Column) -> str:
    if "_class_" in column.key:
        _, _, title = column.title.partition(", ")
        return f"Not defined: too little of {title} in these test images to decide it."
    if column.key == "false_alarms_per_clean_image":
        return "Not defined: no test image is clean."
    return "Not defined on these test images."


def _cost(key: str, variant: dict[str, Any], results: dict) -> Cell:
    cost = COSTS[key]
    value, low, high = cost.of(variant)
    if value is None:
        missing = f"Not measured on {results['machine']['device']}."
        return Cell(None, None, reason=UNKNOWN if variant["predictions"] else missing)
    detail = "" if low is None or high is None else f"[{cost.text(low)}, {cost.text(high)}]"
    return Cell(cost.text(value), value, detail=detail)


def _marked(results: dict, column: Column, row: list[Cell], decision: str) -> list[Cell]:
    """The row with its best cell marked, and those whose difference from the best does not hold."""
    known = [i for i, cell in enumerate(row) if cell.value is not None]
    if column.better is None or len(known) < 2:
        return row
    pick = min if column.better == "lower" else max
    best = pick(known, key=lambda i: row[i].value)
    names = [variant["name"] for variant in results["variants"]]
    marked = list(row)
    for i in known:
        if row[i].value == row[best].value:
            mark = "best"
        elif column.cost:
            mark = ""
        else:
            found = difference(results, names[i], names[best], column.key, decision)
            mark = "tied" if found is not None and not found.holds else ""
        marked[i] = replace(row[i], mark=mark)
    return marked
