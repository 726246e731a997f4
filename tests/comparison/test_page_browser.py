"""What a person does with the report page, in a real browser."""

from __future__ import annotations

import base64
import copy
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.comparison.page import answer as page_answer
from common.comparison.page.gallery import defects, pack
from common.comparison.page.page import GalleryItem, write_page
from tests import report_example
from tests.report_example import BEST, FAST, METRIC, SLOW

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--no-first-run", "--disable-component-update", "--disable-sync",
]  # fmt: skip


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
    results["variants"][0]["thresholded"][METRIC]["value"] = math.nan
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
    page.get_by_role("button", name="Most probable class").click()
    assert cell.inner_text() != before
    expected = report_example.results()["variants"][0]["scores"]
    expected = expected["iou_mean_with_background"]["value"]
    assert f"{expected:.3f}" in cell.inner_text()


def test_a_dash_tells_its_reason_and_a_button_how_a_figure_is_made(visit: Callable) -> None:
    page = visit()
    page.get_by_role("button", name="Image level").click()
    dash = page.locator("#figures tbody td:not([hidden]) .dash:visible").first
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
    assert page.locator(".chart:visible").count() == 11
    page.locator(".legend button").nth(1).click()
    opacity = "element => getComputedStyle(element).opacity"
    faded, kept = (page.locator(f".chart .bar.v{i}").first for i in (0, 1))
    assert float(faded.evaluate(opacity)) < 0.2
    assert float(kept.evaluate(opacity)) > 0.8


def test_the_gallery_filters_and_orders(visit: Callable, gallery_items: list[GalleryItem]) -> None:
    page = visit()
    entries = pack(gallery_items, [BEST, SLOW, FAST], 10**7)

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
    visit: Callable, gallery_items: list[GalleryItem]
) -> None:
    page = visit()
    item = next(i for i in gallery_items if defects(i.truth, i.predictions[FAST])["missed"])
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
    assert page.locator(".chart svg:visible").count() == 11
    page.emulate_media(media="print")
    assert not page.locator("#theme").is_visible()
    assert not page.locator("#filters").is_visible()
    assert page.locator("#figures").is_visible()


HOSTILE = [
    "<script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 1">',
    "</script><script>window.owned = 1</script>{{ 7 * 7 }} 'quoted' & <b>bold</b>",
]


def test_hostile_names_are_text(
    visit: Callable, gallery_items: list[GalleryItem], tmp_path: Path
) -> None:
    results = report_example.results()
    renamed = dict(zip((BEST, SLOW, FAST), HOSTILE, strict=True))
    for variant in results["variants"]:
        variant["name"] = renamed[variant["name"]]
        variant["runs"] = HOSTILE
        variant["epochs"] = variant["epochs"][:1] * len(HOSTILE)
    for entry in results["differences_thresholded"]:
        entry["a"], entry["b"] = renamed[entry["a"]], renamed[entry["b"]]
    first = results["metrics"][page_answer.HEADLINES[0]]
    first["title"] = first["explanation"] = HOSTILE[0]
    results["command"] = results["data"]["root"] = HOSTILE[2]
    gallery = copy.copy(gallery_items[:2])
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
