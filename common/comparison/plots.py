"""The page's charts as files, each as SVG and as PNG, with a legend and its note."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import resvg_py
from markupsafe import Markup
from ttf_opensans import opensans

from common.comparison.page import charts, svg
from common.comparison.page.page import source
from common.files import publish, without_nan

MARGIN = 20
LINE = 18  # height of a line of text
SCALE = 2  # pixels of the PNG a unit of the drawing
# Brought along, so that text is the same everywhere and there on a machine without fonts.
FONTS = [str(opensans(weight).path) for weight in (400, 600)]


def save_all(results: dict, folder: Path) -> list[Path]:
    """Draws every chart that has something to show into `folder`; returns the PNGs.

    Charts of one `file` stand side by side. Raises OSError where it cannot write.
    """
    results = without_nan(results)
    names = [variant["name"] for variant in results["variants"]]
    sheets: dict[str, list[charts.Figure]] = {}
    for figure in charts.figures(results):
        sheets.setdefault(figure.file, []).append(figure)
    folder.mkdir(parents=True, exist_ok=True)
    for file, figures in sheets.items():
        drawing = sheet(figures, names)
        publish(folder / f"{file}.svg", drawing)
        publish(folder / f"{file}.png", rasterise(drawing))
    return [folder / f"{file}.png" for file in sheets]


def sheet(figures: list[charts.Figure], names: list[str]) -> str:
    """Figures in a row as one SVG, the variants' names above, the first one's note below."""
    panels = [panel for figure in figures for _, _, panel in figure.panels[: figure.in_file]]
    width = len(panels) * (svg.WIDTH + MARGIN) + MARGIN
    parts, top = _legend(names, width)
    parts += [
        Markup('<g transform="translate({} {})">{}</g>').format(
            MARGIN + i * (svg.WIDTH + MARGIN), top, panel
        )
        for i, panel in enumerate(panels)
    ]
    top += svg.HEIGHT + MARGIN
    for line in textwrap.wrap(figures[0].note, width // 6):
        parts.append(svg.text(MARGIN, top, line, ""))
        top += LINE
    opening = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}">'
        '<style>{2}</style><rect width="{0}" height="{1}" class="paper"/>'
    ).format(width, top, Markup(_style()))
    return opening + Markup("").join(parts) + Markup("</svg>\n")


def rasterise(drawing: str) -> bytes:
    """The drawing as PNG."""
    return resvg_py.svg_to_bytes(
        svg_string=drawing, zoom=SCALE, font_files=FONTS, font_family="Open Sans"
    )


def _legend(names: list[str], width: int) -> tuple[list[Markup], float]:
    """Each variant's mark and name, as many in a row as fit; and the height where they end."""
    parts, at, top = [], MARGIN, MARGIN
    for index, name in enumerate(names):
        room = 34 + 7 * len(name)
        if at > MARGIN and at + room > width:
            at, top = MARGIN, top + LINE
        parts += [svg.marker(index, at + 6, top), svg.text(at + 16, top + 4, name, "axis-title")]
        at += room
    return parts, top + LINE


def _style() -> str:
    """chart.css with the page's light colours in place of variables, which few programs know."""
    page, chart = map(source, ("page.css", "chart.css"))
    colours = dict(re.findall(r"--([\w-]+): light-dark\((#\w+)", page))
    return (
        'text { font-family: "Open Sans", system-ui, sans-serif; }\n'
        f".paper {{ fill: {colours['paper']}; }}\n"
    ) + re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], chart)
