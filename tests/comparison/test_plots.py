"""Charts as files: variants named, figures where they belong, text on a machine without fonts."""

import re
import xml.etree.ElementTree as ET
from functools import partial

import cv2
import numpy as np
import pytest
import resvg_py

from common.comparison import plots
from common.comparison.page import charts, svg
from common.comparison.page.lines import Point, line_chart
from tests import report_example

NAMES = {
    "quality_latency", "learning_curves", "per_class", "size_recall", "calibration", "thresholds",
}  # fmt: skip
BY_SIZE = {"quality_resolution", "quality_training", "quality_gflop", "recall_resolution"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "plots"
    plots.save_all(report_example.results(), folder)
    return folder


def seen(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).astype(int)


def test_every_plot_is_a_picture_and_a_vector_drawing(folder):
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in NAMES | BY_SIZE for kind in ("png", "svg")
    }
    for name in NAMES | BY_SIZE:
        root = ET.parse(folder / f"{name}.svg").getroot()
        picture = cv2.imread(str(folder / f"{name}.png"))
        size = [plots.SCALE * int(root.get(side)) for side in ("height", "width")]
        assert list(picture.shape[:2]) == size
        assert picture.std() > 10


@pytest.mark.parametrize("name", sorted(NAMES | BY_SIZE))
def test_every_variant_is_named_in_the_drawing(folder, name):
    texts = {text.text for text in ET.parse(folder / f"{name}.svg").iter(f"{SVG}text")}
    assert texts >= {variant["name"] for variant in report_example.results()["variants"]}


def test_the_same_results_give_the_same_files(folder, tmp_path):
    plots.save_all(report_example.results(), tmp_path)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_text_is_drawn_on_a_machine_without_fonts(monkeypatch):
    bare = partial(resvg_py.svg_to_bytes, skip_system_fonts=True)
    monkeypatch.setattr(plots.resvg_py, "svg_to_bytes", bare)

    def drawn(text: str) -> bytes:
        panel = charts.Figure("", "", "", "", [("", "", svg.chart([], ""))])
        return plots.rasterise(plots.sheet([panel], [text]))

    letters = "aößДα≥±–…"
    assert len({drawn(letter) for letter in [*letters, ""]}) == len(letters) + 1
    assert np.count_nonzero(seen(drawn(letters)) != seen(drawn(""))) > 1000
    monkeypatch.setattr(plots, "FONTS", [])
    assert drawn(letters) == drawn("")


def test_bars_are_as_high_as_the_figures(folder):
    results = report_example.results()
    drawn = ET.parse(folder / "per_class.svg").findall(f".//{SVG}svg/{SVG}rect[@class]")
    bars = [bar for bar in drawn if "bar" in bar.get("class")]
    heights = [float(bar.get("height")) / (svg.BOTTOM - svg.TOP) for bar in bars]
    expected = [
        variant["thresholded"][f"{family}_{k}"]["value"]
        for family in ("dice_positive_class", "dice_class")
        for k in results["data"]["classes"]
        for variant in results["variants"]
    ]
    assert heights == pytest.approx(expected, abs=1e-3)


def test_colours_stand_in_the_file_as_they_are(folder):
    for path in folder.glob("*.svg"):
        assert "var(" not in path.read_text()
    picture = cv2.imread(str(folder / "per_class.png")).astype(int)
    found = set(np.unique(picture @ (1, 256, 65536)).tolist())
    for rgb in re.findall(r"--v[0-2]: light-dark\(#(\w+)", plots.source("page.css")):
        assert int(rgb, 16) in found  # the marks of the legend


def test_names_are_no_markup(tmp_path):
    results = report_example.results()
    results["variants"][0]["name"] = name = "<b>&$\\frac$"
    plots.save_all(results, tmp_path)
    for path in tmp_path.glob("*.svg"):
        assert name in {text.text for text in ET.parse(path).iter(f"{SVG}text")}


