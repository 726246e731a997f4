import xml.etree.ElementTree

import cv2
import pytest

from common.comparison import plots
from tests import report_example

NAMES = {"quality_latency", "learning_curves", "per_class", "size_recall", "calibration"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "plots"
    plots.save_all(report_example.results(), folder)
    return folder


def test_every_plot_is_a_picture_and_a_vector_drawing(folder):
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")
    }
    for name in NAMES:
        picture = cv2.imread(str(folder / f"{name}.png"))
        assert picture.shape[1] >= 800
        assert picture.std() > 10
        xml.etree.ElementTree.parse(folder / f"{name}.svg")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_variant_is_named_in_the_drawing(folder, name):
    text = (folder / f"{name}.svg").read_text()
    for variant in report_example.results()["variants"]:
        assert f">{variant['name']}<" in text


def test_the_same_results_give_the_same_drawings(folder, tmp_path):
    plots.save_all(report_example.results(), tmp_path)
    for path in folder.glob("*.svg"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_bars_and_their_intervals_are_the_figures():
    results = report_example.results()
    figure = plots.per_class(results)
    axes = figure.axes[1]
    heights = [patch.get_height() for container in axes.containers[1::2] for patch in container]
    expected = [
        variant["scores"][f"dice_positive_class_{k}"]["value"]
        for variant in results["variants"]
        for k in results["data"]["classes"]
    ]
    assert heights == pytest.approx(expected)


def test_dollars_in_a_name_are_no_formula(tmp_path):
    results = report_example.results()
    results["variants"][0]["name"] = "unet (runs/$\\frac$x)"
    results["machine"]["device"] = "$GPU$"
    plots.save_all(results, tmp_path)
    for name in NAMES:
        assert ">unet (runs/$\\frac$x)<" in (tmp_path / f"{name}.svg").read_text()
    assert "($GPU$)" in (tmp_path / "quality_latency.svg").read_text()


def test_figures_without_an_interval_are_drawn_without_one():
    results = report_example.results()
    for variant in results["variants"]:
        for score in [*variant["scores"].values(), *variant["size_recall"]]:
            score.update(low=None, high=None)
    for draw in plots.PLOTS:
        draw(results).draw_without_rendering()


def test_undefined_figures_leave_a_gap():
    results = report_example.results()
    for variant in results["variants"]:
        for metric in ("dice_mean", "dice_class_2", "dice_positive_class_2"):
            variant["scores"][metric] = dict.fromkeys(("value", "low", "high", "seed_std"))
        variant["size_recall"][0].update(recall=None, low=None, high=None)
        variant["curves"][0]["val_dice_mean"][0] = None
    results["baseline"]["dice_mean"] = None
    for draw in plots.PLOTS:
        draw(results).draw_without_rendering()
