"""Predictions that others made, beside runs: the same figures, and refusals with the row."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from common import predict, rle, runs, summary
from common.dataset import splits
from common.labels import load
from common.thresholds import Thresholds
from tests import tiny
from tests.documents import FENCE, PROJECT
from tests.test_compare import compare, refused


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that finds every class somewhere, with a decision of its own."""
    folder = tmp_path_factory.mktemp("run")
    run = tiny.make_run(folder / "run", tiny.make_data(folder / "data"), (32, 160))
    images = load(folder / "data").images
    parts = ["test"] * 12 + ["val"] * 4 + ["train"] * (len(images) - 16)
    split = pd.DataFrame({"image": images, "split": parts, "group": images})
    splits.write(split, run / "split.csv")
    Thresholds((0.4,) * 4, (40,) * 4, (0.5, 0.4, 0.6, 0.4)).save(run)
    return run


@pytest.fixture(scope="module")
def labels(run):
    return load(runs.load(run).data["root"])


@pytest.fixture(scope="module")
def test_images(run, labels):
    return splits.part_of(run, "test", labels)


def write(path, rows, header="ImageId,ClassId,EncodedPixels"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def own(run, labels, test_images, tmp_path_factory):
    """The run's predictions in both forms, and the folder of its comparison with both."""
    folder = tmp_path_factory.mktemp("own")
    images = [str(labels.path(name)) for name in test_images]
    for form in ("new", "old"):
        argv = [str(run), *images, "--out", str(folder / f"{form}.csv"), "--format", form]
        assert predict.main([*argv, "--device", "cpu"]) == 0
    tables = [f"{form}={folder / form}.csv" for form in ("new", "old")]
    assert compare([run, *tables], folder / "report", "--precision", "fp32") == 0
    return folder


@pytest.fixture(scope="module")
def results(own):
    return json.loads((own / "report" / "results.json").read_text())


def test_a_runs_own_table_gives_its_figures_to_the_last_digit(results):
    ours, *tables = results["variants"]
    assert [table["name"] for table in tables] == ["new", "old"]
    assert ours["thresholded"]["dice_mean"]["value"] > 0.005
    assert ours["thresholded"] != ours["scores"]
    assert all(ours["thresholded"][f"iou_class_{k}"]["low"] is not None for k in (1, 3))
    for table in tables:
        assert table["thresholded"] == table["scores"]
        for metric, score in table["thresholded"].items():
            if metric.startswith("auroc"):
                assert score["value"] is score["low"] is None
            else:
                assert score == ours["thresholded"][metric], metric
        assert table["size_recall"] == ours["size_recall_thresholded"]
    differences = [d for d in results["differences_thresholded"] if "auroc" not in d["metric"]]
    assert len(differences) > 20
    assert {entry["difference"] for entry in differences} == {0.0}


def test_its_label_maps_and_the_gallery_are_there(own, results, test_images):
    report = own / "report"
    for name in test_images:
        maps = [(report / "predictions" / k / f"{name}.png").read_bytes() for k in ("run", "new")]
        assert maps[0] == maps[1]
    page = (report / "index.html").read_text()
    shown = re.search(r'"names": ?(\[[^]]*\])', page)
    assert json.loads(shown[1]) == [variant["name"] for variant in results["variants"]]


def test_what_is_unknown_is_blank_and_said(own, results, capsys):
    entry = results["variants"][1]
    assert entry["predictions"] == str(own / "new.csv")
    assert entry["latency"] is entry["parameters"] is entry["thresholds"] is None
    table = pd.read_csv(own / "report" / "results.csv").set_index("name")
    blank = [
        "auroc_class_1", "auroc_class_4_thresholded", "latency_median_ms", "parameters", "gflop",
        "throughput_images_per_second", "peak_memory_mb", "training_seconds", "height",
    ]  # fmt: skip
    assert table.loc["new", blank].isna().all()
    assert table.loc[entry["name"], "dice_mean"] == entry["scores"]["dice_mean"]["value"]
    assert "new is known by its predictions alone: AUROC" in results["notes"][0]
    for file in ("results.md", "index.html"):
        text = (own / "report" / file).read_text()
        assert results["notes"][0] in text
        assert "nan" not in re.sub(r"[\w-]{4,}", "", text).lower()
    assert "Unknown: its predictions are all that was given." in text


def test_images_that_are_not_named_are_clean_and_others_are_passed_over(
    run, labels, test_images, tmp_path, capsys
):
    defective = [name for name in test_images if labels.classes(name)]
    first, others = defective[0], sorted(set(labels.images) - set(test_images))[:3]
    rows = [f"{first},{k},{text}" for k, text in labels.rles[first].items()]
    table = write(tmp_path / "rival.csv", [*rows, *(f"{name},1,1 5" for name in others)])
    assert compare([run, f"rival={table}"], tmp_path / "report") == 0
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    said = capsys.readouterr().out
    unnamed = len(test_images) - 1
    for note in (
        f"rival: {unnamed} of {len(test_images)} test images are not in {table}",
        f"rival: 3 images in {table} are no test images",
    ):
        assert any(note in each for each in results["notes"])
        assert note in said
    figures = results["variants"][1]["scores"]
    pairs = [(name, k) for name in defective for k in labels.classes(name)]
    right = len(labels.classes(first))
    assert figures["dice_positive"]["value"] == pytest.approx(right / len(pairs))
    assert figures["false_alarms_per_clean_image"]["value"] == 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("nowhere.jpg,1,1 5", "line 2 (nowhere.jpg, class 1): there is no such image"),
        ("{0},9,1 5", "line 2 ({0}, class 9): ClassId must be a whole number from 1 to 4"),
        ("{0},1,1 x", "line 2 ({0}, class 1): malformed run-length encoding: pair 1"),
        ("{0},1,20480 2", "line 2 ({0}, class 1): pair 1 (20480 2) goes past the end of a 64x320"),
        ("{0},1", "line 2 ({0}): 2 fields instead of 3"),
        ("{0},2,1 5\n{0},2,3 5", "line 3 ({0}, class 2): a duplicate, or masks that overlap"),
    ],
)
def test_rows_that_cannot_be_are_refused(run, test_images, tmp_path, capsys, row, said):
    table = write(tmp_path / "rival.csv", [row.format(test_images[0])])
    message = refused(capsys, compare([run, f"rival={table}"], tmp_path / "report"))
    assert f"{table}, {said.format(test_images[0])}" in message
    assert not any((tmp_path / "report").iterdir())  # tried, and nothing written