def test_classes_are_called_by_their_names(tmp_path):
    results = report_example.results()
    results["data"]["class_titles"] = ["1 (scratch)", "2", "3", "4 (rolled-in scale)"]
    plots.save_all(results, tmp_path)
    texts = [text.text for text in ET.parse(tmp_path / "per_class.svg").iter(f"{SVG}text")]
    for line in ("class 1 (scratch)", "class 2", "class 4", "(rolled-in scale)"):
        assert line in texts


def test_figures_without_an_interval_are_drawn_without_one():
    results = report_example.results()
    for variant in results["variants"]:
        variant["latency"] |= {"low_ms": None}
        for score in [*variant["thresholded"].values(), *variant["size_recall_thresholded"]]:
            score.update(low=None, high=None)
    panels = [
        drawn
        for figure in charts.figures(plots.without_nan(results))
        for *_, drawn in figure.panels
    ]
    assert len(panels) > 10
    assert not any("whisker" in drawn for drawn in panels)


def test_undefined_figures_leave_a_gap(tmp_path):
    results = report_example.results()
    for variant in results["variants"]:
        for metric in ("dice_mean", "dice_class_2", "dice_positive_class_2"):
            variant["thresholded"][metric] = dict.fromkeys(("value", "low", "high", "seed_std"))
        variant["size_recall_thresholded"][0].update(recall=None, low=None, high=None)
        variant["curves"][0]["val_dice_mean"][0] = None
    results["baseline"]["dice_mean"] = None
    plots.save_all(results, tmp_path)
    texts = [text.text for text in ET.parse(tmp_path / "per_class.svg").iter(f"{SVG}text")]
    assert texts.count("—") == 2 * len(results["variants"])
    assert ">Dice, mean over classes<" not in (tmp_path / "quality_latency.svg").read_text()


