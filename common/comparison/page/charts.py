"""A comparison's charts, as SVG. One colour and one mark a variant throughout."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

from markupsafe import Markup

from common.comparison.page import svg
from common.comparison.page.answer import judged_by
from common.comparison.page.svg import BOTTOM, LEFT, RIGHT, TOP, Scale
from common.comparison.page.text import amount, area, count, interval, score
from common.overlay import colour as class_colour

FAMILIES = (
    "dice_positive_class", "dice_class", "iou_class", "f1_class", "precision_class",
    "recall_class", "auroc_class",
)  # fmt: skip
SHARE = Scale(0, 1, BOTTOM, TOP)


@dataclass(frozen=True)
class Figure:
    """A chart, or several of which the page shows one: panels are (value, label, SVG).

    file: name, without its ending, of the file that holds the first `in_file` panels. switch names
    the page's choice that picks the panel. header and rows are the chart as a table, None in a cell
    without a figure; empty where the page's main table has the numbers.
    """

    file: str
    title: str
    note: str
    switch: str
    panels: list[tuple[str, str, Markup]]
    in_file: int = 1
    header: list[str] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)


def figures(results: dict) -> list[Figure]:
    """All charts that have something to show. Numbers that are not finite must be None."""
    made = [
        trade_off(results),
        classes(results),
        size_recall(results),
        calibration(results),
        curves(results, "Loss", ("train_loss", "val_loss")),
        curves(results, "Validation Dice", ("val_dice_mean",)),
    ]
    return [figure for figure in made if figure.panels]


def trade_off(results: dict) -> Figure:
    """Quality against latency, one panel a metric."""
    panels = []
    for metric in judged_by(results):
        points = []
        for index, variant in enumerate(results["variants"]):
            latency = (variant.get("latency") or {}).get("median_ms")
            given = variant["scores"].get(metric) or {}
            if latency and given.get("value") is not None:
                points.append((index, variant, latency, given))
        if points:
            title = results["metrics"][metric]["title"]
            panels.append((metric, title, _trade_off(results, metric, points)))
    note = (
        "Further left is faster, on a logarithmic axis. Vertical bars: 95 % intervals; horizontal "
        "bars: spread of the timing. Dashed: what predicting nothing scores, where it is in range."
    )
    return Figure("quality_latency", "Quality against latency", note, "judge", panels, in_file=2)


def _trade_off(results: dict, metric: str, points: list) -> Markup:
    about, nothing = results["metrics"][metric], results["baseline"].get(metric)
    title = about["title"]
    y_title = f"{title}, lower is better" if about["better"] == "lower" else title
    x = svg.fitted([p[2] for p in points], LEFT + 6, RIGHT, log=True)
    levels = [v for *_, s in points for v in (s["value"], s["low"], s["high"]) if v is not None]
    y = svg.fitted(levels, BOTTOM, TOP)
    parts = [svg.axes(x, y, f"ms an image, {results['machine']['device']}", y_title)]
    if nothing is not None and y.low <= nothing <= y.high:
        parts.append(svg.line(LEFT, y(nothing), RIGHT, y(nothing), "baseline"))
    labels = []
    for index, variant, latency, given in points:
        at, level = x(latency), y(given["value"])
        spread = [variant["latency"].get(side) for side in ("low_ms", "high_ms")]
        if all(spread):
            ends = [min(max(x(side), LEFT), RIGHT) for side in spread]
            parts.append(svg.line(ends[0], level, ends[1], level, f"whisker {svg.colour(index)}"))
        parts.append(svg.whisker(at, y, given["low"], given["high"], svg.colour(index)))
        tip = (
            f"{variant['name']}: {score(given['value'])} "
            f"{interval(given['low'], given['high'])}, {amount(latency)} ms"
        )
        parts.append(svg.marker(index, at, level, tip, 6))
        labels.append((level, at, index, variant["name"]))
    return svg.chart(parts + _direct_labels(labels), f"{title} against latency")


def _direct_labels(labels: list[tuple[float, float, int, str]]) -> list[Markup]:
    """Names beside their points, moved apart where they would meet."""
    parts, free = [], {"start": float("-inf"), "end": float("-inf")}
    for level, at, index, name in sorted(labels):
        side = "start" if at < (LEFT + RIGHT) / 2 else "end"
        height = max(level - 9, free[side] + 15)
        free[side] = height
        offset = 11 if side == "start" else -11
        look = f"direct {side} {svg.colour(index)}"
        parts.append(svg.text(at + offset, height, _short(name, 24), look))
    return parts


def classes(results: dict) -> Figure:
    """Scores of each class as bars with intervals, one panel a family of metrics."""
    panels = []
    for family in FAMILIES:
        keys = {k: f"{family}_{k}" for k in results["data"]["classes"]}
        keys = {k: key for k, key in keys.items() if key in results["metrics"]}
        if keys:
            first = results["metrics"][next(iter(keys.values()))]["title"]
            title = first.split(",")[0]
            panels.append((family, title, _class_bars(results, keys, title)))
    note = "Bars: score by class. Lines: 95 % intervals. Dashed: what predicting nothing scores."
    return Figure("per_class", "Class by class", note, "family", panels, in_file=2)


def _class_bars(results: dict, keys: dict[int, str], title: str) -> Markup:
    variants, titles = results["variants"], _titles(results)
    parts = [svg.axes(None, SHARE, "", title)]
    room = (RIGHT - LEFT) / len(keys)
    width = min(room * 0.8 / len(variants), 34)
    for slot, (k, key) in enumerate(keys.items()):
        middle = LEFT + room * (slot + 0.5)
        for index, variant in enumerate(variants):
            left = middle + (index - len(variants) / 2) * width
            parts.append(_bar(left, width, index, variant, key, titles[k]))
        nothing = results["baseline"].get(key)
        if nothing:
            half = width * len(variants) / 2 + 3
            at = SHARE(nothing)
            parts.append(svg.line(middle - half, at, middle + half, at, "baseline"))
        parts.append(svg.swatch(middle - 5, BOTTOM + 5, class_colour(k)))
        lines = textwrap.wrap(
            titles[k], max(int(room / 6), 8), break_on_hyphens=False, max_lines=2, placeholder="…"
        )
        for number, line in enumerate(lines):
            parts.append(svg.text(middle, BOTTOM + 29 + 14 * number, line, "tick middle"))
    return svg.chart(parts, f"{title} by class and variant")


def _bar(left: float, width: float, index: int, variant: dict, key: str, name: str) -> Markup:
    given = variant["scores"].get(key) or {}
    if given.get("value") is None:
        return svg.text(left + width / 2, BOTTOM - 5, "—", f"tick middle {svg.colour(index)}")
    top = SHARE(given["value"])
    limits = interval(given["low"], given["high"])
    tip = f"{variant['name']}, {name}: {score(given['value'])} {limits}"
    bar = svg.rect(left + 1, top, width - 2, BOTTOM - top, f"bar {svg.colour(index)}", tip)
    return bar + svg.whisker(left + width / 2, SHARE, given["low"], given["high"], "over")


def size_recall(results: dict) -> Figure:
    """Share of defects found, by their size; one panel for all classes and one a class."""
    named = [(i, v, v.get("size_recall") or []) for i, v in enumerate(results["variants"])]
    found = {entry["class"] for *_, entries in named for entry in entries}
    panels, rows = [], []
    for k in sorted(found, key=lambda k: (k is not None, k or 0)):
        series = [(i, v, [e for e in entries if e["class"] == k]) for i, v, entries in named]
        name = _titles(results).get(k, "all classes").capitalize()
        panels.append(("all" if k is None else str(k), name, _size_recall(series, name)))
        for _, variant, entries in series:
            rows += [
                [variant["name"], name, _range(e), count(e["count"]), *_with_interval(e, "recall")]
                for e in entries
            ]
    note = (
        "Share of the defects that were found, by their area in native pixels. Lines: 95 % "
        "intervals. n: defects in the truth."
    )
    header = ["Variant", "Class", "Area, px", "Defects", "Recall", "Interval"]
    return Figure(
        "size_recall", "Recall by defect size", note, "size", panels, header=header, rows=rows
    )


def _size_recall(series: list, name: str) -> Markup:
    bins = max((entries for *_, entries in series), key=len)
    room = (RIGHT - LEFT) / max(len(bins), 1)
    slots = {(e["low_px"], e["high_px"]): LEFT + room * (i + 0.5) for i, e in enumerate(bins)}
    parts = [svg.axes(None, SHARE, "", "recall, by defect area in px")]
    for entry in bins:
        at = slots[entry["low_px"], entry["high_px"]]
        parts += [
            svg.text(at, BOTTOM + 17, _range(entry), "tick middle"),
            svg.text(at, BOTTOM + 32, f"n {count(entry['count'])}", "tick faint middle"),
        ]
    step = min(12, room / (len(series) + 1))
    for index, variant, entries in series:
        shift = (index - (len(series) - 1) / 2) * step
        points, marks = [], []
        for e in entries:
            at = slots.get((e["low_px"], e["high_px"]))
            if at is None or e["recall"] is None:
                points.append(None)
                continue
            points.append((at + shift, SHARE(e["recall"])))
            tip = (
                f"{variant['name']}, {_range(e)} px: {score(e['recall'])} "
                f"{interval(e['low'], e['high'])} of {count(e['count'])}"
            )
            marks.append(svg.whisker(at + shift, SHARE, e["low"], e["high"], svg.colour(index)))
            marks.append(svg.marker(index, *points[-1], tip, 4.5))
        parts += [svg.path(points, f"series thin {svg.colour(index)}"), *marks]
    return svg.chart(parts, f"Recall by defect size, {name.lower()}")


def calibration(results: dict) -> Figure:
    """How often a defect is there, against how probable the network said it was."""
    x = Scale(0, 1, LEFT, RIGHT)
    diagonal = svg.path([(LEFT, BOTTOM), (RIGHT, TOP)], "baseline", "as probable as it is frequent")
    parts = [
        svg.axes(x, SHARE, "predicted probability", "observed frequency"),
        diagonal,
    ]
    rows = []
    for index, variant in enumerate(results["variants"]):
        bins = variant.get("calibration") or []
        bins = [b for b in bins if b["probability"] is not None and b["frequency"] is not None]
        points = [(x(b["probability"]), SHARE(b["frequency"])) for b in bins]
        parts.append(svg.path(points, f"series {svg.colour(index)}"))
        for b, point in zip(bins, points, strict=True):
            numbers = [score(b["probability"]), score(b["frequency"]), count(b["pixels"])]
            tip = "{}: predicted {}, observed {} ({} pixels)".format(variant["name"], *numbers)
            parts.append(svg.marker(index, *point, tip, 4))
            rows.append([variant["name"], *numbers])
    drawn = svg.chart(parts, "Calibration")
    header = ["Variant", "Predicted probability", "Observed frequency", "Pixels"]
    note = (
        "How often a pixel is a defect, against how probable the network said it was. On the "
        "dashed line they agree; below it the network is too sure."
    )
    panels = [("", "", drawn)] if rows else []
    return Figure("calibration", "Calibration", note, "", panels, header=header, rows=rows)


def curves(results: dict, title: str, keys: tuple[str, ...]) -> Figure:
    """Training curves of every run, by epoch; the first of two keys dashed."""
    lines = [
        (index, variant, run, key, list(zip(run["epoch"], run[key], strict=True)))
        for index, variant in enumerate(results["variants"])
        for run in variant.get("curves") or []
        for key in keys
        if run.get(key)
    ]
    values = [(e, v) for *_, points in lines for e, v in points if v is not None]
    if not values:
        return Figure("learning_curves", title, "", "", [])
    epochs, levels = zip(*values, strict=True)
    log = min(levels) > 0 and max(levels) / min(levels) > 20
    x = svg.fitted(epochs, LEFT, RIGHT)
    y = svg.fitted(levels, BOTTOM, TOP, log)
    parts = [svg.axes(x, y, "epoch", title)]
    for index, variant, run, key, points in lines:
        dashed = "dashed" if len(keys) > 1 and key == keys[0] else ""
        at = [None if v is None else (x(e), y(v)) for e, v in points]
        tip = f"{variant['name']}, {key.replace('_', ' ')} ({run['run']})"
        parts.append(svg.path(at, f"series {dashed} {svg.colour(index)}", tip))
        known = [(v, e) for e, v in points if v is not None]
        if known and not dashed:
            v, e = (min if title == "Loss" else max)(known)
            parts.append(svg.marker(index, x(e), y(v), f"{tip}: best {score(v)}, epoch {e:g}", 4.5))
    note = "Dashed: training. Solid: validation. " if len(keys) > 1 else ""
    note += "One line a run; the mark is the best epoch."
    if len(keys) > 1:
        note += " Losses of unlike kind or size compare in shape only."
    drawn = svg.chart(parts, f"{title} by epoch")
    return Figure("learning_curves", title, note, "", [("", "", drawn)])


def _titles(results: dict) -> dict[int, str]:
    """What to call each class."""
    data = results["data"]
    titles = zip(data["classes"], data["class_titles"], strict=True)
    return {k: f"class {title}" for k, title in titles}


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _range(entry: dict) -> str:
    """The size bin in pixels: "100–1k", "25k and more"."""
    if entry["high_px"] is None:
        return f"{area(entry['low_px'])}+"
    return f"{area(entry['low_px'])}–{area(entry['high_px'])}"


def _with_interval(entry: dict, key: str) -> list[str | None]:
    if entry[key] is None:
        return [None, None]
    return [score(entry[key]), interval(entry["low"], entry["high"]) or None]
