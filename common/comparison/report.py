"""A comparison as tables: results.csv for programs, results.md for readers and READMEs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from common.comparison.bootstrap import LEAST_GROUPS, MOST_UNDEFINED
from common.comparison.glossary import HEADLINES, said_once, widened
from common.comparison.page import table as page_table
from common.comparison.page.text import size_range, trainings, versions
from common.comparison.tally import FOUND
from common.thresholds import RULES

Json = dict[str, Any]
ELSEWHERE = (
    "iou_mean_with_background", "empty_accuracy", "reference_accuracy", "reference_iou",
    "reference_dice",
)  # fmt: skip
SHOWN = (*HEADLINES, "false_alarms_per_clean_image")
ABOUT = ("name", "variant", "network", "seeds", "folds", "height", "width", "training_seconds")
COSTS = ("parameters", "conv_layers", "gflop", "peak_memory_mb")


def table(results: Json) -> pd.DataFrame:
    """A row a variant and, first, the empty prediction; every figure with its interval.

    Columns of the figures with thresholds end in `_thresholded`; epochs are those of the training
    with the fewest.
    """
    rows = [{"name": "empty prediction", **results["baseline"]}]
    for variant in results["variants"]:
        row = {key: variant[key] for key in (*ABOUT, *COSTS)}
        fewest = min(variant["epochs"], key=lambda epochs: epochs["done"], default={})
        row |= {f"epochs_{key}": value for key, value in fewest.items()}
        for cost in ("latency", "throughput"):
            row |= {f"{cost}_{key}": value for key, value in (variant[cost] or {}).items()}
        for suffix, scores in (("", variant["scores"]), ("_thresholded", variant["thresholded"])):
            for metric, score in scores.items():
                row[f"{metric}{suffix}"] = score["value"]
                for bound in ("low", "high", "seed_std"):
                    row[f"{metric}_{bound}{suffix}"] = score[bound]
            for entry in _all_classes(variant[f"size_recall{suffix}"]):
                ends = "up" if entry["high_px"] is None else f"to_{entry['high_px'] - 1}"
                key = f"recall_{entry['low_px']}_{ends}_px"
                row[f"{key}{suffix}"] = entry["recall"]
                row |= {f"{key}_{bound}{suffix}": entry[bound] for bound in ("low", "high")}
        rows.append(row)
    order = max(rows, key=len)
    return pd.DataFrame(rows)[list(order)]


def summary(results: Json) -> str:
    """A few columns for the terminal."""
    metrics = ("dice_mean", "dice_positive_macro", "kaggle_dice", "false_alarms_per_clean_image")
    rows = [["predicting nothing", "", "", "", *(_plain(results["baseline"][m]) for m in metrics)]]
    for variant in results["variants"]:
        costs = [_cost(variant, "latency", 1), _cost(variant, "throughput", 1)]
        figures = [_plain(variant["scores"][metric]["value"]) for metric in metrics]
        rows.append([variant["name"], trainings(variant), *costs, *figures])
    head = ["", "seeds", "ms", "images/s", *_titles(results, metrics)]
    return pd.DataFrame(rows, columns=head).to_string(index=False)


def warnings(results: Json) -> list[str]:
    """What makes the comparison less fair, or less whole, than it looks, a sentence each."""
    return results["notes"] + _unfinished(results)


def _unfinished(results: Json) -> list[str]:
    return [
        f"{variant['name']}: {run} was trained for {epochs['done']} of {epochs['planned']} epochs."
        for variant in results["variants"]
        for run, epochs in zip(variant["runs"], variant["epochs"], strict=True)
        if epochs["done"] < epochs["planned"]
    ]


def headline_table(results: Json) -> str:
    """The main figures as a Markdown table."""
    head = ["", "size", "epochs", "parameters", "conv layers", "GFLOP", "ms", "images/s", "MiB"]
    head += [*_titles(results, HEADLINES), "false alarms"]
    rows = [["predicting nothing", *[""] * 8, *(_plain(results["baseline"][m]) for m in SHOWN)]]
    for variant in results["variants"]:
        rows.append(
            [
                variant["name"],
                _size(variant) if variant["height"] else "–",
                ", ".join(dict.fromkeys(map(_epochs, variant["epochs"]))) or "–",
                f"{variant['parameters'] / 1e6:.2f} M" if variant["parameters"] else "–",
                _cost(variant, "conv_layers", 0),
                _cost(variant, "gflop", 2),
                _cost(variant, "latency", 1),
                _cost(variant, "throughput", 1),
                _cost(variant, "memory", 0),
                *_figures(variant["scores"], SHOWN),
            ]
        )
    return markdown_table(head, rows)


def markdown(results: Json) -> str:
    """The whole report, ready for a README."""
    data, machine = results["data"], results["machine"]
    seeds = ", ".join(f"{v['name']} {trainings(v)}" for v in results["variants"] if v["runs"])
    parts = [
        "# Comparison",
        f"{data['images']} test images ({data['clean_images']} clean) in {data['groups']} groups, "
        f"scored at their own size, {_sizes(data['sizes'])}. {machine['device']}, "
        f"{machine['threads']} threads, {machine['precision']}, PyTorch {machine['torch']}.",
        f"Trainings averaged: {seeds}; ± is their standard deviation. In brackets the 95 % "
        "bootstrap interval: groups of images are drawn with replacement and, where a variant has "
        "several trainings, these too. With one training it leaves out how another seed would have "
        "come out; with two or three it is a rough guess at that. [–, –]: not measured, since "
        f"there are fewer than {LEAST_GROUPS} groups or the figure is undefined in more than "
        f"{MOST_UNDEFINED:.0%} of the resamples.",
        *_in_folds(results),
        *_trained_with(results),
        *(f"**Not trained to the end.** {warning}" for warning in _unfinished(results)),
        *results["notes"],
        headline_table(results),
        "ms: median latency at batch 1, image in to label map out, decoding left out; images/s: at "
        "the best batch size; MiB: peak memory at batch 1, – where that was not measured; GFLOP: a "
        "multiply-add counts as two."
        + (f" Timed on images of {_size(data['sizes'][0])}." if len(data["sizes"]) > 1 else ""),
        "## Differences",
        f"Each pixel given its most probable class. {widened(results)}".strip(),
        _differences(results, "differences"),
        "## By class",
        _by_class(results, "scores"),
        "## With thresholds",
        "Probability, peak, least area and least total (pixels) of each class are each training's "
        "own; those of the first are shown.",
        _thresholded(results),
        _differences(results, "differences_thresholded"),
        _by_class(results, "thresholded"),
        "## Recall by defect size",
        f"Share of connected components of the truth of which at least {FOUND:.0%} of the pixels "
        "carry their class in the prediction, by size in pixels. Most probable class, then with "
        "thresholds.",
        _size_recall(results, "size_recall"),
        _size_recall(results, "size_recall_thresholded"),
        "## As others count",
        "To be read beside their tables; how each is made stands at the end.",
        markdown_table(
            ["", *_titles(results, ELSEWHERE)],
            [[v["name"], *_figures(v["scores"], ELSEWHERE)] for v in results["variants"]],
        ),
        "## Time",
        _time(results),
        "## How each figure is made",
        "\n".join(f"- **{title}**: {about['explanation']}" for title, about in said_once(results)),
    ]
    return "\n\n".join(parts) + "\n"


def _in_folds(results: Json) -> Iterable[str]:
    if any(variant["folds"] for variant in results["variants"]):
        yield (
            "In folds, every image is scored by the network that has not seen it, with the "
            "thresholds of that network's own validation part."
        )


def _trained_with(results: Json) -> Iterable[str]:
    """A sentence on the versions that trained the variants, where their runs say."""
    said = [(versions(v["versions"]), v["name"]) for v in results["variants"]]
    texts = sorted({text for text, _ in said if text})
    shared = len(texts) == 1 and all(text for text, _ in said)
    for text in texts:
        names = "" if shared else f" ({', '.join(name for its, name in said if its == text)})"
        yield f"Trained with {text}{names}."


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what a cell holds stays in it."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _differences(results: Json, kind: str) -> str:
    rows = [
        [
            f"{entry['a']} − {entry['b']}: {results['metrics'][entry['metric']]['title']}",
            f"{entry['difference']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]",
            "yes" if entry["holds"] else "no",
        ]
        for entry in results[kind]
        if entry["metric"] in HEADLINES
    ]
    return markdown_table(["", "difference", "holds"], rows) if rows else "None was measured."


def _by_class(results: Json, decision: str) -> str:
    kinds = ("dice", "iou", "dice_positive", "precision", "recall", "f1", "auroc")
    titles = _titles(results, [f"{kind}_class_1" for kind in kinds])
    rows = [
        [v["name"], title, *_figures(v[decision], [f"{kind}_class_{k}" for kind in kinds])]
        for v in results["variants"]
        for k, title in _classes(results)
    ]
    return markdown_table(["", "class", *(title.split(",")[0] for title in titles)], rows)


def _classes(results: Json) -> Iterable[tuple[int, str]]:
    """Each defect class and what to call it."""
    return zip(results["data"]["classes"], results["data"]["class_titles"], strict=True)


def _thresholded(results: Json) -> str:
    head = ["", "aim", *RULES, *_titles(results, SHOWN)]
    rows = [
        [v["name"], *_decision(v["thresholds"]), *_figures(v["thresholded"], SHOWN)]
        for v in results["variants"]
    ]
    return markdown_table(head, rows)


def _decision(thresholds: Json | None) -> list[str]:
    """Aim and rules of each class; dashes where the decision is unknown."""
    if thresholds is None:
        return ["–"] * (1 + len(RULES))
    lists = (thresholds[key] for key in RULES)
    return [thresholds["aim"], *(", ".join(f"{value:g}" for value in values) for values in lists)]


def _size_recall(results: Json, kind: str) -> str:
    bins = _all_classes(results["variants"][0][kind])
    head = ["", "class", *(f"{size_range(row)} px" for row in bins)]
    rows = []
    for variant in results["variants"]:
        for k, title in ((None, "all"), *_classes(results)):
            cells = [row for row in variant[kind] if row["class"] == k]
            shown = [
                f"{_plain(row['recall'], 2)} of {row['count']}" if row["count"] else "–"
                for row in cells
            ]
            rows.append([variant["name"], title, *shown])
    return markdown_table(head, rows)


def _time(results: Json) -> str:
    stages = ("preprocess_ms", "network_ms", "postprocess_ms")
    head = ["", "latency ms (10th–90th percentile)", "preprocessing", "network", "postprocessing"]
    head += ["images/s (10th–90th percentile)", "at batch"]
    rows = []
    for variant in (v for v in results["variants"] if v["latency"]):
        latency, most = variant["latency"], variant["throughput"]
        rows.append(
            [
                variant["name"],
                f"{latency['median_ms']:.1f} ({latency['low_ms']:.1f}–{latency['high_ms']:.1f})",
                *(f"{latency[stage]:.1f}" for stage in stages),
                f"{most['images_per_second']:.1f} ({most['low']:.1f}–{most['high']:.1f})",
                str(most["batch"]),
            ]
        )
    return markdown_table(head, rows)


def _all_classes(size_recall: Sequence[Json]) -> list[Json]:
    return [row for row in size_recall if row["class"] is None]


def _epochs(epochs: Json) -> str:
    of = f" of {epochs['planned']}" if epochs["done"] < epochs["planned"] else ""
    return f"{epochs['done']}{of}"


def _sizes(sizes: Sequence[Json]) -> str:
    """The images' sizes; where there are several, with the number of images of each."""
    if len(sizes) == 1:
        return _size(sizes[0])
    return ", ".join(f"{_size(size)} ({size['images']} images)" for size in sizes)


def _size(size: Json) -> str:
    return f"{size['height']}x{size['width']}"


def _cost(variant: Json, key: str, digits: int) -> str:
    return _plain(page_table.COSTS[key].of(variant)[0], digits)


def _titles(results: Json, metrics: Iterable[str]) -> list[str]:
    return [results["metrics"][metric]["title"] for metric in metrics]


def _figures(scores: Json, metrics: Iterable[str]) -> list[str]:
    return [_with_interval(scores[metric]) for metric in metrics]


def _with_interval(score: Json) -> str:
    if score["value"] is None:
        return "–"
    spread = f" ± {score['seed_std']:.3f}" if score["seed_std"] is not None else ""
    bounds = f" [{_plain(score['low'])}, {_plain(score['high'])}]"
    return f"{score['value']:.3f}{spread}{bounds}"


def _plain(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
