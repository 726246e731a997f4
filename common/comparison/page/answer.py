"""What a comparison says, in words: which variant is best, by how much, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from common.comparison.glossary import HEADLINES
from common.comparison.page.svg import colour
from common.comparison.page.text import amount, input_size, interval, names, score, signed, times

DECIDED = {"scores": "most probable class", "thresholded": "by the runs' decisions"}
_SUFFIXES = {"scores": "", "thresholded": "_thresholded"}  # of the results' keys


@dataclass(frozen=True)
class Difference:
    """a - b of one metric, with its interval; `better` says whether that favours a (None: equal).

    holds: the interval leaves out 0.
    """

    value: float
    low: float
    high: float
    holds: bool
    better: bool | None

    @property
    def text(self) -> str:
        """The signed difference and its interval."""
        return f"{signed(self.value)} {interval(self.low, self.high)}"

    def reversed(self) -> Difference:
        """b - a."""
        better = None if self.better is None else not self.better
        return Difference(-self.value, -self.high, -self.low, self.holds, better)


@dataclass(frozen=True)
class Row:
    """One variant in the ranking: its place in results, score, interval and distance to the best.

    versus is None for the best itself, and where the difference was not measured; tied: it is not
    shown to differ from the best. seeds: how many trainings the score is the mean of.
    """

    index: int
    name: str
    value: float | None
    low: float | None
    high: float | None
    latency: float | None
    versus: Difference | None
    tied: bool
    seeds: int


@dataclass(frozen=True)
class Answer:
    """The ranking by one metric, best first, and sentences that say what follows from it.

    decision: what pixels are decided by: "thresholded" (the run's own decision) or "scores" (the
    most probable class).
    """

    metric: str
    decision: str
    title: str
    rows: list[Row]
    baseline: float | None
    sentences: list[Markup]


def judged_by(results: dict) -> list[str]:
    """The metrics to rank by: those with a better side and measured differences, headlines first.

    Where no difference was measured (one variant alone), every metric with a better side.
    """
    measured = [metric for metric, about in results["metrics"].items() if about["better"]]
    tested = {entry["metric"] for entry in results["differences_thresholded"]}
    chosen = [metric for metric in measured if metric in tested] or measured
    return sorted(chosen, key=lambda m: HEADLINES.index(m) if m in HEADLINES else len(HEADLINES))


def difference(results: dict, a: str, b: str, metric: str, decision: str) -> Difference | None:
    """a - b as measured, in whichever order the results hold the pair.

    decision: as of `Answer`.
    """
    higher = results["metrics"][metric]["better"] != "lower"
    for entry in results[f"differences{_SUFFIXES[decision]}"]:
        if entry["metric"] != metric or {entry["a"], entry["b"]} != {a, b}:
            continue
        value = entry["difference"]
        better = None if value == 0 else (value > 0) == higher
        found = Difference(value, entry["low"], entry["high"], bool(entry["holds"]), better)
        return found if entry["a"] == a else found.reversed()
    return None


def one_network(results: dict) -> list[list[int]]:
    """Variants that are one network at several sizes, by index, each list from small to large."""
    lines: dict[str, list[int]] = {}
    for index, variant in enumerate(results["variants"]):
        if variant["network"] is not None:
            lines.setdefault(variant["network"], []).append(index)

    def size(index: int) -> tuple[int, int]:
        variant = results["variants"][index]
        return variant["height"] * variant["width"], variant["height"]

    several = [line for line in lines.values() if len(set(map(size, line))) > 1]
    return [sorted(line, key=size) for line in several]


def answer(results: dict, metric: str, decision: str) -> Answer:
    """The ranking by `metric` and what it says. Numbers that are not finite must be None."""
    about = results["metrics"][metric]
    rows = _ranking(results, metric, decision)
    baseline = results["baseline"].get(metric)
    if rows[0].value is None:
        sentences = [Markup("{} is not defined on these test images.").format(about["title"])]
    else:
        sentences = [
            *_sentences(rows, about),
            *_steps(results, metric, decision),
            *_against_nothing(results, metric, decision, baseline),
        ]
    return Answer(metric, decision, about["title"], rows, baseline, sentences)


def otherwise(results: dict, given: Answer) -> Answer | None:
    """The ranking by the most probable class, where it differs from that by the runs' decisions."""
    plain = answer(results, given.metric, "scores")
    order = [row.index for row in given.rows]
    return None if [row.index for row in plain.rows] == order else plain


def label(index: int, name: str) -> Markup:
    """A variant's name in its colour, for a sentence."""
    return Markup('<strong class="name {}">{}</strong>').format(colour(index), name)


def _ranking(results: dict, metric: str, decision: str) -> list[Row]:
    sign = 1 if results["metrics"][metric]["better"] == "lower" else -1
    entries = [
        (index, variant, variant[decision].get(metric) or {})
        for index, variant in enumerate(results["variants"])
    ]
    entries.sort(key=lambda e: (e[2].get("value") is None, sign * (e[2].get("value") or 0)))
    best = entries[0][1]["name"]
    rows = []
    for index, variant, given in entries:
        value = given.get("value")
        versus = difference(results, variant["name"], best, metric, decision)
        rows.append(
            Row(
                index=index,
                name=variant["name"],
                value=value,
                low=given.get("low"),
                high=given.get("high"),
                latency=(variant.get("latency") or {}).get("median_ms"),
                versus=versus,
                tied=value is not None and bool(rows) and not (versus and versus.holds),
                seeds=variant["seeds"],
            )
        )
    return rows


