"""The model card: what a network was trained on, what it scores, what it is for and how to use it.

Its header is what a model hub indexes; everything below is read as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2

from common.errors import UserError
from common.runs import Run
from common.tables import read_rows
from common.thresholds import RULES, Thresholds

# What a card shows of a comparison, in this order; metrics that have no such value are left out.
FIGURES = (
    "dice_positive_macro", "empty_accuracy", "kaggle_dice", "iou_mean", "iou_mean_with_background",
    "false_alarms_per_clean_image",
)  # fmt: skip


def card(run: Run, thresholds: Thresholds, known: dict[str, Any] | None, onnx: bool) -> str:
    """The card as Markdown. known: what `figures` gives; onnx: whether the folder has an export."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    rules = (getattr(thresholds, name) for name in RULES)
    return environment.get_template("card.md").render(
        run=run,
        averaged=run.saved().get("averaged"),
        data=Path(run.data["root"]).name,
        images=Counter(part for _, (part,) in read_rows(run.path / "split.csv", ["split"])[0]),
        decision=[
            (title, probability, max(probability, peak), *pixels)
            for title, probability, peak, *pixels in zip(run.class_titles, *rules, strict=True)
        ],
        aim=thresholds.aim,
        figures=known,
        onnx=onnx,
    )


def figures(report: Path, run: Run, thresholds: Thresholds) -> dict[str, Any]:
    """The run's figures in a comparison's results.json, by the decision `thresholds`.

    data: what it was scored on. rows: title, value and interval of each of FIGURES, as text. Raises
    UserError where there is no comparison, or none of this run by this decision.
    """
    file = report / "results.json"
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        entries = [
            entry
            for entry in results["variants"]
            if run.path.resolve() in [Path(path).resolve() for path in entry["runs"]]
        ]
        if not entries:
            raise UserError(
                f"{file} is no comparison of {run.path}. Compare it first: python -m "
                f"common.compare {run.path} --out {report}"
            )
        compared = entries[0]["thresholds"]
        own = {name: list(getattr(thresholds, name)) for name in RULES}
        if len(entries[0]["runs"]) == 1 and any(compared[name] != own[name] for name in own):
            raise UserError(
                f"{file} is of another decision than {run.path} has now. Compare it again."
            )
        scores = entries[0]["thresholded"]
        rows = [
            (results["metrics"][name]["title"], *_written(scores[name]))
            for name in FIGURES
            if name in scores and scores[name]["value"] is not None
        ]
        return {"data": results["data"], "seeds": entries[0]["seeds"], "rows": rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read the comparison {file}: {error}\nMake one with: python -m common.compare"
        ) from error


def _written(score: dict[str, float | None]) -> tuple[str, str]:
    """A value and its 95 % interval."""
    if score["low"] is None or score["high"] is None:
        return f"{score['value']:.3f}", ""
    return f"{score['value']:.3f}", f"{score['low']:.3f} to {score['high']:.3f}"
