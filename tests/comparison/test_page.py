"""The report page's file: the gallery packed into it, its size, what it may not hold."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from common.comparison.page.gallery import defects, encode_image, encode_labels, pack
from common.comparison.page.page import TEMPLATES, GalleryItem, write_page
from tests import report_example


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


def test_images_take_the_best_picture_that_fits(gallery_items: list[GalleryItem]) -> None:
    def seen(data: bytes) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)

    image = gallery_items[0].image
    whole = encode_image(image, 10**9)
    assert np.abs(seen(whole).astype(int) - image).mean() < 5
    less = encode_image(image, len(whole) // 2)
    assert seen(less).shape == image.shape
    tiny = encode_image(image, 500)
    assert seen(tiny).size < image.size
    assert [len(less) <= len(whole) // 2, len(tiny) <= 500] == [True, True]


def test_large_images_are_shrunk() -> None:
    image = np.zeros((300, 4000), np.uint8)
    item = GalleryItem("wide.jpg", image, image, {"a": image + 2, "b": image}, {"a": 0.0, "b": 1.0})
    (entry,) = pack([item], ["b", "a"], 10**6)
    assert (entry["height"], entry["width"]) == (120, 1600)
    assert (entry["found"], entry["dice"]) == ([[], [2]], [1.0, 0.0])


def test_the_file_needs_no_other(page_path: Path) -> None:
    html = page_path.read_text()
    assert not re.search(r"https?://", html)
    assert not re.search(r'(src|href)="(?!#|data:)', html)
    assert "@import" not in html
    assert "url(" not in html


def test_sixty_strips_stay_under_ten_megabytes(
    gallery_items: list[GalleryItem], tmp_path: Path
) -> None:
    path = tmp_path / "index.html"
    write_page(report_example.results(), gallery_items * 4 + gallery_items[:4], path)
    assert 5_000_000 < path.stat().st_size < 10_000_000
    assert len(packed_in(path)) == 60
    assert "left out" not in path.read_text()


def test_noisy_maps_of_many_variants_leave_out_the_last_strips(tmp_path: Path) -> None:
    results = report_example.results()
    names = [f"variant {i}" for i in range(12)]
    results["variants"] = [results["variants"][0] | {"name": name} for name in names]
    for kind in (
        "differences", "differences_thresholded", "against_nothing", "against_nothing_thresholded",
    ):  # fmt: skip
        results[kind] = []
    noise = np.random.default_rng(0)
    grain = noise.integers(0, 256, (256, 1600), np.uint8)
    speckles = (noise.random((256, 1600)) < 0.02).astype(np.uint8)
    made = dict.fromkeys(names, speckles), dict.fromkeys(names, 0.5)
    items = [GalleryItem(f"{i}.jpg", grain, speckles, *made) for i in range(20)]
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
    monkeypatch.setattr("common.comparison.page.page.PAGE_BUDGET", 1)
    write_page(report_example.results(), report_example.gallery(2), path)
    assert "2 of the 2 gallery images were left out" in path.read_text()
    assert 'id="gallery"' not in path.read_text()


def packed_in(path: Path) -> list[dict]:
    """The gallery's items as the page holds them."""
    data = re.search(r'id="gallery-data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(data[1])["items"]


def test_the_page_says_sizes_epochs_and_what_the_thresholds_are_for(tmp_path: Path) -> None:
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
    assert f"Not trained to the end: {report_example.SLOW}, 12 of 30 epochs." in text
    assert text.count("Not trained to the end") == 1
    assert "256×1600 (1\u202f200 images), 128×800 (57 images) pixels" in text
    assert "timed on images of 256×1600" in text
    assert "Thresholds (aim: balanced)" in text


def test_classes_have_their_names_in_the_page(tmp_path: Path) -> None:
    results = report_example.results()
    results["data"]["class_titles"] = titles = ["1 (scratch)", "2", "3", "4 (rolled-in scale)"]
    results["metrics"]["auroc_class_2"]["title"] = "AUROC, class 2 (<hole>)"
    path = tmp_path / "index.html"
    write_page(results, report_example.gallery(1), path)
    html = path.read_text()
    for k, title in enumerate(titles, start=1):
        assert f'<option value="{k}">class {title}</option>' in html  # of the gallery's filter
        assert f"</i>class {title}</li>" in html  # of its legend
    assert '"classes": ["1 (scratch)", "2", "3", "4 (rolled-in scale)"]' in html
    assert "Not defined: too little of class 2 (&lt;hole&gt;) in these" in html
    assert html.count("<dt>AUROC of a class</dt>") == 1  # what all classes share is said once


def test_one_figure_that_compares_several_pairs_says_that_it_is_corrected(tmp_path: Path) -> None:
    results = report_example.results()
    path = tmp_path / "index.html"
    write_page(results, [], path)
    assert "Each figure compares 3 pairs: the intervals of their differences" in path.read_text()
    del results["variants"][0]
    write_page(results, [], path)
    assert "Bonferroni" not in path.read_text()


def test_the_gallery_keeps_its_budget_on_pure_noise() -> None:
    noise = np.random.default_rng(0)
    grain = noise.integers(0, 256, (128, 800), np.uint8)
    speckles = (noise.random((128, 800)) < 0.02).astype(np.uint8)
    item = GalleryItem("a.jpg", grain, speckles, {"a": speckles}, {"a": 1.0})
    packed = pack([item] * 4, ["a"], 10**5)
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
