"""The report page's words and numbers: its answer, its table, its axes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from common.comparison.page import answer as page_answer
from common.comparison.page import svg
from common.comparison.page import table as page_table
from common.comparison.page import text as page_text
from common.comparison.page.page import write_page
from common.files import without_nan
from tests import report_example
from tests.report_example import BEST, FAST, METRIC, SLOW


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (page_text.score, 0.68249, "0.682"),
        (page_text.score, -0.031, "−0.031"),
        (page_text.score, -0.0001, "0.000"),
        (page_text.score, 12.34, "12.3"),
        (page_text.signed, 0.031, "+0.031"),
        (page_text.signed, 0.0002, "0.000"),
        (page_text.amount, 28.64, "28.6"),
        (page_text.amount, 1192.4, "1\u202f192"),
        (page_text.amount, 14_320_000, "14.32\u202fM"),
        (page_text.count, 12568, "12\u202f568"),
        (page_text.times, 4.149, "4.1"),
        (page_text.times, 41.7, "42"),
        (page_text.area, 350, "350"),
        (page_text.area, 2500, "2.5k"),
    ],
)
def test_numbers_are_written_for_people(form: Callable, value: float, text: str) -> None:
    assert form(value) == text


def test_what_is_not_finite_becomes_none_at_every_depth() -> None:
    value = {"a": [1.5, math.nan, (math.inf, "nan")], "b": {"c": -math.inf}}
    assert without_nan(value) == {"a": [1.5, None, [None, "nan"]], "b": {"c": None}}


def test_axes_have_round_ticks_inside_their_range() -> None:
    assert svg.Scale(0, 1, 200, 0).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert svg.Scale(8, 1300, 0, 100, log=True).ticks() == [10, 20, 50, 100, 200, 500, 1000]
    narrow = svg.Scale(27, 31, 0, 100, log=True).ticks()
    assert 2 <= len(narrow) < 10
    assert 27 <= min(narrow) < max(narrow) <= 31
    assert svg.Scale(1, 100, 0, 50, log=True)(10) == 25


def test_every_variant_has_its_own_mark() -> None:
    marks = {(svg.colour(i), svg.shape(i, 0, 0, 5)) for i in range(30)}
    assert len(marks) == 30


def told(results: dict, metric: str = METRIC) -> str:
    """All sentences of the answer, without markup."""
    answer = page_answer.answer(without_nan(results), metric, "thresholded")
    return " ".join(sentence.striptags() for sentence in answer.sentences)


def duel(
    difference: float,
    half: float,
    better: str = "higher",
    latencies: tuple = (100.0, 10.0),
    seeds: tuple = (3, 3),
) -> dict:
    """Results of two variants, "a" and "b", b - a being given."""
    value = {"a": 0.6, "b": 0.6 + difference}
    return {
        "metrics": {"m": {"title": "Score", "better": better}},
        "baseline": {"m": 0.1},
        "variants": [
            {
                "name": name,
                "thresholded": {"m": {"value": value[name], "low": value[name] - 0.1, "high": 0.9}},
                "latency": {"median_ms": latency},
                "network": name,
                "height": 64,
                "width": 400,
                "seeds": trainings,
            }
            for name, latency, trainings in zip("ab", latencies, seeds, strict=True)
        ],
        "against_nothing_thresholded": [
            {"a": "a", "b": "predicting nothing", "metric": "m", "difference": 0.5, "low": 0.4,
             "high": 0.6, "holds": True}
        ],
        "differences_thresholded": [
            {"a": "b", "b": "a", "metric": "m", "difference": difference,
             "low": difference - half, "high": difference + half, "holds": abs(difference) > half}
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (
            duel(0.2, 0.05),
            "b is best: Score 0.800 [0.700, 0.900]. It leads a, next in line, by "
            "0.200 [0.150, 0.250]: the lead holds. It is also the fastest: 10.0 ms an image.",
        ),
        (
            duel(-0.2, 0.05),
            "a is best: Score 0.600 [0.500, 0.900]. It leads b, next in line, by "
            "0.200 [0.150, 0.250]: the lead holds. Speed costs quality: b takes 10.0 ms an image, "
            "10 times as fast as a, and is behind by 0.200 [0.150, 0.250].",
        ),
        (
            duel(-0.02, 0.05),
            "a scores highest (Score 0.600 [0.500, 0.900]), but its lead over b does not hold: "
            "the interval of the difference, 0.020 [−0.030, 0.070], contains 0. Of those not told "
            "apart from it, b is the fastest: 10.0 ms an image, 10 times as fast as a.",
        ),
        (
            duel(0.2, 0.05, better="lower"),
            "a is best: Score 0.600 [0.500, 0.900]. It leads b, next in line, by "
            "0.200 [0.150, 0.250]: the lead holds. Speed costs quality: b takes 10.0 ms an image, "
            "10 times as fast as a, and is behind by 0.200 [0.150, 0.250].",
        ),
    ],
)
def test_the_answer_says_who_leads_by_how_much_and_whether_it_holds(
    results: dict, expected: str
) -> None:
    assert told(results, "m") == expected


def test_a_leader_of_whom_something_is_shown_is_said_to_lead_though_another_is_level() -> None:
    results = duel(-0.02, 0.05, seeds=(1, 3))
    results["variants"].append(results["variants"][0] | {"name": "c", "network": "c", "seeds": 3})
    results["variants"][2]["thresholded"] = {"m": {"value": 0.5, "low": 0.4, "high": 0.6}}
    results["differences_thresholded"].append(
        {"a": "a", "b": "c", "metric": "m", "difference": 0.1, "low": 0.02, "high": 0.18,
         "holds": True}
    )  # fmt: skip
    assert told(results, "m").startswith(
        "a scores highest (Score 0.600 [0.500, 0.900]) and leads c by 0.100 [0.020, 0.180], which "
        "holds between these trainings (other seeds were not tried), but its lead over b does not "
        "hold: the interval of the difference, 0.020 [−0.030, 0.070], contains 0."
    )


def test_a_lead_without_a_measured_difference_is_not_said_to_hold() -> None:
    results = duel(0.2, 0.05)
    results["differences_thresholded"] = []
    assert "its lead over a does not hold: the difference was not measured" in told(results, "m")


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((2, 2), "the lead holds."),
        ((1, 2), "the lead holds between these trainings (other seeds were not tried)."),
        ((2, 1), "the lead holds between these trainings (other seeds were not tried)."),
    ],
)
def test_a_lead_of_one_seed_holds_between_these_trainings_only(seeds: tuple, said: str) -> None:
    assert f"by 0.200 [0.150, 0.250]: {said} It is also" in told(duel(0.2, 0.05, seeds=seeds), "m")


@pytest.mark.parametrize(
    ("baseline", "difference", "holds", "warned"),
    [
        (0.75, 0.05, True, False),  # above the lower end of the leader's interval, 0.700
        (0.1, 0.7, False, True),
        (0.9, -0.1, True, True),
    ],
)
def test_whether_predicting_nothing_is_beaten_is_a_paired_question(
    baseline: float, difference: float, holds: bool, warned: bool
) -> None:
    results = duel(0.2, 0.05)
    results["baseline"]["m"] = baseline
    results["against_nothing_thresholded"][0] |= {"difference": difference, "holds": holds}
    warning = f"Predicting nothing at all scores {baseline:.3f}: no variant is shown to do better."
    assert told(results, "m").endswith(warning) == warned


def test_the_answer_says_what_a_step_in_resolution_brings() -> None:
    results = report_example.results()
    (entry,) = (
        e for e in results["differences_thresholded"]
        if e["metric"] == METRIC and (e["a"], e["b"]) == (BEST, SLOW)
    )  # fmt: skip
    entry |= {"difference": 0.031, "low": 0.012, "high": 0.049, "holds": True}
    sentence = "the network of unet_128x800 and unet_64x400: from 64×400 to 128×800 "
    assert f"{sentence}+0.031 [0.012, 0.049] at 4.2 times the latency." in told(results)
    large, small = (results["variants"][i]["latency"] for i in (0, 1))
    large["median_ms"] = 1.001 * small["median_ms"]
    assert f"{sentence}+0.031 [0.012, 0.049] at the same latency." in told(results)
    entry |= {"low": -0.002, "holds": False}
    results["variants"][0]["latency"] = None
    assert f"{sentence}nothing that is shown (+0.031 [−0.002, 0.049])." in told(results)
    results["differences_thresholded"].remove(entry)  # not measured
    assert "What resolution brings" not in told(results)


def test_where_every_network_has_one_size_resolution_is_not_spoken_of() -> None:
    results = report_example.results()
    results["variants"][0]["network"] = "another"
    assert "What resolution brings" not in told(results)


def test_where_the_most_probable_class_ranks_otherwise_that_ranking_stands_beneath(
    tmp_path: Path,
) -> None:
    results = without_nan(report_example.results())
    for variant, decided, plain in zip(
        results["variants"], (0.7, 0.6, 0.5), (0.5, 0.6, 0.7), strict=True
    ):
        variant["thresholded"][METRIC]["value"] = decided
        variant["scores"][METRIC]["value"] = plain
    given = page_answer.answer(results, METRIC, "thresholded")
    assert [row.name for row in given.rows] == [BEST, SLOW, FAST]
    beneath = page_answer.otherwise(results, given)
    assert [row.name for row in beneath.rows] == [FAST, SLOW, BEST]
    assert beneath.decision == "scores"

    def captions() -> list[str]:
        write_page(results, [], tmp_path / "index.html")
        page = (tmp_path / "index.html").read_text()
        title = results["metrics"][METRIC]["title"]
        return re.findall(rf"Variants by {title}, ([^,]*), best first", page)

    assert captions() == ["by the runs&#39; decisions", "most probable class"]
    for variant in results["variants"]:
        variant["scores"][METRIC]["value"] = variant["thresholded"][METRIC]["value"] / 2
    assert page_answer.otherwise(results, given) is None
    assert captions() == ["by the runs&#39; decisions"]


def test_one_variant_alone_and_an_undefined_score_have_an_answer() -> None:
    results = report_example.results()
    del results["variants"][1:]
    results["differences_thresholded"] = []
    assert told(results).startswith(f"Only {BEST} was compared: Positive Dice, mean over classes")
    assert told(results, "auroc_class_2") == "AUROC, class 2 is not defined on these test images."


def test_the_reader_judges_by_the_headline_metrics_first() -> None:
    metrics = page_answer.judged_by(report_example.results())
    assert tuple(metrics[:5]) == page_answer.HEADLINES
    assert metrics[0] == "dice_mean"  # the others named Dice are blind to what is invented
    assert not any(metric.startswith("reference") for metric in metrics)  # No better side.


def test_the_table_marks_the_best_and_its_ties_and_gives_reasons() -> None:
    results = without_nan(report_example.results())
    columns = {column.key: column for column in page_table.columns(results)}

    def marks(key: str, decision: str = "scores") -> list[str]:
        return [cell.mark for cell in page_table.cells(results, columns[key], decision)]

    assert marks(METRIC) == ["best", "", "tied"]
    for entry in results["differences_thresholded"]:
        if entry["metric"] == METRIC:
            entry["holds"] = {entry["a"], entry["b"]} != {BEST, SLOW}
    assert marks(METRIC, "thresholded") == ["best", "tied", ""]
    assert marks("latency") == ["", "", "best"]
    assert marks("reference_iou") == ["", "", ""]
    (undefined, *_) = page_table.cells(results, columns["auroc_class_2"], "scores")
    assert undefined.text is None
    assert "too little of class 2" in undefined.reason
    (memory, *_) = page_table.cells(results, columns["memory"], "scores")
    assert memory.reason == "Not measured on cpu."
    assert page_table.baseline(results, columns["latency"]).reason == "It has no network."
