"""Folds compared: every image is scored once, by the network that has not seen it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from common import checkpoint, summary
from common.comparison.evaluate import read_prediction
from common.dataset import splits
from common.labels import load
from common.metrics import confusion, scores
from common.thresholds import Thresholds
from tests import tiny
from tests.test_compare import compare, refused

FOLDS = 3


def a_fold(path, root, fold, size=(32, 160), **options):
    """A run that tests one fold: random weights of its own, and a decision of its own."""
    options = {"folds": FOLDS, "fold": fold} | options
    run = tiny.make_run(path, root, size, **options)
    saved = torch.load(run / "best.pt", weights_only=True)
    torch.manual_seed(hash((fold, options.get("seed", 0))) % 1000)
    saved["model"]["head.bias"] += 0.3 * torch.randn(5)
    checkpoint.save(run / "best.pt", saved)
    splits.write(splits.make_fold(load(root), FOLDS, fold), run / "split.csv")
    Thresholds((0.3 + 0.1 * fold,) * 4, (5 * fold,) * 4).save(run)
    return run


@pytest.fixture(scope="module")
def runs(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [a_fold(folder / f"fold-{k}", root, k) for k in range(FOLDS)]


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert compare(runs, out) == 0
    return out


def results_of(out):
    return json.loads((out / "results.json").read_text())


def test_pooled_figures_are_those_of_every_fold_alone(root, runs, report, tmp_path):
    labels = load(root)
    results = results_of(report)
    assert results["data"]["images"] == len(labels.images)
    assert results["notes"] == []
    (variant,) = results["variants"]
    assert (variant["seeds"], variant["folds"]) == (1, FOLDS)
    assert variant["runs"] == [str(run) for run in runs]
    alone, images = [], []
    for k, run in enumerate(runs):
        out = tmp_path / str(k)
        assert compare([run], out) == 0
        for path in sorted((out / "predictions" / run.name).iterdir()):
            pooled = report / "predictions" / run.name / path.name
            assert pooled.read_bytes() == path.read_bytes()
            truth = labels.label_map(path.stem, tiny.SIZE)
            alone.append(confusion(read_prediction(path)[None], truth[None]))
            images.append(path.stem)
        (note,) = results_of(out)["notes"]
        missing = ", ".join(str(j) for j in range(FOLDS) if j != k)
        assert f"of {FOLDS} folds not there: {missing}." in note
    assert sorted(images) == list(labels.images)  # none twice
    expected = scores(torch.cat(alone))
    for metric in ("dice_mean", "kaggle_dice", "iou_class_3", "accuracy", "empty_accuracy"):
        assert variant["thresholded"][metric]["value"] == pytest.approx(expected[metric]), metric
    assert len(list(report.glob("predictions/*/*.png"))) == len(images)


def test_seeds_in_folds_are_pooled_and_another_recipe_is_not_mixed_in(
    root, runs, report, tmp_path, capsys
):
    more = [a_fold(tmp_path / f"seed-{k}", root, k, seed=1) for k in range(FOLDS)]
    other = [a_fold(tmp_path / f"size-{k}", root, k, size=(64, 320)) for k in range(FOLDS - 1)]
    assert compare([*runs, *more, *other], tmp_path / "report") == 0
    results = results_of(tmp_path / "report")
    ours, theirs = results["variants"]
    assert (ours["name"], ours["seeds"]) == ("unet_64x400 32x160", 2)
    assert (theirs["name"], theirs["seeds"]) == ("unet_64x400 64x320", 1)
    assert ours["scores"]["dice_mean"]["seed_std"] > 0
    assert len(ours["runs"]) == 2 * (FOLDS - 1)  # the last fold's images are not common to all
    split = pd.read_csv(runs[-1] / "split.csv")
    left_out = set(split.loc[split["split"] == "test", "image"])
    assert results["data"]["images"] == len(split) - len(left_out)
    assert results["data"]["groups"] == split.loc[split["split"] != "test", "group"].nunique()
    said = capsys.readouterr().out
    assert f"64x320, seed 0: of {FOLDS} folds not there: 2" in said
    assert f"2 in {FOLDS} folds" in said
    assert "of 3 folds not there: 2" in (tmp_path / "report" / "index.html").read_text()
    table = pd.read_csv(tmp_path / "report" / "results.csv")
    assert table["folds"].tolist()[1:] == [FOLDS, FOLDS]


def test_the_page_shows_each_image_as_the_network_that_has_not_seen_it_does(runs, report):
    page = (report / "index.html").read_text()
    assert "1 seed, 3 folds" in page
    splits_of = [pd.read_csv(run / "split.csv").set_index("image")["split"] for run in runs]
    for run, split in zip(runs, splits_of, strict=True):
        drawn = {path.stem for path in (report / "predictions" / run.name).iterdir()}
        assert drawn == set(split[split == "test"].index)
    assert np.array([split == "test" for split in splits_of]).sum() == len(splits_of[0])


def test_a_run_without_folds_that_has_seen_their_images_is_refused(root, runs, tmp_path, capsys):
    whole = a_fold(tmp_path / "whole", root, 0, folds=None)
    splits.write(splits.make_split(load(root)), whole / "split.csv")
    message = refused(capsys, compare([*runs, whole], tmp_path / "report"))
    assert "was trained on" in message


def test_the_summary_says_which_fold(runs, trained_run, capsys):
    assert summary.main([*map(str, runs), str(trained_run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["run", "fold"]
    assert lines[2].split()[:4] == ["fold-1", "1", "of", "3"]
    assert lines[4].split()[:2] == ["modified", "32x200"]