def _sentences(rows: list[Row], about: dict[str, Any]) -> list[Markup]:
    best, *others = [row for row in rows if row.value is not None]
    tied = [row for row in others if row.tied]
    behind = next((row for row in others if not row.tied), None)  # the nearest that is shown to be
    bold = {row.index: label(row.index, row.name) for row in rows}
    level = f"{about['title']} {score(best.value)} {interval(best.low, best.high)}".strip()
    if not others:
        found = [Markup("Only {} was compared: {}.").format(bold[best.index], level)]
    elif not tied:
        found = [
            Markup("{} is best: {}. It leads {}, next in line, by {}: the lead {}.").format(
                bold[best.index],
                level,
                bold[others[0].index],
                _lead(others[0], about),
                _holds(best, others[0]),
            )
        ]
    else:
        tested = [_lead(row, about) for row in tied if row.versus]
        noun, verb = ("interval", "contains") if len(tested) == 1 else ("intervals", "contain")
        why = f"the {noun} of the difference, {names(tested)}, {verb} 0"
        ahead = behind and Markup(" and leads {} by {}, which {}").format(
            bold[behind.index], _lead(behind, about), _holds(best, behind)
        )
        found = [
            Markup("{} scores {} ({}){}, but its lead over {} does not hold: {}.").format(
                bold[best.index],
                "lowest" if about["better"] == "lower" else "highest",
                level,
                ahead or "",
                Markup(names([bold[row.index] for row in tied])),
                why if tested else "the difference was not measured",
            )
        ]
    return found + _speed(best, others, about, bold)


def _holds(best: Row, other: Row) -> str:
    """How far a lead that holds does so."""
    if min(best.seeds, other.seeds) == 1:
        return "holds between these trainings (other seeds were not tried)"
    return "holds"


def _lead(row: Row, about: dict[str, Any]) -> str:
    """By how much the best is better than this row, with the interval; positive is better."""
    lead = row.versus if about["better"] == "lower" else row.versus.reversed()
    return f"{score(lead.value)} {interval(lead.low, lead.high)}"


def _speed(best: Row, others: list[Row], about: dict, bold: dict[int, Markup]) -> list[Markup]:
    timed = [row for row in others if row.latency]
    if not timed or not best.latency:
        return []
    fastest = min(timed, key=lambda row: row.latency)
    equals = [row for row in timed if row.tied and row.latency < best.latency]
    found = []
    if best.latency <= fastest.latency:
        found.append(Markup("It is also the fastest: {} ms an image.").format(amount(best.latency)))
    if equals:
        choice = min(equals, key=lambda row: row.latency)
        found.append(
            Markup("Of those not told apart from it, {} is the fastest: {}.").format(
                bold[choice.index], _pace(choice, best)
            )
        )
    if fastest.latency < best.latency and not fastest.tied and fastest.versus:
        found.append(
            Markup("Speed costs quality: {} takes {}, and is behind by {}.").format(
                bold[fastest.index], _pace(fastest, best), _lead(fastest, about)
            )
        )
    return found


def _pace(row: Row, best: Row) -> str:
    faster = times(best.latency / row.latency)
    return f"{amount(row.latency)} ms an image, {faster} times as fast as {best.name}"


def _steps(results: dict, metric: str, decision: str) -> list[Markup]:
    """What each step in resolution brings, a sentence a network that is there at several sizes."""
    found = []
    for line in one_network(results):
        variants = [results["variants"][index] for index in line]
        steps = [
            step for pair in pairwise(variants) if (step := _step(results, *pair, metric, decision))
        ]
        if steps:
            sentence = Markup("What resolution brings the network of {}: {}.")
            found.append(sentence.format(variants[0]["network"], "; ".join(steps)))
    return found


def _step(results: dict, small: dict, large: dict, metric: str, decision: str) -> str | None:
    gain = difference(results, large["name"], small["name"], metric, decision)
    if gain is None:
        return None
    shown = gain.text if gain.holds else f"nothing that is shown ({gain.text})"
    step = f"from {input_size(small)} to {input_size(large)} {shown}"
    before, after = ((v.get("latency") or {}).get("median_ms") for v in (small, large))
    if not before or not after:
        return step
    ratio = times(after / before)
    return f"{step} at the same latency" if ratio == "1" else f"{step} at {ratio} times the latency"


def _against_nothing(
    results: dict, metric: str, decision: str, baseline: float | None
) -> list[Markup]:
    """A warning where predicting nothing, which needs no network, is not shown to be worse."""
    beaten = any(
        entry["metric"] == metric and entry["holds"] and entry["difference"] > 0
        for entry in results[f"against_nothing{_SUFFIXES[decision]}"]
    )
    if baseline is None or results["metrics"][metric]["better"] == "lower" or beaten:
        return []
    warning = "Predicting nothing at all scores {}: no variant is shown to do better."
    return [Markup(warning).format(score(baseline))]