def test_arguments_that_cannot_be_are_refused(run, tmp_path, capsys):
    table = write(tmp_path / "rival.csv", [])
    out = tmp_path / "report"
    assert "Name a run directory, too" in refused(capsys, compare([f"rival={table}"], out))
    assert f"NAME={table}" in refused(capsys, compare([run, table], out))
    twice = [run, f"rival={table}", f"rival={table}"]
    assert "two tables" in refused(capsys, compare(twice, out))
    for name in ("", "..", "a/b"):
        message = refused(capsys, compare([run, f"{name}={table}"], out))
        assert "cannot name predictions" in message
    taken = f"unet_64x400 32x160={table}"
    assert "another name" in refused(capsys, compare([run, taken], out))
    missing = f"rival={tmp_path / 'none.csv'}"
    assert "none.csv is missing" in refused(capsys, compare([run, missing], out))


def test_a_folder_is_a_run_whatever_its_name(run, tmp_path):
    named = tmp_path / "a=b"
    named.symlink_to(run)
    assert compare([named], tmp_path / "report") == 0


def test_the_summary_lists_a_parts_images(run, labels, test_images, capsys):
    assert summary.main(["--images", str(run)]) == 0
    assert capsys.readouterr().out.split() == test_images
    assert summary.main(["--images", str(run), "--part", "train"]) == 0
    assert capsys.readouterr().out.split() == splits.part_of(run, "train", labels)
    assert summary.main([str(run), "--images", str(run)]) == 2


def test_the_documented_rival_is_trained_predicts_and_is_compared(run, test_images, tmp_path):
    document = (PROJECT / "docs" / "compare.md").read_text()
    (code,) = [code for language, code in FENCE.findall(document) if language == "python"]
    script, table = tmp_path / "rival.py", tmp_path / "rival.csv"
    script.write_text(code.replace("(128, 800)", "(32, 160)"))
    subprocess.run([sys.executable, script, run, table, "2"], cwd=PROJECT, check=True)
    assert set(pd.read_csv(table)["ImageId"]) <= set(test_images)
    assert compare([run, f"smp={table}"], tmp_path / "report") == 0
    entry = json.loads((tmp_path / "report" / "results.json").read_text())["variants"][1]
    assert entry["name"] == "smp"
    assert 0 <= entry["scores"]["kaggle_dice"]["value"] <= 1


def test_overlapping_masks_go_to_the_larger_class(run, labels, test_images, tmp_path):
    below, above = sorted({k for name in test_images for k in labels.classes(name)})[:2]
    mask = rle.encode(np.ones(tiny.SIZE, np.uint8))
    rows = [f"{name},{k},{mask}" for name in test_images for k in (above, below)]
    table = write(tmp_path / "rival.csv", rows)
    assert compare([run, f"all={table}"], tmp_path / "report") == 0
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    figures = results["variants"][1]["scores"]
    assert figures[f"recall_class_{above}"]["value"] == 1
    assert figures[f"recall_class_{below}"]["value"] == 0
