"""The report page: its words and numbers, and what a person does with it in a real browser."""

from __future__ import annotations

import base64
import copy
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from common.page import answer as page_answer
from common.page import svg
from common.page import table as page_table
from common.page import text as page_text
from common.page.gallery import defects, encode_image, encode_labels, pack
from common.page.page import TEMPLATES, GalleryItem, write_page
from tests import report_example

BEST, SLOW, FAST = "unet_128x800", "unet_64x400", "modified_unet 256x1600"
METRIC = "dice_positive_macro"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--no-first-run", "--disable-component-update", "--disable-sync",
]  # fmt: skip

# ---- words and numbers


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
    assert page_text.without_nan(value) == {"a": [1.5, None, [None, "nan"]], "b": {"c": None}}


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
    answer = page_answer.answer(page_text.without_nan(results), metric)
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
                "scores": {"m": {"value": value[name], "low": value[name] - 0.1, "high": 0.9}},
                "latency": {"median_ms": latency},
                "seeds": trainings,
            }
            for name, latency, trainings in zip("ab", latencies, seeds, strict=True)
        ],
        "against_nothing": [
            {"a": "a", "b": "predicting nothing", "metric": "m", "difference": 0.5, "low": 0.4,
             "high": 0.6, "holds": True}
        ],
        "differences": [
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


def test_a_lead_without_a_measured_difference_is_not_said_to_hold() -> None:
    results = duel(0.2, 0.05)
    results["differences"] = []
    assert "its lead over a does not hold: the difference was not measured" in told(results, "m")


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((2, 2), "the lead holds."),
        ((1, 2), "the lead holds between these trainings; other seeds were not tried."),
        ((2, 1), "the lead holds between these trainings; other seeds were not tried."),
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
    results["against_nothing"][0] |= {"difference": difference, "holds": holds}
    warning = f"Predicting nothing at all scores {baseline:.3f}: no variant is shown to do better."
    assert told(results, "m").endswith(warning) == warned


def test_one_variant_alone_and_an_undefined_score_have_an_answer() -> None:
    results = report_example.results()
    del results["variants"][1:]
    results["differences"] = []
    assert told(results).startswith(f"Only {BEST} was compared: Positive Dice, mean over classes")
    assert told(results, "auroc_class_2") == "AUROC, class 2 is not defined on these test images."


def test_the_reader_judges_by_the_headline_metrics_first() -> None:
    metrics = page_answer.judged_by(report_example.results())
    assert tuple(metrics[:5]) == page_answer.HEADLINES
    assert metrics[0] == "dice_mean"  # the others named Dice are blind to what is invented
    assert not any(metric.startswith("reference") for metric in metrics)  # No better side.


def test_the_table_marks_the_best_and_its_ties_and_gives_reasons() -> None:
    results = page_text.without_nan(report_example.results())
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


# ---- the gallery's data


@settings(deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 2))
)
def test_packed_label_maps_hold_every_pixel(label_map: np.ndarray) -> None:
    values, lengths, shift = [], [], 0
    for byte in encode_labels(label_map):
        if shift == 0 and len(values) == len(lengths):
            values.append(byte)
            lengths.append(0)
            shift = -1
            continue
        lengths[-1] |= (byte & 127) << max(shift, 0)
        shift = max(shift, 0) + 7 if byte & 128 else 0
    assert np.array_equal(np.repeat(values, lengths), label_map.ravel())


def test_defects_are_counted_by_what_became_of_them() -> None:
    truth = np.zeros((20, 40), np.uint8)
    truth[2:6, 2:6] = 1  # hit by one pixel
    truth[2:6, 20:24] = 2  # called 3
    truth[12:16, 2:6] = 3  # missed
    prediction = np.zeros_like(truth)
    prediction[5:8, 5:8] = 1
    prediction[2:6, 20:24] = 3
    prediction[12:14, 30:34] = 4  # touches nothing
    prediction[14:16, 34:36] = 4  # meets it at a corner: one region
    assert defects(truth, prediction) == {"hit": 1, "wrong": 1, "missed": 1, "false": 1}
    assert defects(truth, truth) == {"hit": 3, "wrong": 0, "missed": 0, "false": 0}
    assert defects(truth * 0, truth) == {"hit": 0, "wrong": 0, "missed": 0, "false": 3}


