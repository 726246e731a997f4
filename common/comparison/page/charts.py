"""A comparison's charts, as SVG. One colour and one mark a variant throughout."""

from __future__ import annotations

import textwrap

from markupsafe import Markup

from common.comparison.page import svg, tradeoffs
from common.comparison.page.lines import Point, joined, told
from common.comparison.page.svg import BOTTOM, LEFT, RIGHT, TOP, Figure, Scale
from common.comparison.page.text import count, interval, score, size_range
from common.overlay import colour as class_colour

FAMILIES = (
    "dice_positive_class", "dice_class", "iou_class", "f1_class", "precision_class",
    "recall_class", "auroc_class",
)  # fmt: skip
SHARE = Scale(0, 1, BOTTOM, TOP)


def figures(results: dict) -> list[Figure]:
    """All charts that have something to show. Numbers that are not finite must be None."""
    made = [
        *tradeoffs.figures(results),
        classes(results),
        size_recall(results),
        thresholds(results),
        calibration(results),
        curves(results, "Loss", ("train_loss", "val_loss")),
        curves(results, "Validation Dice", ("val_dice_mean",)),
    ]
    return [figure for figure in made if figure.panels]


def classes(results: dict) -> Figure:
    """Scores of each class as bars with intervals, one panel a family of metrics."""
    panels = []
    for family in FAMILIES:
        keys = {k: f"{family}_{k}" for k in results["data"]["classes"]}
        title = results["metrics"][next(iter(keys.values()))]["title"].split(",")[0]
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
    given = variant["thresholded"].get(key) or {}
    if given.get("value") is None:
        return svg.text(left + width / 2, BOTTOM - 5, "—", f"tick middle {svg.colour(index)}")
    top = SHARE(given["value"])
    limits = interval(given["low"], given["high"])
    tip = f"{variant['name']}, {name}: {score(given['value'])} {limits}"
    bar = svg.rect(left + 1, top, width - 2, BOTTOM - top, f"bar {svg.colour(index)}", tip)
    return bar + svg.whisker(left + width / 2, SHARE, given["low"], given["high"], "over")


def size_recall(results: dict) -> Figure:
    """Share of defects found, by their size; one panel for all classes and one a class."""
    panels, rows = [], []
    for k, name in {None: "all classes", **_titles(results)}.items():
        series = [
            (i, variant["name"], [e for e in variant["size_recall_thresholded"] if e["class"] == k])
            for i, variant in enumerate(results["variants"])
        ]
        title = name[0].upper() + name[1:]
        panels.append((str(k or "all"), title, _size_recall(series, name)))
        rows += [
            [variant, title, size_range(e), count(e["count"]), *_with_interval(e, "recall")]
            for _, variant, entries in series
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


def _size_recall(series: list[tuple[int, str, list[dict]]], name: str) -> Markup:
    bins = series[0][2]
    x = Scale(-0.5, len(bins) - 0.5, LEFT, RIGHT)
    parts = [svg.axes(None, SHARE, "", "recall, by defect area in px")]
    for slot, entry in enumerate(bins):
        parts += [
            svg.text(x(slot), BOTTOM + 17, size_range(entry), "tick middle"),
            svg.text(x(slot), BOTTOM + 32, f"n {count(entry['count'])}", "tick faint middle"),
        ]
    step = min(12 * len(bins) / (RIGHT - LEFT), 1 / (len(series) + 1))
    for number, (index, variant, entries) in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * step
        points = [
            None if e["recall"] is None
            else told(index, f"{variant}, {size_range(e)} px", slot + shift, e, "recall")
            for slot, e in enumerate(entries)
        ]  # fmt: skip
        parts += joined(points, x, SHARE, 4.5)
    return svg.chart(parts, f"Recall by defect size, {name}")


def thresholds(results: dict) -> Figure:
    """What other probabilities would have scored on val, and the one taken; one panel a class."""
    x = Scale(0, 1, LEFT, RIGHT)
    panels, rows = [], []
    for k, name in _titles(results).items():
        parts = [svg.axes(x, SHARE, "images without the class left clean", "positive Dice")]
        drawn = False
        for index, variant in enumerate(results["variants"]):
            points = []
            for e in variant["thresholds_curve"]:
                figures = e["empty_accuracy"], e["dice_positive"]
                if e["class"] != k or None in figures:
                    continue
                told_as = [f"{e['probability']:g}", *map(score, figures)]
                tip = "{}: probability {}, left clean {}, positive Dice {}".format(
                    variant["name"], *told_as
                )
                points.append(Point(index, *figures, f"{tip}, taken" if e["taken"] else tip))
                if e["taken"]:
                    parts.append(svg.marker(index, x(figures[0]), SHARE(figures[1]), tip, 8))
                rows.append([variant["name"], name, *told_as, "yes" if e["taken"] else ""])
            parts += joined(points, x, SHARE, 3, "series")
            drawn = drawn or bool(points)
        if drawn:
            title = name[0].upper() + name[1:]
            panels.append((str(k), title, svg.chart(parts, f"Decision on val, {name}")))
    note = (
        "On the validation images: what each probability would have left clean and found, with the "
        "peak and total that were chosen; a variant's first training. The large mark is what was "
        "taken: the steadiest, not always the best. No line: chosen otherwise, or no image has it."
    )
    header = ["Variant", "Class", "Probability", "Left clean", "Positive Dice", "Taken"]
    return Figure(
        "thresholds", "The decision on val", note, "threshold", panels, header=header, rows=rows
    )


def calibration(results: dict) -> Figure:
    """How often a defect is there, against how probable the network said it was."""
    x = Scale(0, 1, LEFT, RIGHT)
    diagonal = svg.path([(LEFT, BOTTOM), (RIGHT, TOP)], "baseline", "as probable as it is frequent")
    parts = [svg.axes(x, SHARE, "predicted probability", "observed frequency"), diagonal]
    rows = []
    for index, variant in enumerate(results["variants"]):
        points = []
        for b in variant["calibration"]:
            numbers = [score(b["probability"]), score(b["frequency"]), count(b["pixels"])]
            tip = "{}: predicted {}, observed {} ({} pixels)".format(variant["name"], *numbers)
            points.append(Point(index, b["probability"], b["frequency"], tip))
            rows.append([variant["name"], *numbers])
        parts += joined(points, x, SHARE, 4, "series")
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
        for run in variant["curves"]
        for key in keys
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


def _with_interval(entry: dict, key: str) -> list[str | None]:
    if entry[key] is None:
        return [None, None]
    return [score(entry[key]), interval(entry["low"], entry["high"]) or None]
