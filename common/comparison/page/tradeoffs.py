"""Quality against what it costs: charts in which a line joins one network's sizes, or shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from common.comparison.page.answer import judged_by, one_network
from common.comparison.page.lines import Point, line_chart, told
from common.comparison.page.svg import Figure
from common.comparison.page.table import COSTS
from common.comparison.page.text import amount, input_size, size_range

Variant = dict[str, Any]


def one_size(results: dict) -> list[list[int]]:
    """Variants that are one at several shares of the labels, by index, from few to many."""
    lines: dict[tuple, dict[float, int]] = {}
    for index, variant in enumerate(results["variants"]):
        if variant["train_images"]:
            what = (variant["variant"], variant["height"], variant["width"])
            lines.setdefault(what, {}).setdefault(variant["share"], index)
    return [[line[share] for share in sorted(line)] for line in lines.values() if len(line) > 1]


@dataclass(frozen=True)
class Axis:
    """What a variant costs, to be drawn from left to right.

    title may name the {device}. of: the cost, and its range where it has one. lines: what is
    joined, in words too; `end` says at a line's end whose it is, `short` which the others are.
    """

    file: str
    name: str
    title: str
    unit: str
    note: str
    of: Callable[[Variant], tuple[float | None, float | None, float | None]]
    lines: Callable[[dict], list[list[int]]] = one_network
    joined: str = "the sizes of one network"
    short: Callable[[Variant], str] = input_size
    end: Callable[[Variant], str] = lambda variant: variant["name"]


LATENCY = Axis(
    "latency", "latency", "ms an image, {device}", "ms",
    "Further left is faster; horizontal bars: spread of the timing.", COSTS["latency"].of,
)  # fmt: skip
RESOLUTION = Axis(
    "resolution", "resolution", "pixels of the network's input", "pixels",
    "Further right the network sees more of a strip's pixels.",
    lambda v: (v["height"] and v["height"] * v["width"], None, None),
)  # fmt: skip
TRAINING = Axis(
    "training", "training time", "seconds of training", "s",
    "Validation counted; on whatever trained each.", COSTS["training"].of,
)  # fmt: skip
WORK = Axis(
    "gflop", "work", "GFLOP an image", "GFLOP", "A multiply-add counts as two.", COSTS["gflop"].of,
)  # fmt: skip
LABELS = Axis(
    "labels", "the number of labelled strips", "strips that are trained on", "strips",
    "Further right more strips with their masks were trained on, in as many steps.",
    lambda variant: (variant["train_images"], None, None),
    one_size, "the shares of one variant at one size", lambda variant: f"{variant['share']:.0%}",
    lambda variant: f"{variant['variant']} {input_size(variant)}",
)  # fmt: skip


def figures(results: dict) -> list[Figure]:
    """Quality against latency; against the rest where there is a line to draw."""
    made = [_quality(results, LATENCY)]
    if one_network(results):
        made += [_quality(results, axis) for axis in (RESOLUTION, TRAINING, WORK)]
        made.append(_recall(results))
    if one_size(results):
        made.append(_quality(results, LABELS))
    return made


def _quality(results: dict, axis: Axis) -> Figure:
    """One panel a metric."""
    panels = []
    for metric in judged_by(results):
        about = results["metrics"][metric]
        lines = _lines(results, axis, lambda v, metric=metric: v["thresholded"].get(metric))
        if lines:
            drawn = line_chart(
                lines,
                axis.title.format(device=results["machine"]["device"]),
                about["title"] + (", lower is better" if about["better"] == "lower" else ""),
                f"{about['title']} against {axis.name}",
                results["baseline"].get(metric),
            )
            panels.append((metric, about["title"], drawn))
    note = f"{axis.note} Vertical bars: 95 % intervals. Dashed: what predicting nothing scores."
    note += f" A line joins {axis.joined}." if axis.lines(results) else ""
    return Figure(
        f"quality_{axis.file}", f"Quality against {axis.name}", note, "judge", panels, in_file=2
    )


def _recall(results: dict) -> Figure:
    """Recall by resolution, one panel a size of defect, the smallest first."""
    panels = []
    bins = {entry["low_px"]: size_range(entry) for v in results["variants"] for entry in _bins(v)}
    for low, name in sorted(bins.items()):

        def found(variant: Variant, low: int = low) -> dict | None:
            given = next((entry for entry in _bins(variant) if entry["low_px"] == low), None)
            return given and given | {"value": given["recall"]}

        if lines := _lines(results, RESOLUTION, found):
            title = f"Recall of defects of {name} px"
            drawn = line_chart(lines, RESOLUTION.title, title, f"{title} against resolution")
            panels.append((str(low), f"{name} px", drawn))
    note = (
        "Share of the defects of a size that were found, by area in native pixels. Vertical bars: "
        "95 % intervals. A line joins the sizes of one network."
    )
    return Figure("recall_resolution", "Recall against resolution", note, "bin", panels)


def _bins(variant: Variant) -> list[dict]:
    return [entry for entry in variant["size_recall_thresholded"] if entry["class"] is None]


def _lines(
    results: dict, axis: Axis, figure: Callable[[Variant], dict | None]
) -> list[list[Point]]:
    """Every variant that has the figure and the cost, joined as the axis says."""
    points, joined = {}, axis.lines(results)
    names = {i: axis.short(results["variants"][i]) for line in joined for i in line[:-1]}
    names |= {line[-1]: axis.end(results["variants"][line[-1]]) for line in joined}
    for index, variant in enumerate(results["variants"]):
        (x, *spread), given = axis.of(variant), figure(variant)
        if x and given and given["value"] is not None:
            point = told(index, f"{variant['name']}, {amount(x)} {axis.unit}", x, given)
            name = names.get(index, variant["name"])
            points[index] = replace(point, name=name, spread=tuple(spread))
    alone = set(points) - {index for line in joined for index in line}
    lines = [*joined, *([index] for index in sorted(alone))]
    return [found for line in lines if (found := [points[i] for i in line if i in points])]
