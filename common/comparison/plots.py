"""A comparison as pictures, each as PNG and as SVG, drawn from the results alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.files import publish

Json = dict[str, Any]
# Okabe-Ito hues from the dark end, told apart by colour-blind readers and on paper.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "comparison",  # the same figures give the same file
}
QUALITY = ("dice_mean", "dice_positive_macro")
NOTHING = "predicting nothing"


def save_all(results: Json, folder: Path) -> list[Path]:
    """Draws every plot into `folder`; returns the PNGs. Raises OSError where it cannot write."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for draw in PLOTS:
        with rc_context(STYLE):
            figure = draw(results)
            for kind, metadata in (("svg", {"Date": None}), ("png", {})):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
                publish(folder / f"{draw.__name__}.{kind}", buffer.getvalue())
        pictures.append(folder / f"{draw.__name__}.png")
    return pictures


def quality_latency(results: Json) -> Figure:
    """Quality against latency at batch 1, with the intervals of both."""
    figure = Figure(figsize=(10, 4.2))
    for axes, metric in zip(figure.subplots(1, 2), QUALITY, strict=True):
        for variant, colour in _coloured(results):
            latency, score = variant["latency"], variant["scores"][metric]
            x, y = latency["median_ms"], _number(score["value"])
            axes.errorbar(
                x, y,
                xerr=[[x - latency["low_ms"]], [latency["high_ms"] - x]], yerr=_errors([score]),
                fmt="o", color=colour, capsize=3, markersize=7, label=variant["name"],
            )  # fmt: skip
        _draw_baseline(axes, results["baseline"][metric])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(f"latency at batch 1, ms ({_literal(results['machine']['device'])})")
        axes.set_ylabel(results["metrics"][metric]["title"])
    _legend(figure)
    return figure


def learning_curves(results: Json) -> Figure:
    """Losses and val Dice by epoch; a line a training."""
    figure = Figure(figsize=(10, 4.2))
    losses, dice = figure.subplots(1, 2)
    for variant, colour in _coloured(results):
        for number, curve in enumerate(variant["curves"]):
            label = variant["name"] if number == 0 else None
            epoch = curve["epoch"]
            losses.plot(epoch, _numbers(curve["val_loss"]), color=colour, label=label)
            losses.plot(epoch, _numbers(curve["train_loss"]), ":", color=colour, linewidth=1)
            dice.plot(epoch, _numbers(curve["val_dice_mean"]), color=colour)
    losses.set_ylabel("loss (val solid, train dotted)")
    dice.set_ylabel("val mean Dice at the training size")
    for axes in (losses, dice):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure)
    return figure


def per_class(results: Json) -> Figure:
    """Dice by class, pooled and over positive images, with intervals."""
    figure = Figure(figsize=(10, 4.2))
    classes, titles = results["data"]["classes"], results["data"]["class_titles"]
    for axes, kind in zip(figure.subplots(1, 2), ("dice", "dice_positive"), strict=True):
        rows = [
            [variant["scores"][f"{kind}_class_{k}"] for k in classes]
            for variant in results["variants"]
        ]
        _grouped_bars(axes, results, rows, "value")
        axes.set_xticks(range(len(classes)), [f"class {title}" for title in titles])
        axes.set_ylabel(results["metrics"][f"{kind}_class_1"]["title"].split(",")[0])
        axes.set_ylim(0, 1.02)
    _legend(figure)
    return figure


def size_recall(results: Json) -> Figure:
    """Share of defects found by their size, all classes together."""
    figure = Figure(figsize=(8, 4.2))
    axes = figure.subplots()
    rows = [
        [row for row in variant["size_recall"] if row["class"] is None]
        for variant in results["variants"]
    ]
    _grouped_bars(axes, results, rows, "recall")
    axes.set_xticks(
        range(len(rows[0])), [f"{_bin(row)}\n{row['count']} defects" for row in rows[0]]
    )
    axes.set_xlabel("size of the defect, pixels")
    axes.set_ylabel("share found")
    axes.set_ylim(0, 1.02)
    _legend(figure)
    return figure


def calibration(results: Json) -> Figure:
    """How often pixels are defects, against the probability that the network gives."""
    figure = Figure(figsize=(6, 5.6))
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
    for variant, colour in _coloured(results):
        bins = variant["calibration"]
        probability = [row["probability"] for row in bins]
        curve.plot(
            probability, [row["frequency"] for row in bins], "o-", color=colour, markersize=4,
            label=variant["name"],
        )  # fmt: skip
        counts.plot(probability, [row["pixels"] for row in bins], "o-", color=colour, markersize=3)
    curve.set_ylabel("share of pixels that are defects")
    counts.set_ylabel("pixels")
    counts.set_yscale("log")
    counts.set_xlabel("probability of a defect")
    _legend(figure)
    return figure


PLOTS: tuple[Callable[[Json], Figure], ...] = (
    quality_latency,
    learning_curves,
    per_class,
    size_recall,
    calibration,
)


def _coloured(results: Json) -> list[tuple[Json, str]]:
    """Each variant, its name fit to be drawn, with its colour."""
    return [
        (variant | {"name": _literal(variant["name"])}, COLOURS[i % len(COLOURS)])
        for i, variant in enumerate(results["variants"])
    ]


def _literal(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def _grouped_bars(axes: Axes, results: Json, rows: Sequence[Sequence[Json]], key: str) -> None:
    """A group of bars a position and a bar a variant, with intervals. rows: one a variant."""
    width = 0.8 / len(rows)
    for i, ((variant, colour), row) in enumerate(zip(_coloured(results), rows, strict=True)):
        x = np.arange(len(row)) + (i - (len(rows) - 1) / 2) * width
        axes.bar(
            x, _numbers([entry[key] for entry in row]), width * 0.92, color=colour,
            yerr=_errors(row, key), error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"},
            label=variant["name"],
        )  # fmt: skip
    axes.grid(axis="x", visible=False)


def _errors(entries: Sequence[Json], key: str = "value") -> np.ndarray:
    """Distances (2, n) from the value down and up to the interval's ends."""
    value, low, high = (
        _numbers([entry[name] for entry in entries]) for name in (key, "low", "high")
    )
    return np.maximum([value - low, high - value], 0)


def _draw_baseline(axes: Axes, value: float | None) -> None:
    if value is not None:
        axes.axhline(value, linestyle="--", color="#999999", linewidth=1, label=NOTHING)


def _legend(figure: Figure) -> None:
    """One legend for the whole figure, above it, each name once, the reference line last."""
    entries = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    entries = dict(sorted(entries.items(), key=lambda entry: entry[0] == NOTHING))
    columns = int(figure.get_figwidth() / 2.4)
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)


def _bin(row: Json) -> str:
    low, high = (None if px is None else f"{px // 1000} k" if px else "0" for px in
                 (row["low_px"], row["high_px"]))  # fmt: skip
    return f"from {low}" if high is None else f"{low}–{high}"


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([_number(value) for value in values], float)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