def test_what_is_drawn_by_size_needs_a_network_at_two_sizes(tmp_path):
    results = report_example.results()
    del results["variants"][0]
    plots.save_all(results, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == NAMES


def points_of(name: str, folder) -> list[list[float]]:
    """Every drawn line's points, x and y in the drawing's units."""
    paths = ET.parse(folder / f"{name}.svg").findall(f".//{SVG}path[@class]")
    lines = [path.get("d") for path in paths if "series" in path.get("class")]
    return [[float(number) for number in re.findall(r"[\d.]+", line)] for line in lines]


@pytest.mark.parametrize(
    ("name", "costs"),
    [
        ("quality_latency", (281, 1192)),
        ("quality_resolution", (64 * 400, 128 * 800)),
        ("quality_training", (40 * 31.8, 40 * 176)),
        ("quality_gflop", (31.8, 176)),
    ],
)
def test_a_line_runs_from_a_networks_small_size_to_its_large_one(folder, name, costs):
    (x1, y1, x2, y2), second = points_of(name, folder)
    large, small, other = report_example.results()["variants"]
    levels = [
        v["thresholded"]["dice_mean"][k] for v in (small, large, other) for k in ("low", "high")
    ]
    y = svg.fitted(levels, svg.BOTTOM, svg.TOP)
    assert y1 == y(small["thresholded"]["dice_mean"]["value"]) > y2
    assert y2 == y(large["thresholded"]["dice_mean"]["value"])
    # On a logarithmic axis a distance is a ratio; all three variants share the axis.
    cost = {"latency": 28.6, "resolution": 256 * 1600, "training": 144, "gflop": 3.6}
    x = svg.fitted([*costs, cost[name.removeprefix("quality_")]], svg.LEFT + 6, svg.RIGHT, log=True)
    assert [x1, x2] == [x(costs[0]), x(costs[1])]
    assert second[::2] == [x1, x2]


def test_a_line_runs_over_the_shares_of_one_variant_at_one_size(tmp_path):
    results = report_example.results()
    whole, quarter, other = results["variants"]
    for key in ("variant", "height", "width"):
        quarter[key] = whole[key]
    quarter |= {"share": 0.25, "train_images": 2250.0}
    other |= {"train_images": 4500.0}
    plots.save_all(results, tmp_path)
    (x1, y1, x2, y2), _ = points_of("quality_labels", tmp_path)
    x = svg.fitted([2250, 4500, 9000], svg.LEFT + 6, svg.RIGHT, log=True)
    scores = [v["thresholded"]["dice_mean"] for v in (quarter, whole, other)]
    y = svg.fitted([s[k] for s in scores for k in ("low", "high")], svg.BOTTOM, svg.TOP)
    assert [x1, x2] == [x(2250), x(9000)]
    assert [y1, y2] == [y(score["value"]) for score in scores[:2]]
    drawn = (tmp_path / "quality_labels.svg").read_text()
    assert ">25%<" in drawn
    assert f">{whole['variant']} {whole['height']}×{whole['width']}<" in drawn  # at the line's end
    assert "shares of one variant at one size.<" in drawn
    quarter["train_images"] = None  # a run that does not say
    plots.save_all(results, tmp_path / "unknown")
    assert not (tmp_path / "unknown" / "quality_labels.svg").exists()


def test_names_stay_inside_and_apart_where_points_crowd_at_an_edge():
    crowd = [[Point(i, 100, 0.5 + i / 200, "", name="a name of 21 letters.")] for i in range(6)]
    drawn = line_chart([[Point(6, 1, 0.2, "")], *crowd], "x", "y", "label")
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="direct (\w+)', drawn)
    ((x, side),) = {(float(x), side) for x, _, side in places}
    assert (side, x < svg.RIGHT) == ("end", True)  # all to the left of their points
    levels = sorted(float(y) for _, y, _ in places)
    assert len(levels) == 6
    assert min(np.diff(levels)) > 5


def test_recall_by_resolution_is_that_of_the_smallest_defects(folder):
    ((_, y1, _, y2),) = points_of("recall_resolution", folder)
    entries = [
        variant["size_recall_thresholded"][0] for variant in report_example.results()["variants"]
    ]
    levels = [entry[key] for entry in entries for key in ("recall", "low", "high")]
    y = svg.fitted(levels, svg.BOTTOM, svg.TOP)
    assert [y1, y2] == [y(entries[1]["recall"]), y(entries[0]["recall"])]


def test_the_decision_on_val_is_a_line_through_every_probability_with_the_taken_one_marked():
    results = report_example.results()
    curve = results["variants"][0]["thresholds_curve"]
    curve[:] = [row | {"taken": row["probability"] == 0.7} for row in curve]
    found = charts.thresholds(results)
    assert [name for _, name, _ in found.panels] == ["Class 1", "Class 3", "Class 4"]  # 2: no image
    rows = [row for row in found.rows if row[:2] == ["unet_128x800", "class 3"]]
    assert [row[2] for row in rows] == ["0.1", "0.3", "0.5", "0.7", "0.9"]
    assert [row[2] for row in rows if row[-1] == "yes"] == ["0.7"]
    first = next(row for row in curve if row["class"] == 3)
    assert rows[0][3:5] == [f"{first[key]:.3f}" for key in ("empty_accuracy", "dice_positive")]
    x, y = svg.Scale(0, 1, svg.LEFT, svg.RIGHT), svg.Scale(0, 1, svg.BOTTOM, svg.TOP)
    line = f'<path d="M{x(first["empty_accuracy"]):g} {y(first["dice_positive"]):g}L'
    assert line in found.panels[1][2]
    assert "probability 0.7, left clean 0.931, positive Dice" in found.panels[1][2]


def test_results_without_timing_or_curves_lack_those_files(tmp_path):
    results = report_example.results()
    for variant in results["variants"]:
        variant |= {"latency": None, "curves": [], "calibration": [], "thresholds_curve": []}
    plots.save_all(results, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"per_class", "size_recall"} | BY_SIZE