def test_images_take_the_best_picture_that_fits(items: list[GalleryItem]) -> None:
    def seen(data: bytes) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)

    image = items[0].image
    whole = encode_image(image, 10**9)
    assert np.abs(seen(whole).astype(int) - image).mean() < 5
    less = encode_image(image, len(whole) // 2)
    assert seen(less).shape == image.shape
    tiny = encode_image(image, 500)
    assert seen(tiny).size < image.size
    assert [len(less) <= len(whole) // 2, len(tiny) <= 500] == [True, True]


def test_large_images_are_shrunk_and_variants_may_lack_a_prediction() -> None:
    image = np.zeros((300, 4000), np.uint8)
    item = GalleryItem("wide.jpg", image, image, {"a": image + 2}, {"a": math.nan})
    (entry,) = pack([item], ["a", "b"], 10**6)
    assert (entry["height"], entry["width"]) == (120, 1600)
    assert entry["maps"][1] is entry["defects"][1] is entry["dice"][1] is None
    assert entry["found"] == [[2], None]


# ---- the file


@pytest.fixture(scope="module")
def items() -> list[GalleryItem]:
    return report_example.gallery(14)


@pytest.fixture(scope="module")
def page_path(items: list[GalleryItem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    write_page(report_example.results(), items, path)
    return path


def test_the_file_needs_no_other(page_path: Path) -> None:
    html = page_path.read_text()
    assert not re.search(r"https?://", html)
    assert not re.search(r'(src|href)="(?!#|data:)', html)
    assert "@import" not in html
    assert "url(" not in html


def test_sixty_strips_stay_under_ten_megabytes(items: list[GalleryItem], tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    write_page(report_example.results(), items * 4 + items[:4], path)
    assert 5_000_000 < path.stat().st_size < 10_000_000
    assert len(packed_in(path)) == 60
    assert "left out" not in path.read_text()


def test_noisy_maps_of_many_variants_leave_out_the_last_strips(tmp_path: Path) -> None:
    results = report_example.results()
    names = [f"variant {i}" for i in range(12)]
    results["variants"] = [results["variants"][0] | {"name": name} for name in names]
    for kind in ("differences", "differences_thresholded", "against_nothing"):
        results[kind] = []
    noise = np.random.default_rng(0)
    grain = noise.integers(0, 256, (256, 1600), np.uint8)
    speckles = (noise.random((256, 1600)) < 0.02).astype(np.uint8)
    items = [
        GalleryItem(f"{i}.jpg", grain, speckles, dict.fromkeys(names, speckles), {})
        for i in range(20)
    ]
    path = tmp_path / "index.html"
    write_page(results, items, path)
    shown = packed_in(path)
    assert 9_000_000 < path.stat().st_size + 3_000_000 < 13_000_000
    assert path.stat().st_size < 10_000_000
    assert [entry["name"] for entry in shown] == [f"{i}.jpg" for i in range(len(shown))]
    assert 2 <= len(shown) < 20
    assert f"{20 - len(shown)} of the 20 gallery images were left out" in path.read_text()
    whole = encode_image(grain, 10**9)
    assert all(len(base64.b64decode(entry["image"])) > len(whole) // 8 for entry in shown)


def test_a_gallery_of_which_nothing_fits_is_left_out(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "index.html"
    monkeypatch.setattr("common.page.page.PAGE_BUDGET", 1)
    write_page(report_example.results(), report_example.gallery(2), path)
    assert "2 of the 2 gallery images were left out" in path.read_text()
    assert 'id="gallery"' not in path.read_text()


def packed_in(path: Path) -> list[dict]:
    """The gallery's items as the page holds them."""
    data = re.search(r'id="gallery-data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(data[1])["items"]


def test_the_page_says_sizes_epochs_and_what_chose_the_thresholds(tmp_path: Path) -> None:
    results = report_example.results()
    path = tmp_path / "index.html"
    write_page(results, [], path)
    assert "Not trained to the end" not in path.read_text()
    results["data"]["sizes"] = [
        {"height": 256, "width": 1600, "images": 1200},
        {"height": 128, "width": 800, "images": 57},
    ]
    results["variants"][1]["epochs"] = [{"done": 30, "planned": 30}, {"done": 12, "planned": 30}]
    write_page(results, [], path)
    text = re.sub(r"<[^>]*>", "", path.read_text())
    assert f"Not trained to the end: {SLOW}, 12 of 30 epochs." in text
    assert text.count("Not trained to the end") == 1
    assert "256×1600 (1\u202f200 images), 128×800 (57 images) pixels" in text
    assert "timed on images of 256×1600" in text
    assert "Thresholds (chosen by: Kaggle Dice on val)" in text


def test_the_gallery_keeps_its_budget_on_pure_noise() -> None:
    noise = np.random.default_rng(0)
    grain = noise.integers(0, 256, (128, 800), np.uint8)
    speckles = (noise.random((128, 800)) < 0.02).astype(np.uint8)
    packed = pack([GalleryItem("a.jpg", grain, speckles, {"a": speckles}, {})] * 4, ["a"], 10**5)
    assert len(json.dumps(packed)) < 1.02 * 10**5
    assert all(entry["image"] for entry in packed)


def test_nan_is_never_written(page_path: Path) -> None:
    html = page_path.read_text()
    body = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", html, flags=re.DOTALL)
    assert not re.search(r"\b(nan|NaN|None|undefined|inf|Infinity)\b", body)
    json.loads(re.search(r'id="gallery-data">(.*?)</script>', html, re.DOTALL)[1])


def test_colours_keep_their_contrast_in_light_and_dark() -> None:
    style = (TEMPLATES / "page.css").read_text()
    colours = {
        name: pair for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", style)
    }

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(ink: str, paper: str, theme: int) -> float:
        low, high = sorted(luminance(colours[name][theme]) for name in (ink, paper))
        return (high + 0.05) / (low + 0.05)

    pairs = [(ink, "paper") for ink in ("ink", "quiet", "accent", *(f"v{i}" for i in range(6)))]
    pairs += [("quiet", "soft"), ("good-ink", "good"), ("bad-ink", "bad"), ("quiet", "good")]
    for ink, paper in [*pairs, ("quiet", "bad"), ("bad-ink", "paper"), ("v0", "raised")]:
        for theme in (0, 1):
            assert contrast(ink, paper, theme) >= 4.5, (ink, paper, theme)


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs the Chromium browser on the path (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser, page_path: Path) -> Iterator[Callable]:
    """Opens the page; the test fails if the page then logs, throws or asks for anything."""
    contexts, trouble = [], []

    def call(path: Path = page_path, **options):
        options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request",
            lambda request: (
                trouble.append(request.url)
                if request.url != path.as_uri() and not request.url.startswith(("data:", "blob:"))
                else None
            ),
        )
        page.set_default_timeout(5000)
        page.goto(path.as_uri())
        return page

    yield call
    for context in contexts:
        context.close()
    assert trouble == []


def names_of(page) -> list[str]:
    return page.locator("#figures tbody th .name").all_inner_texts()


def cards_of(page) -> list[str]:
    return page.locator("#cards .card h3").all_inner_texts()


def note_of(page) -> str:
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    return tip.inner_text()


def header(page, text: str):
    return page.locator("#figures thead th", has_text=text).first


def test_the_answer_comes_first(visit: Callable) -> None:
    page = visit()
    verdict = page.locator(".verdict:visible")
    assert verdict.count() == 1
    box = verdict.bounding_box()
    assert box["y"] + box["height"] < 400
    assert f"{BEST} scores highest" in verdict.inner_text()
    ranking = page.locator(".ranking:visible tbody tr").all_inner_texts()
    assert [row.split()[0] for row in ranking[:3]] == [BEST, "modified_unet", SLOW]
    assert "not told apart" in ranking[1]
    assert "worse, holds" in ranking[2]


def test_the_metric_to_judge_by_is_one_choice_everywhere(visit: Callable) -> None:
    page = visit()
    page.select_option("#judge-answer", "false_alarms_per_clean_image")
    assert (
        "scores lowest (False alarms per clean image"
        in page.locator(".verdict:visible").inner_text()
    )
    assert page.locator("#judge-differences").input_value() == "false_alarms_per_clean_image"
    assert "False alarms" in page.locator(".matrix:visible caption").inner_text()
    assert page.locator(
        'svg[aria-label="False alarms per clean image against latency"]'
    ).is_visible()
    cells = page.locator(".matrix:visible tbody tr").first.locator("td").all_inner_texts()
    assert "better" in cells[1]  # Fewer is better: a negative difference favours the row.
    assert "−" in cells[1]
    assert "does not hold" in cells[2]


def test_the_table_sorts_by_mouse_and_keyboard(visit: Callable) -> None:
    page = visit()
    head = header(page, "Latency")
    head.locator(".sort").click()
    assert names_of(page) == [FAST, SLOW, BEST]
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert names_of(page) == [BEST, SLOW, FAST]
    assert head.get_attribute("aria-sort") == "descending"
    header(page, "Variant").locator(".sort").click()
    assert names_of(page) == [FAST, SLOW, BEST]  # 64 before 128.
    assert head.get_attribute("aria-sort") is None
    assert page.locator("#figures tfoot").inner_text().startswith("Empty prediction")


def test_variants_without_a_figure_sort_last_either_way(visit: Callable, tmp_path: Path) -> None:
    results = report_example.results()
    results["variants"][0]["scores"][METRIC]["value"] = math.nan
    write_page(results, [], tmp_path / "index.html")
    page = visit(tmp_path / "index.html")
    sort = header(page, "Positive Dice, mean").locator(".sort")
    sort.click()
    assert names_of(page) == [FAST, SLOW, BEST]
    sort.click()
    assert names_of(page) == [SLOW, FAST, BEST]
    assert page.locator("#gallery").count() == 0


def test_columns_and_thresholds_are_chosen_by_buttons(visit: Callable) -> None:
    page = visit()
    assert header(page, "Latency").is_visible()
    page.get_by_role("button", name="IoU by class").click()
    assert not header(page, "Latency").is_visible()
    cell = page.locator("#figures tbody tr").first.locator("td:not([hidden])").first
    before = cell.inner_text()
    page.get_by_role("button", name="Validation thresholds").click()
    assert cell.inner_text() != before
    expected = report_example.results()["variants"][0]["thresholded"]["iou_class_1"]["value"]
    assert f"{expected:.3f}" in cell.inner_text()


def test_a_dash_tells_its_reason_and_a_button_how_a_figure_is_made(visit: Callable) -> None:
    page = visit()
    page.get_by_role("button", name="Image level").click()
    dash = page.locator("#figures tbody td:not([hidden]) .dash").first
    assert dash.inner_text().startswith("—")
    dash.focus()
    page.mouse.move(640, 300)  # away from it: what has the focus keeps its note
    assert "too little of class 2" in note_of(page)
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.get_by_role("button", name="Overview").click()
    header(page, "Kaggle Dice").locator(".info").click()
    assert "an invented figure for a test" in note_of(page)


def test_charts_have_tips_and_can_highlight_one_variant(visit: Callable) -> None:
    page = visit()
    page.locator(".chart .bar").first.hover()
    assert note_of(page).startswith(f"{BEST}, class 1: 0.5")
    assert page.locator(".chart:visible").count() == 6
    page.locator(".legend button").nth(1).click()
    opacity = "element => getComputedStyle(element).opacity"
    faded, kept = (page.locator(f".chart .bar.v{i}").first for i in (0, 1))
    assert float(faded.evaluate(opacity)) < 0.2
    assert float(kept.evaluate(opacity)) > 0.8


def test_the_gallery_filters_and_orders(visit: Callable, items: list[GalleryItem]) -> None:
    page = visit()
    entries = pack(items, [BEST, SLOW, FAST], 10**7)

    def expected(match: Callable, key: Callable) -> list[str]:
        return [e["name"] for e in sorted(filter(match, entries), key=key)][:12]

    def mean(entry: dict) -> tuple:
        return (np.mean(entry["dice"]), entry["name"])

    def choose(**choice: str) -> None:
        for name, value in choice.items():
            page.select_option(f'#filters [name="{name}"]', value)

    assert cards_of(page) == expected(lambda e: True, mean)
    page.locator("#more").click()
    assert len(cards_of(page)) == 14
    choose(order="name")
    assert cards_of(page) == expected(lambda e: True, lambda e: e["name"])
    choose(order="apart")
    assert cards_of(page) == expected(
        lambda e: True, lambda e: (min(e["dice"]) - max(e["dice"]), e["name"])
    )
    choose(order="best", variant="1", kind="missed")
    assert cards_of(page) == expected(
        lambda e: e["defects"][1]["missed"], lambda e: (-e["dice"][1], e["name"])
    )
    assert page.locator("#cards .card").first.locator(".panel").count() == 2
    choose(order="worst", variant="", kind="false")
    found = expected(lambda e: any(d["false"] for d in e["defects"]), mean)
    assert 0 < len(found) < 14
    assert cards_of(page) == found
    assert page.locator("#shown").inner_text() == f"{len(found)} of 14 images"
    choose(kind="", **{"class": "2"})
    assert cards_of(page) == expected(
        lambda e: any(2 in classes for classes in [e["classes"], *e["found"]]), mean
    )
    choose(**{"class": "clean"})
    assert cards_of(page) == expected(lambda e: not e["classes"], mean)
    choose(kind="right", **{"class": ""})
    for v in range(3):
        choose(variant=str(v))
        assert cards_of(page) == expected(
            lambda e, v=v: sum(e["defects"][v].values()) == e["defects"][v]["hit"],
            lambda e, v=v: (e["dice"][v], e["name"]),
        )


def painted(canvas) -> np.ndarray:
    """A canvas's pixels (H, W, 4) uint8: blue, green, red, alpha."""
    png = base64.b64decode(canvas.evaluate("canvas => canvas.toDataURL().split(',')[1]"))
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


def test_hits_and_errors_are_painted_where_they_are(
    visit: Callable, items: list[GalleryItem]
) -> None:
    page = visit()
    item = next(i for i in items if defects(i.truth, i.predictions[FAST])["missed"])
    page.select_option('#filters [name="variant"]', "2")
    card = page.locator(".card", has=page.get_by_text(item.name, exact=True))
    card.scroll_into_view_if_needed()
    page.wait_for_function("card => card.dataset.painted", arg=card.element_handle())
    classes, errors = (painted(card.locator(".over").nth(panel)) for panel in (0, 1))
    truth, prediction = item.truth, item.predictions[FAST]
    assert np.array_equal(classes[..., 3] > 0, truth > 0)
    assert np.array_equal(errors[..., 3] > 0, (truth > 0) | (prediction > 0))
    missed = errors[(truth > 0) & (prediction == 0)]
    assert (missed[:, 0] > missed[:, 2]).all()  # Blue.
    assert len(np.unique(missed[:, 3])) == 3  # Light and dark stripes, and an outline.


def wiped(card) -> float:
    """Percent of the strip's width that the overlay leaves free."""
    clip = card.locator(".over").nth(1).evaluate("canvas => getComputedStyle(canvas).clipPath")
    return float(re.search(r"([\d.]+)%\)$", clip)[1]) if "%" in clip else 0.0


def test_wiping_by_keyboard_and_mouse(visit: Callable) -> None:
    page = visit()
    card = page.locator(".card").first
    card.locator("input").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert wiped(card) == 3
    stage = card.locator(".stage").nth(1)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=4)
    page.mouse.up()
    assert abs(wiped(card) - 50) <= 1
    assert card.locator("input").input_value() == f"{wiped(card):.0f}"
    assert not page.locator("#large").is_visible()  # A drag is no click.
    assert "truth" in card.locator(".readout").inner_text()
    page.select_option('#filters [name="under"]', "truth")
    assert abs(wiped(card) - 50) <= 1  # A card keeps its wipe.
    assert sum(card.locator(".under").nth(1).evaluate("c => [c.width, c.height]")) == 1856


def test_a_strip_enlarges_and_closes(visit: Callable) -> None:
    page = visit()
    first, second = cards_of(page)[:2]
    page.locator(".card .stage").first.click()
    large = page.locator("#large")
    assert large.locator("h2").inner_text() == first
    page.keyboard.press("ArrowRight")
    assert wiped(large.locator(".card")) == 1
    assert large.get_by_role("button", name="Previous").is_disabled()
    large.get_by_role("button", name="Next").click()
    assert large.locator("h2").inner_text() == second
    large.get_by_role("button", name="Actual pixels").click()
    assert large.locator(".stage").first.bounding_box()["width"] == 1600
    page.keyboard.press("Escape")
    assert not large.is_visible()


def test_light_and_dark(visit: Callable) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page = visit(color_scheme="light")
    light = page.evaluate(background)
    page.locator("#theme").click()
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    assert visit(color_scheme="dark").evaluate(background) == dark


def test_a_phone_shows_it_without_sideways_scrolling(visit: Callable) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="All", exact=True).tap()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    inside = page.locator(".scroll").first
    assert inside.evaluate("box => box.scrollWidth > box.clientWidth")
    card = page.locator(".card").first
    card.scroll_into_view_if_needed()
    stage = card.locator(".stage").nth(1)
    box = stage.bounding_box()
    touch = page.context.new_cdp_session(page)
    for kind, share in (("touchStart", 0.1), ("touchMove", 0.3), ("touchMove", 0.6)):
        point = {"x": box["x"] + share * box["width"], "y": box["y"] + 20}
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert abs(wiped(card) - 60) <= 2
    stage.tap()
    assert page.locator("#large h2").is_visible()
    assert page.locator("#large .stage").first.bounding_box()["width"] == 1600
    assert page.evaluate("document.querySelector('#large').scrollWidth") == 390


def test_the_keyboard_reaches_the_answer_and_shows_where_it_is(visit: Callable) -> None:
    page = visit()
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Tab")
    focused = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{focused}.outlineStyle") == "solid"
    assert page.evaluate(f"parseFloat({focused}.outlineWidth)") >= 2


def test_without_scripts_and_on_paper_the_answer_is_there(visit: Callable) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator(".verdict:visible").count() == 1
    assert page.locator(".chart svg:visible").count() == 6
    page.emulate_media(media="print")
    assert not page.locator("#theme").is_visible()
    assert not page.locator("#filters").is_visible()
    assert page.locator("#figures").is_visible()


HOSTILE = [
    "<script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 1">',
    "</script><script>window.owned = 1</script>{{ 7 * 7 }} 'quoted' & <b>bold</b>",
]


def test_hostile_names_are_text(visit: Callable, items: list[GalleryItem], tmp_path: Path) -> None:
    results = report_example.results()
    renamed = dict(zip((BEST, SLOW, FAST), HOSTILE, strict=True))
    for variant in results["variants"]:
        variant["name"] = renamed[variant["name"]]
        variant["runs"] = HOSTILE
        variant["epochs"] = variant["epochs"][:1] * len(HOSTILE)
    for entry in results["differences"]:
        entry["a"], entry["b"] = renamed[entry["a"]], renamed[entry["b"]]
    first = results["metrics"][page_answer.HEADLINES[0]]
    first["title"] = first["explanation"] = HOSTILE[0]
    results["command"] = results["data"]["root"] = HOSTILE[2]
    gallery = copy.copy(items[:2])
    for i, item in enumerate(gallery):
        predictions = {renamed[name]: labels for name, labels in item.predictions.items()}
        dice = {renamed[name]: value for name, value in item.dice.items()}
        gallery[i] = GalleryItem(HOSTILE[i], item.image, item.truth, predictions, dice)
    write_page(results, gallery, tmp_path / "index.html")
    page = visit(tmp_path / "index.html")
    assert page.evaluate("window.owned") is None
    assert page.locator("img[src=x], main script:not([type])").count() == 0
    assert names_of(page) == HOSTILE
    assert set(cards_of(page)) == set(HOSTILE[:2])
    assert page.locator("#method code").first.inner_text() == HOSTILE[2]
    assert page.locator("#judge-answer option").first.inner_text() == HOSTILE[0]
    page.locator(".card .enlarge").first.click()
    assert page.locator("#large h2").inner_text() in HOSTILE
    assert page.evaluate("window.owned") is None
