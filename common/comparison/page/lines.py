"""Line charts: figures with intervals against something that grows, joined where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from markupsafe import Markup

from common.comparison.page import svg
from common.comparison.page.svg import BOTTOM, LEFT, RIGHT, TOP, Scale
from common.comparison.page.text import interval, score

LONGEST_NAME = 24


@dataclass(frozen=True)
class Point:
    """Variant `index`'s figure at x, with its interval where it has one.

    name: what to write beside the point. spread: an interval of x itself.
    """

    index: int
    x: float
    value: float
    tip: str
    low: float | None = None
    high: float | None = None
    name: str = ""
    spread: tuple[float | None, float | None] = (None, None)


def told(index: int, who: str, x: float, given: dict, key: str = "value") -> Point:
    """The point of results' {key, low, high}, its figures written into its tip after `who`."""
    low, high = given["low"], given["high"]
    tip = f"{who}: {score(given[key])} {interval(low, high)}".strip()
    return Point(index, x, given[key], tip, low, high)


def line_chart(
    lines: Sequence[Sequence[Point]],
    x_title: str,
    y_title: str,
    label: str,
    baseline: float | None = None,
) -> Markup:
    """Lines on axes that fit them, x logarithmic; a line of one point is that point.

    baseline: a level to draw dashed, where it is in range. label: what a screen reader says.
    """
    points = [point for line in lines for point in line]
    x = svg.fitted([point.x for point in points], LEFT + 6, RIGHT, log=True)
    levels = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    y = svg.fitted(levels, BOTTOM, TOP)
    parts = [svg.axes(x, y, x_title, y_title)]
    if baseline is not None and y.low <= baseline <= y.high:
        parts.append(svg.line(LEFT, y(baseline), RIGHT, y(baseline), "baseline"))
    for line in lines:
        parts += joined(line, x, y, 6)
    return svg.chart([*parts, *_names(points, x, y)], label)


def joined(
    points: Sequence[Point | None], x: Scale, y: Scale, size: float, look: str = "series thin"
) -> list[Markup]:
    """A line in the colour of its first point, broken at None; its points with their intervals."""
    known = [point for point in points if point is not None]
    parts = []
    if len(known) > 1:
        at = [None if point is None else (x(point.x), y(point.value)) for point in points]
        parts.append(svg.path(at, f"{look} {svg.colour(known[0].index)}"))
    for point in known:
        across, level, colour = x(point.x), y(point.value), svg.colour(point.index)
        if None not in point.spread:
            ends = [min(max(x(side), LEFT), RIGHT) for side in point.spread]
            parts.append(svg.line(ends[0], level, ends[1], level, f"whisker {colour}"))
        parts.append(svg.whisker(across, y, point.low, point.high, colour))
        parts.append(svg.marker(point.index, across, level, point.tip, size))
    return parts


def _names(points: Sequence[Point], x: Scale, y: Scale) -> list[Markup]:
    """Names beside their points, where each meets the fewest marks and other names."""
    places = [(x(point.x), y(point.value)) for point in points]
    taken = [(across - 7, level - 7, across + 7, level + 7) for across, level in places]
    parts = []
    for point, (across, level) in sorted(zip(points, places, strict=True), key=lambda p: p[1][1]):
        if not point.name:
            continue
        name = point.name
        name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        sides = ("start", "end") if across < (LEFT + RIGHT) / 2 else ("end", "start")
        width = 6.8 * len(name)
        spots = []
        for drop, side in product((-5, 12, -20, 27, -35, 42), sides):
            left = across + 11 if side == "start" else across - 11 - width
            if left >= LEFT and left + width <= svg.WIDTH:
                box = (left, level + drop - 10, left + width, level + drop + 4)
                spots.append((drop, side, box))
        drop, side, box = min(spots, key=lambda spot: sum(_meet(spot[2], other) for other in taken))
        taken.append(box)
        look = f"direct {side} {svg.colour(point.index)}"
        parts.append(svg.text(across + (11 if side == "start" else -11), level + drop, name, look))
    return parts


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two boxes (left, top, right, bottom) share a point."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
