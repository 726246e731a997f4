"""The report page: one self-contained HTML file that answers which variant to use, and why."""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from pathlib import Path

import jinja2
from markupsafe import Markup

from common.comparison.glossary import said_once, widened
from common.comparison.page import answer as page_answer
from common.comparison.page import charts as page_charts
from common.comparison.page import svg
from common.comparison.page import table as page_table
from common.comparison.page import text as page_text
from common.comparison.page.gallery import GalleryItem, pack
from common.files import publish, without_nan
from common.overlay import PALETTE

__all__ = ["GalleryItem", "write_page"]

TEMPLATES = Path(__file__).parent / "templates"
PAGE_BUDGET = 9_800_000  # bytes: mail and review tools refuse files of 10 MB


def write_page(results: dict, gallery: list[GalleryItem], path: Path) -> None:
    """Writes the page of a comparison to `path`, whole or not at all.

    results: as `common.compare` writes it to results.json; NaN and None both mean that a figure is
    not defined. gallery: the test images to show, the most telling first: those that do not fit
    are left out, and the page says how many. The page fetches nothing and, by its content security
    policy, could not. Raises OSError where `path` cannot be written.
    """
    results = without_nan(results)
    names = [variant["name"] for variant in results["variants"]]
    metrics = page_answer.judged_by(results)
    answers = [page_answer.answer(results, metric, "thresholded") for metric in metrics]
    columns = page_table.columns(results)
    script = "\n".join(map(source, ("page.js", "paint.js", "gallery.js")))
    render = partial(
        _environment().get_template("page.html").render,
        results=results,
        names=names,
        answers=answers,
        otherwise={given.metric: page_answer.otherwise(results, given) for given in answers},
        decided=page_answer.DECIDED,
        differences={metric: _matrix(results, names, metric) for metric in metrics},
        columns=columns,
        views=page_table.VIEWS,
        cells={
            (column.key, decision): page_table.cells(results, column, decision)
            for column in columns
            for decision in ("scores", "thresholded")
        },
        baseline={column.key: page_table.baseline(results, column) for column in columns},
        widened=widened(results),
        glossary=[
            *((title, about["unit"], about["explanation"]) for title, about in said_once(results)),
            *((cost.title, cost.unit, cost.note) for cost in page_table.COSTS.values()),
        ],
        figures=page_charts.figures(results),
        style=Markup(source("chart.css") + source("page.css")),
        script=Markup(script),
        script_hash=_hash(script),
    )
    shown = {
        "names": names,
        "palette": PALETTE,
        "classes": results["data"]["class_titles"],
        "items": [],
    }
    rest = len(render(gallery=shown, left_out=len(gallery)).encode())
    shown["items"] = pack(gallery, names, PAGE_BUDGET - rest)
    publish(path, render(gallery=shown, left_out=len(gallery) - len(shown["items"])))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        score=page_text.score, amount=page_text.amount, count=page_text.count,
        versions=page_text.versions, track=_track,
        interval=lambda row: page_text.interval(row.low, row.high),
    )  # fmt: skip
    environment.globals.update(shape=svg.shape, colour=svg.colour, label=page_answer.label)
    return environment


def _matrix(results: dict, names: list[str], metric: str) -> list[list]:
    """Difference of each variant (row) to each other (column); None where none was measured."""
    measured = partial(page_answer.difference, results, metric=metric, decision="thresholded")
    return [[None if a == b else measured(a, b) for b in names] for a in names]


def _track(answer: page_answer.Answer) -> svg.Scale:
    """The scale, in percent of the width, on which the ranking draws its intervals."""
    levels = [v for row in answer.rows for v in (row.value, row.low, row.high) if v is not None]
    return svg.fitted(levels or [0], 0, 100)


def source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """What the content security policy calls this script, so that the page runs no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
