"""The benchmarks around training: that they compare like with like and count right."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import ablation, loading, training
from benchmarks.ceiling import SHAPE, matrix_flop, matrix_product
from benchmarks.memory import peak_of
from common import labels
from modified_unet import dataloader

SIZE = (32, 200)
CPU = torch.device("cpu")


def test_all_loaders_load_the_same_pixels(dataset: Path) -> None:
    data = labels.load(dataset)
    store, seconds = loading.open_data(data, SIZE, workers=1)
    (ours,) = loading.all_images(store, 60, CPU, None, home=CPU)
    mean, std = store.normalisation
    plain = loading.Plain(data, SIZE, rows=100)
    good = loading.Good(data, SIZE)
    assert seconds > 0
    for index in range(0, 60, 7):
        for image, target in (plain[index], good[index]):
            torch.testing.assert_close((image - mean) / std, ours[0][index])
            assert torch.equal(target, ours[1][index])
    assert ours[1].any()


def test_the_loading_benchmark_says_how_much_faster_ours_is(dataset, tmp_path, capsys) -> None:
    out = tmp_path / "loading.json"
    size = ["--height", "32", "--width", "200"]
    argv = ["--data", str(dataset), *size, "--workers", "1", "--rounds", "1", "--out", str(out)]
    assert loading.main(argv) == 0
    figures = json.loads(out.read_text())
    by_name = {row["loader"]: row for row in figures["rows"]}
    assert list(by_name) == ["a: plain", "b: good", "c: ours", "d: ours, augmenting"]
    ratio = by_name["b: good"]["ms an image"] / by_name["c: ours"]["ms an image"]
    assert by_name["b: good"]["ours is faster by"] == pytest.approx(ratio)
    assert figures["store build images/s a core"] > 0
    assert "a: plain" in capsys.readouterr().out


def test_the_training_benchmark_runs_both_loops(dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "NETWORKS", (("modified_unet", SIZE),))
    out = tmp_path / "training.json"
    argv = ["--data", str(dataset), "--repeats", "1", "--batch-size", "2", "--device", "cpu"]
    assert training.main([*argv, "--out", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["network"] == "modified_unet 32x200"
    assert all(row[key] > 0 for key in row if key != "network")


def test_the_training_benchmark_counts_loading_as_part_of_the_loop() -> None:
    seconds = {
        "plain_load": [3.0], "plain_step": [5.0], "our_load": [0.5], "our_step": [1.5],
        "ceiling": [0.1],
    }  # fmt: skip
    figures = training._figures(
        {key: np.array(values) for key, values in seconds.items()}, 4, 6.0, {"our": 2**20}
    )
    assert figures == pytest.approx(
        {
            "plain_images_per_second": 0.5,
            "our_images_per_second": 2.0,
            "loop_ratio": 4.0,
            "step_ratio": 5 / 1.5,
            "lowest_step_ratio": 5 / 1.5,
            "plain_wait": 3 / 8,
            "our_wait": 0.25,
            "of_ceiling": 6 * 0.1 / 1.5,
            "our_mib": 1.0,
        }
    )


def test_the_ceiling_is_a_whole_matrix_product(monkeypatch) -> None:
    monkeypatch.setitem(SHAPE, "cpu", (96, 64))
    torch.manual_seed(0)
    product = matrix_product(torch.device("cpu"), "fp32")()
    torch.manual_seed(0)
    left, right = torch.randn(96, 64), torch.randn(64, 64)
    torch.testing.assert_close(product[0].flatten(1).t(), left @ right)
    assert matrix_flop(torch.device("cpu")) == 2 * 96 * 64 * 64


def test_peak_memory_is_of_what_a_computation_makes() -> None:
    given = torch.ones(1000)
    assert peak_of(lambda: (given + 1) * 2, torch.device("cpu")) == 2 * given.nbytes


def test_an_ablation_changes_one_thing_and_keeps_what_it_has(
    dataset, store_folder, tmp_path, monkeypatch
) -> None:
    tiny = ["--store", str(store_folder)]
    monkeypatch.setattr(ablation, "CHANGES", {"recipe": tiny, "loss ce": [*tiny, "--loss", "ce"]})
    monkeypatch.setattr(ablation.train.Config, "base_channels", 8)
    argv = ["--data", str(dataset), "--out", str(tmp_path), "--epochs", "1", "--precision", "fp32"]
    argv += ["--size", "32x200", "--device", "cpu", "--seeds", "0", "1"]
    monkeypatch.setattr(ablation, "AUGMENTATIONS", {})
    assert ablation.main(argv) == 0
    table = (tmp_path / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table] == ["change", "---", "recipe", "loss ce"]
    dice = pd.read_csv(tmp_path / "loss-ce-1" / "metrics.csv")["val/dice_mean"]
    assert table[3].split("|")[2].split("/")[1].strip() == f"{dice.max():.3f}"
    states = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/last.pt")}
    assert len(states) == 4
    assert ablation.main(argv) == 0  # nothing is trained twice
    assert states == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/last.pt")}


def test_another_augmentation_is_in_place_only_for_its_training() -> None:
    own, flips = dataloader.AUGMENTATION, ablation.AUGMENTATIONS["flips only"]
    with ablation.augmented_by(flips):
        assert dataloader.AUGMENTATION is flips
    assert dataloader.AUGMENTATION is own
