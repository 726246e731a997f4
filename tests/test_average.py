import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from common import average, checkpoint, compare, predict, publish, runs
from common.dataset import ancestry
from common.training.averaging import mean
from tests import tiny


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    """Two runs of one network on one split, with weights of their own."""
    folder = tmp_path_factory.mktemp("runs")
    one = tiny.make_run(folder / "one", root, (32, 96), "modified_unet", 8)
    other = shutil.copytree(one, folder / "other")
    state = checkpoint.load(other / "best.pt")
    for value in state["model"].values():
        if value.is_floating_point():
            value += torch.rand(value.shape, generator=torch.Generator().manual_seed(0)) / 100
    checkpoint.save(other / "best.pt", state)
    return one, other


def test_the_mean_of_weights_worked_by_hand():
    counter = torch.tensor(3)
    states = [
        {"w": torch.tensor([1.0, 2.0]), "n": counter},
        {"w": torch.tensor([2.0, 4.0]), "n": torch.tensor(9)},
        {"w": torch.tensor([6.0, 0.0]), "n": torch.tensor(5)},
    ]
    found = mean(states)
    assert found["w"].tolist() == [3.0, 2.0]
    assert found["w"].dtype == torch.float32
    assert found["n"] == 3


def test_what_comes_out_is_a_run(two, root, tmp_path, capsys):
    out = tmp_path / "mean"
    assert average.main([*map(str, two), "--out", str(out)]) == 0
    assert "next: python -m common.compare" in capsys.readouterr().out
    run, (one, other) = runs.load(out), map(runs.load, two)
    states = [r.build_model().state_dict() for r in (run, one, other)]
    for name, value in states[0].items():
        expected = (states[1][name].double() + states[2][name].double()) / 2
        if value.is_floating_point():
            np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert json.loads((out / "config.json").read_text())["averaged"] == ["one", "other"]
    assert (out / "split.csv").read_bytes() == (two[0] / "split.csv").read_bytes()
    epochs = [len(pd.read_csv(path / "metrics.csv")) for path in two]
    assert run.metrics()["epoch"].tolist() == list(range(sum(epochs)))
    assert set(ancestry.read(out).values()) == set(ancestry.seen_by(one).values())

    assert publish.main([str(out), "--out", str(tmp_path / "folder"), "--no-onnx"]) == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "The weights are the mean of those of one and other" in card

    strips = sorted((root / "train_images").iterdir())[:2]
    argv = [str(out), *map(str, strips), "--out", str(tmp_path / "masks.csv"), "--device", "cpu"]
    assert predict.main(argv) == 0
    report = ["--out", str(tmp_path / "report"), "--device", "cpu", "--repeats", "1"]
    entered = [str(out), str(two[0]), "--aim", "positive", "--empty-accuracy", "0.5"]
    assert compare.main([*entered, *report, "--resamples", "100", "--wandb", "disabled"]) == 0
    decision = json.loads((out / "thresholds.json").read_text())
    assert decision["aim"] == "positive, empty accuracy 0.5"


@pytest.mark.parametrize("what", ["split", "normalisation", "network"])
def test_runs_that_are_not_alike_are_refused(two, root, tmp_path, capsys, what):
    other = shutil.copytree(two[1], tmp_path / "other")
    if what == "split":
        lines = (
            (other / "split.csv").read_text().replace("train", "x", 1).replace("val", "train", 1)
        )
        (other / "split.csv").write_text(lines.replace("x", "val", 1))
    elif what == "normalisation":
        config = json.loads((other / "config.json").read_text())
        config["normalisation"][0] += 0.1
        (other / "config.json").write_text(json.dumps(config))
    else:
        shutil.rmtree(other)
        tiny.make_run(other, root, (32, 96), "modified_unet", 16)
    argv = [str(two[0]), str(other), "--out", str(tmp_path / "mean")]
    assert average.main(argv) == 2
    assert f"not alike in their {what}" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


def test_one_run_and_a_folder_in_use_are_refused(two, tmp_path, capsys):
    assert average.main([str(two[0]), str(two[0]), "--out", str(tmp_path / "mean")]) == 2
    assert "at least two runs" in capsys.readouterr().err
    (tmp_path / "mine.txt").touch()
    assert average.main([*map(str, two), "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
