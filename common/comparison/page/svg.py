"""Pieces of a chart as SVG text: scales, axes, marks. Colours come from chart.css.

Everything is drawn in a box of WIDTH x HEIGHT; `title` texts become the page's tooltips.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 466, 30, 252
COLOURS = 6  # variant colours in the style sheet: v0 .. v5
# Five shapes against six colours: thirty variants before a pair repeats.
MARKERS = ("circle", "square", "diamond", "triangle", "plus")
CORNERS = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
    "triangle": [(0, -1.2), (1.2, 0.9), (-1.2, 0.9)],
    "plus": [(-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
             (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)],
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """Maps values in [low, high] onto positions from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Position of a value; positive values only where the scale is logarithmic."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = map(math.log, (low, high, at))
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round values in the range, five or so."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = self._within(m * 10.0**decade for decade in decades for m in (1, 2, 5))
            if len(found) > 1:
                return found
        least = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(least))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= least * (1 - 1e-9))
        first = math.floor(self.low / step)
        return self._within((first + i) * step for i in range(8))

    def _within(self, values: Iterable[float]) -> list[float]:
        slack = (self.high - self.low) * 1e-9
        return [v for v in values if self.low - slack <= v <= self.high + slack]


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


def fitted(values: Sequence[float], start: float, end: float, log: bool = False) -> Scale:
    """A scale that holds all values with some room around them."""
    low, high = min(values), max(values)
    if log:
        room = (high / low) ** 0.12 if high > low else 2
        return Scale(low / room, high * room, start, end, log=True)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1
    return Scale(low - room, high + room, start, end)


def chart(parts: Iterable[Markup], label: str) -> Markup:
    """The SVG element; `label` is what a screen reader says of it."""
    opening = Markup('<svg width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" ')
    label = Markup('aria-label="{}">').format(label)
    return opening.format(WIDTH, HEIGHT) + label + Markup("").join(parts) + Markup("</svg>")


def axes(x: Scale | None, y: Scale, x_title: str, y_title: str) -> Markup:
    """Grid lines, tick labels and axis titles; x is None where marks bring their own labels."""
    parts = []
    for value in y.ticks():
        parts += [
            line(LEFT, y(value), RIGHT, y(value), "grid"),
            text(LEFT - 7, y(value) + 4, f"{value:,g}", "tick end"),
        ]
    for value in x.ticks() if x else ():
        parts += [
            line(x(value), BOTTOM, x(value), BOTTOM + 4, "axis"),
            text(x(value), BOTTOM + 19, f"{value:,g}", "tick middle"),
        ]
    parts += [
        line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"),
        text(0, 14, y_title, "axis-title"),
        text(RIGHT, HEIGHT - 6, x_title, "axis-title end"),
    ]
    return Markup("").join(parts)


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> Markup:
    """A straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(
        *(round(v, 1) for v in (x1, y1, x2, y2)), classes
    )


def text(x: float, y: float, content: object, classes: str) -> Markup:
    """A line of text; its class says which end of it stands at x."""
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(
        round(x, 1), round(y, 1), classes, content
    )


def path(points: Sequence[tuple[float, float] | None], classes: str, title: str = "") -> Markup:
    """A line through points, broken where one is None."""
    steps, pen = [], "M"
    for point in points:
        if point is not None:
            steps.append(f"{pen}{point[0]:g} {point[1]:g}")
        pen = "M" if point is None else "L"
    return Markup('<path d="{}" class="{}">{}</path>').format(
        "".join(steps), classes, _title(title)
    )


def rect(x: float, y: float, width: float, height: float, classes: str, title: str) -> Markup:
    """A bar."""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}">{}</rect>').format(
        *(round(v, 1) for v in (x, y, width, height)), classes, _title(title)
    )


def swatch(x: float, y: float, colour: tuple[int, int, int]) -> Markup:
    """A small square in an RGB colour."""
    return Markup('<rect x="{}" y="{}" width="10" height="10" style="fill:rgb({},{},{})"/>').format(
        round(x, 1), round(y, 1), *colour
    )


def whisker(x: float, y: Scale, low: float | None, high: float | None, classes: str) -> Markup:
    """The interval from low to high at x; nothing where a side is not known."""
    if low is None or high is None:
        return Markup("")
    return line(x, y(low), x, y(high), f"whisker {classes}")


def marker(index: int, x: float, y: float, title: str = "", size: float = 5) -> Markup:
    """Variant `index`'s mark: its colour and its own shape, so that colour is not needed."""
    return Markup('<path d="{}" class="marker {}">{}</path>').format(
        shape(index, x, y, size), colour(index), _title(title)
    )


def colour(index: int) -> str:
    """The style sheet's class of variant `index`."""
    return f"v{index % COLOURS}"


def shape(index: int, x: float, y: float, size: float) -> str:
    """Path data of a variant's mark."""
    outline = MARKERS[index % len(MARKERS)]
    if outline == "circle":
        steps = f"M{x - size:g} {y:g}" + f"a{size:g} {size:g} 0 1 0 {{:g}} 0" * 2 + "z"
        return steps.format(2 * size, -2 * size)
    corners = [
        f"{round(x + size * dx, 1):g} {round(y + size * dy, 1):g}" for dx, dy in CORNERS[outline]
    ]
    return f"M{'L'.join(corners)}z"


def _title(content: str) -> Markup:
    return Markup("<title>{}</title>").format(content) if content else Markup("")
