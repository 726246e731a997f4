import numpy as np
import pytest
import torch

from common import runs
from common.comparison.reference import ITS, OURS, SEEN, Step, draw_val, markdown, steps
from common.dataset import splits
from common.inference import Segmenter
from common.labels import load
from common.metrics import confusion, scores
from common.pixels import read_image
from common.reference import main


def test_its_val_list_is_drawn_with_replacement_and_mostly_seen_in_training():
    train = [f"train{i}" for i in range(1000)]
    test = [f"test{i}" for i in range(400)]
    drawn = draw_val(train, test, np.random.default_rng(0))
    assert len(drawn) == 400
    assert sum(name in set(train) for name in drawn) == round(SEEN * 400)
    assert len(set(drawn)) < 400
    assert set(drawn) <= {*train, *test}
    assert drawn == draw_val(train, test, np.random.default_rng(0))
    assert len(draw_val(train, test[:5], np.random.default_rng(0))) == 300


def test_rows_are_the_same_predictions_scored_by_each_rule(trained_run, dataset, monkeypatch):
    monkeypatch.setattr("common.comparison.reference.DRAWS", 1)
    segmenter = Segmenter(runs.load(trained_run), torch.device("cpu"))
    labels = load(dataset)
    split = splits.read(segmenter.run.path / "split.csv", labels)
    test = split.loc[split["split"] == "test", "image"].tolist()
    rows = steps(segmenter, labels, test, batch_size=4, seed=0)
    assert [row.size for row in rows] == ["native", "32x200", "32x200"]

    images = [read_image(labels.path(name)) for name in test]
    truth = np.stack([labels.label_map(name, (256, 1600)) for name in test])
    predicted = torch.cat([segmenter.probabilities([image]).argmax(1) for image in images])
    expected = scores(confusion(predicted, truth))
    for metric in ("accuracy", "iou_mean", "dice_mean", "reference_dice"):
        ours = rows[0].figures[metric]
        assert ours == pytest.approx(expected[metric], abs=1e-3, nan_ok=True), metric
    assert rows[1].figures["accuracy"] != rows[0].figures["accuracy"]
    assert rows[2].figures["accuracy"] != rows[1].figures["accuracy"]


def test_the_section_is_printed_and_written(trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("common.comparison.reference.DRAWS", 1)
    out = tmp_path / "new" / "reference.md"
    assert main([str(trained_run), "--device", "cpu", "--out", str(out)]) == 0
    text = out.read_text()
    assert text.strip() in capsys.readouterr().out
    table = [line for line in text.splitlines() if line.startswith("| modified_unet 32x200")]
    assert len(table) == 3
    assert "55% trained on" in table[2]
    assert text.startswith("## What the reference's numbers mean")


def test_figures_are_means_over_the_trainings_of_a_variant():
    trainings = [[Step("test", "native", dict.fromkeys(OURS + ITS, x))] for x in (0.25, 0.5)]
    *_, row = markdown({"a|b": trainings}).strip().splitlines()
    assert row == "| a\\|b | 2 | test | native | " + " | ".join(["0.375"] * 6) + " |"


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "x.md")]) == 2
    assert "no run directory" in capsys.readouterr().err


def test_nothing_that_is_read_is_overwritten_and_a_refusing_place_is_said_first(
    trained_run, dataset, tmp_path, capsys
):
    for place, said in (
        (trained_run / "config.json", "would overwrite"),
        (dataset / "train.csv", "would overwrite"),
        (tmp_path / "file" / "x.md", "cannot write"),
    ):
        (tmp_path / "file").touch()
        before = place.read_bytes() if place.exists() else None
        assert main([str(trained_run), "--device", "cpu", "--out", str(place)]) == 2
        assert said in capsys.readouterr().err
        assert before is None or place.read_bytes() == before
