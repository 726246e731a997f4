"""Quality against what it costs: the charts in which a line joins one network's sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from common.comparison.page.answer import judged_by, one_network
from common.comparison.page.lines import Point, line_chart, told
from common.comparison.page.svg import Figure
from common.comparison.page.text import amount, size_range

Variant = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What stands on the horizontal axis. spread: the variant's own interval of it.

    `axis` may name the {device}.
    """

    file: str
    name: str
    axis: str
    unit: str
    note: str
    of: Callable[[Variant], float | None]
    spread: Callable[[Variant], tuple[float | None, float | None]] = lambda _: (None, None)


LATENCY = Cost(
    "latency", "latency", "ms an image, {device}", "ms",
    "Further left is faster; horizontal bars: spread of the timing.",
    lambda variant: (variant.get("latency") or {}).get("median_ms"),
    lambda variant: (variant["latency"].get("low_ms"), variant["latency"].get("high_ms")),
)  # fmt: skip
RESOLUTION = Cost(
    "resolution", "resolution", "pixels of the network's input", "pixels",
    "Further right the network sees more of a strip's pixels.",
    lambda variant: variant["height"] * variant["width"],
)  # fmt: skip
TRAINING = Cost(
    "training", "training time", "seconds of training", "s",
    "Validation counted; wherever each variant was trained.",
    lambda variant: variant.get("training_seconds"),
)  # fmt: skip
WORK = Cost(
    "gflop", "work", "GFLOP an image", "GFLOP", "A multiply-add counts as two.",
    lambda variant: variant.get("gflop"),
)  # fmt: skip


def figures(results: dict) -> list[Figure]:
    """Quality against latency; and where a network is there at several sizes, against the rest."""
    if not one_network(results):
        return [_quality(results, LATENCY)]
    costs = (LATENCY, RESOLUTION, TRAINING, WORK)
    return [*(_quality(results, cost) for cost in costs), _recall(results)]


def _quality(results: dict, cost: Cost) -> Figure:
    """One panel a metric."""
    panels = []
    for metric in judged_by(results):
        about = results["metrics"][metric]
        lines = _lines(results, cost, lambda variant, metric=metric: variant["scores"].get(metric))
        if lines:
            drawn = line_chart(
                lines,
                cost.axis.format(device=results["machine"]["device"]),
                about["title"] + (", lower is better" if about["better"] == "lower" else ""),
                f"{about['title']} against {cost.name}",
                results["baseline"].get(metric),
            )
            panels.append((metric, about["title"], drawn))
    note = f"{cost.note} Vertical bars: 95 % intervals. Dashed: what predicting nothing scores."
    note += " A line joins the sizes of one network." if one_network(results) else ""
    return Figure(
        f"quality_{cost.file}", f"Quality against {cost.name}", note, "judge", panels, in_file=2
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
            drawn = line_chart(lines, RESOLUTION.axis, title, f"{title} against resolution")
            panels.append((str(low), f"{name} px", drawn))
    note = (
        "Share of the defects of a size that were found, by area in native pixels. Vertical bars: "
        "95 % intervals. A line joins the sizes of one network."
    )
    return Figure("recall_resolution", "Recall against resolution", note, "bin", panels)


def _bins(variant: Variant) -> list[dict]:
    return [entry for entry in variant.get("size_recall") or [] if entry["class"] is None]


def _lines(
    results: dict, cost: Cost, figure: Callable[[Variant], dict | None]
) -> list[list[Point]]:
    """Every variant that has the figure and the cost, those of one network in one line."""
    points, networks = {}, one_network(results)
    inner = {index for line in networks for index in line[:-1]}  # the end says whose a line is
    for index, variant in enumerate(results["variants"]):
        x, given = cost.of(variant), figure(variant)
        if x and given and given["value"] is not None:
            name = f"{variant['height']}×{variant['width']}" if index in inner else variant["name"]
            point = told(index, f"{variant['name']}, {amount(x)} {cost.unit}", x, given)
            points[index] = replace(point, name=name, spread=cost.spread(variant))
    joined = {index for line in networks for index in line}
    lines = [*networks, *([index] for index in points if index not in joined)]
    return [found for line in lines if (found := [points[i] for i in line if i in points])]
