import pytest

from common.comparison import report
from common.files import without_nan
from tests import report_example


@pytest.fixture(scope="module")
def results():
    return report_example.results()


def rows_of(markdown, heading):
    """Cells of the first table below a heading, by row."""
    _, _, below = markdown.partition(heading)
    lines = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_csv_holds_every_figure_of_every_variant():
    results = report_example.results()
    for variant in results["variants"]:
        for suffix in ("", "_thresholded"):
            variant[f"size_recall{suffix}"][4]["high_px"] = None
    table = report.table(results).set_index("name")
    assert list(table.index) == ["empty prediction", *(v["name"] for v in results["variants"])]
    assert table.loc["empty prediction", "kaggle_dice"] == 0.859
    for variant in results["variants"]:
        row = table.loc[variant["name"]]
        for metric, score in variant["scores"].items():
            assert row[metric] == pytest.approx(score["value"], nan_ok=True)
            assert row[f"{metric}_low"] == pytest.approx(score["low"], nan_ok=True)
        for suffix in ("", "_thresholded"):
            first, *_, last = variant[f"size_recall{suffix}"][:5]  # all classes together
            assert row[f"recall_0_to_499_px{suffix}"] == first["recall"]
            assert row[f"recall_0_to_499_px_low{suffix}"] == first["low"]
            assert row[f"recall_32000_up_px{suffix}"] == last["recall"]
        assert row["epochs_done"] == row["epochs_planned"] == 30
        assert row["dice_mean_thresholded"] == variant["thresholded"]["dice_mean"]["value"]
        assert row["latency_median_ms"] == variant["latency"]["median_ms"]
        assert row["throughput_batch"] == 8
        assert row["parameters"] == variant["parameters"]


def test_the_report_says_where_how_and_on_what_it_was_measured(results):
    text = report.markdown(results)
    for said in ("1257 test images (590 clean) in 903 groups", "256x1600", "cpu", "2 threads",
                 "fp32", "PyTorch 2.14.0", "95 % bootstrap"):  # fmt: skip
        assert said in text
    for about in report_example.OVERALL.values():
        assert f"**{about[0]}**: " in text


def test_the_report_says_what_trained_the_runs():
    results = report_example.results()
    assert "\nTrained with python 3.11.7, torch 2.14.0.\n" in report.markdown(results)
    results["variants"][0]["versions"] = [{}, {}]  # runs of before versions were kept
    results["variants"][1]["versions"][1] = {"torch": "2.15.0", "cuda": "13.0"}
    _, second, third = (variant["name"] for variant in results["variants"])
    text = report.markdown(results)
    assert f"\nTrained with python 3.11.7, torch 2.14.0 ({third}).\n" in text
    assert f"python 3.11.7, torch 2.14.0; torch 2.15.0, cuda 13.0 ({second}).\n" in text


def test_the_main_table_begins_with_predicting_nothing(results):
    head, _, nothing, first, *_ = rows_of(report.markdown(results), "# Comparison")
    kaggle = head.index(results["metrics"]["kaggle_dice"]["title"])
    assert nothing[0] == "predicting nothing"
    assert nothing[kaggle] == "0.859"
    score = results["variants"][0]["scores"]["kaggle_dice"]
    assert first[0] == results["variants"][0]["name"]
    assert first[kaggle] == (
        f"{score['value']:.3f} ± 0.004 [{score['low']:.3f}, {score['high']:.3f}]"
    )


def test_differences_say_whether_they_hold(results):
    told = {row[0]: row[1:] for row in rows_of(report.markdown(results), "## Differences")}
    for entry in results["differences"]:
        title = results["metrics"][entry["metric"]]["title"]
        row = told.get(f"{entry['a']} − {entry['b']}: {title}")
        assert (row is not None) == (entry["metric"] in report.HEADLINES)
        if row:
            assert row[0].startswith(f"{entry['difference']:+.3f} [")
            assert row[1] == ("yes" if entry["holds"] else "no")
    assert {row[1] for row in told.values()} >= {"yes", "no"}


def test_differences_with_thresholds_are_shown_beside_their_figures(results):
    below = report.markdown(results).partition("## With thresholds")[2]
    told = {row[0]: row[1:] for row in rows_of(below, "| holds |\n")}
    entry = next(e for e in results["differences_thresholded"] if e["metric"] == "dice_mean")
    (value, holds) = told[f"{entry['a']} − {entry['b']}: Dice, mean over classes"]
    assert value.startswith(f"{entry['difference']:+.3f} [{entry['low']:+.3f}")
    assert holds == ("yes" if entry["holds"] else "no")


def test_thresholds_say_what_they_were_chosen_for(results):
    head, _, row, *_ = rows_of(report.markdown(results), "## With thresholds")
    assert row[head.index("aim")] == "balanced"
    assert row[head.index("peak")] == "0.5, 0.8, 0.6, 0.9"


def test_half_trained_runs_are_named():
    results = report_example.results()
    assert report.warnings(results) == []
    results["variants"][1]["epochs"] = [{"done": 30, "planned": 30}, {"done": 12, "planned": 30}]
    warning = "unet_64x400: runs/unet_64x400-1 was trained for 12 of 30 epochs."
    assert report.warnings(results) == [warning]
    text = report.markdown(results)
    assert warning in text
    head, _, _, whole, half, *_ = rows_of(text, "# Comparison")
    assert [row[head.index("epochs")] for row in (whole, half)] == ["30", "30, 12 of 30"]
    table = report.table(results).set_index("name")
    assert table.loc["unet_64x400", ["epochs_done", "epochs_planned"]].tolist() == [12, 30]


def test_mixed_sizes_are_all_said():
    results = report_example.results()
    results["data"]["sizes"] = [
        {"height": 256, "width": 1600, "images": 1200},
        {"height": 128, "width": 800, "images": 57},
    ]
    text = report.markdown(results)
    assert "at their own size, 256x1600 (1200 images), 128x800 (57 images)." in text
    assert "Timed on images of 256x1600." in text


def test_a_bar_in_a_name_stays_in_its_cell():
    results = report_example.results()
    results["variants"][0]["name"] = "unet (runs/a|b)"
    text = report.markdown(results)
    assert "| unet (runs/a\\|b) |" in text
    for block in text.replace("\\|", "").split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_every_table_is_rectangular(results):
    for block in report.markdown(results).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_undefined_figures_are_dashes():
    results = without_nan(report_example.results())
    nothing = dict.fromkeys(("value", "low", "high", "seed_std"))
    for variant in results["variants"]:
        variant["scores"]["dice_class_2"] = nothing
    results["baseline"]["dice_mean"] = None
    text = report.markdown(results)
    assert "nan" not in text.lower()
    assert "None" not in text
    rows = rows_of(text.partition("## With thresholds")[0], "## By class")
    assert [row[2] for row in rows if row[1] == "2"] == ["–"] * 3


def test_the_terminal_gets_a_line_a_variant(results):
    lines = report.summary(results).splitlines()
    assert len(lines) == 2 + len(results["variants"])
    assert "Kaggle Dice" in lines[0]
    assert "0.859" in lines[1]
