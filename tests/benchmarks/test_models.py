"""The benchmarks of networks and of masks: they run, count right and compare like with like."""

import functools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import models, rle
from benchmarks.ceiling import SHAPE
from common.blocks import ConvBnAct

CPU = torch.device("cpu")


def entry(variant: str = "unet_64x400") -> models.Entry:
    return models.Entry(variant, (2, 2), torch.nn.Identity(), lambda images: images)


@pytest.fixture
def small(monkeypatch):
    """Ceiling and batches that take no time."""
    monkeypatch.setitem(SHAPE, "cpu", (64, 32))
    monkeypatch.setitem(models.LARGEST_BATCH, "cpu", 2)


@pytest.mark.usefixtures("small")
def test_the_networks_are_counted_and_timed_side_by_side(monkeypatch, tmp_path, capsys) -> None:
    sizes = {"unet_64x400": (16, 32), "unet_128x800": (16, 64), "modified_unet": (32, 32)}
    monkeypatch.setattr(models, "NETWORKS", tuple(sizes.items()))
    threads, out = torch.get_num_threads(), tmp_path / "models.json"
    assert models.main(["--repeats", "2", "--threads", "1", "--out", str(out)]) == 0
    torch.set_num_threads(threads)
    figures = json.loads(out.read_text())
    small, large, slim = figures["networks"]
    assert (small["conv_layers"], slim["conv_layers"]) == (18, 38)
    assert small["parameters"] == large["parameters"] > 18 * slim["parameters"]
    assert large["gflop"] == pytest.approx(2 * small["gflop"])
    assert large["peak_memory_mib"] > small["peak_memory_mib"] > small["parameters"] * 4 / 2**20
    for network in figures["networks"]:
        assert network["ms_low"] <= network["ms"] <= network["ms_high"]
        assert network["of_ceiling"] == network["gflops"] / figures["ceiling_gflops"]
    assert [(row["network"], row["against"]) for row in figures["ratios"]] == [
        ("modified_unet 32x32", "unet_64x400 16x32"),
        ("modified_unet 32x32", "unet_128x800 16x64"),
    ]
    assert "modified_unet 32x32" in capsys.readouterr().out


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    entries = [entry("unet_64x400"), entry("modified_unet")]
    one = np.array([[8.0, 4.0, 6.0], [1.0, 2.0, 1.0], [9.0, 9.0, 9.0]])  # last: matrix product
    best = np.array([[10.0, 10.0, 20.0], [2.0, 1.0, 2.0], [9.0, 9.0, 9.0]])
    (row,) = models.ratios(entries, one, best, [2, 4])
    assert row["latency"] == 6  # of 8, 2, 6
    assert row["throughput"] == 20  # 4 images against 2: of 10, 20, 20
    assert (row["low"], row["high"]) == pytest.approx((2.8, 7.6))


def test_speed_is_of_images_not_of_passes() -> None:
    figures = models.speed(3.0, np.array([0.2, 0.1, 0.3]), np.array([0.4, 0.8, 0.4]), batch=4)
    assert figures["ms"] == pytest.approx(200)
    assert (figures["ms_low"], figures["ms_high"]) == pytest.approx((120, 280))
    assert figures["images_per_second"] == pytest.approx(10)
    assert figures["gflops"] == pytest.approx(30)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        (lambda batch: 1e-3 * batch, 1),  # nothing gained
        (lambda batch: 1e-3 * (8 + batch), 16),  # always something, up to the largest
        (lambda batch: 1e-3 * max(4, batch), 4),  # until the processor is full
        (lambda batch: 3.0, 1),  # a pass too long for larger ones
    ],
)
def test_the_best_batch_has_the_most_images_a_second(monkeypatch, seconds, best) -> None:
    def run_for(turn, device, passes):
        (images,) = turn.args
        return [seconds(len(images))] * passes

    monkeypatch.setattr(models, "run_for", run_for)
    assert models.best_batch(entry(), CPU) == best


@pytest.mark.usefixtures("small")
def test_every_batch_size_of_every_network_is_compiled(monkeypatch) -> None:
    """By default torch compiles eight forms of a code, and networks share theirs."""
    compiled = []

    def backend(graph, inputs):
        compiled.extend(tuple(t.shape) for t in inputs if t.ndim == 4 and t.shape[1] == 1)
        return graph

    build = functools.partial(ConvBnAct, 1, 1)
    monkeypatch.setitem(sys.modules, "toy.model", SimpleNamespace(build_model=build))
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    monkeypatch.setattr(models, "NETWORKS", (("toy", (4, 8)), ("toy", (8, 8))))
    monkeypatch.setattr(models, "WORTH", 0)  # tries every batch
    monkeypatch.setitem(models.LARGEST_BATCH, "cpu", 16)
    threads = torch.get_num_threads()
    try:
        assert models.main(["--repeats", "1", "--threads", "1", "--compile"]) == 0
    finally:
        torch.set_num_threads(threads)
        torch.compiler.reset()
    wanted = {(batch, 1, height, 8) for height in (4, 8) for batch in (1, 2, 4, 8, 16)}
    assert wanted <= set(compiled)


def test_ways_to_decode_and_encode_race_on_the_same_masks(tmp_path, capsys) -> None:
    csv, out = tmp_path / "train.csv", tmp_path / "rle.json"
    csv.write_text("ImageId,ClassId,EncodedPixels\na.jpg,1,1 3 10 2\nb.jpg,2,5 1\nc.jpg,1,2 4\n")
    argv = ["--data", str(csv), "--height", "4", "--width", "5", "--repeats", "1"]
    assert rle.main([*argv, "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["masks"] == 3
    assert figures["runs a mask"] == {"median": 1, "largest": 2}
    for task in ("decode", "encode"):
        rows = {row["way"]: row for row in figures["rows"] if row["task"] == task}
        assert rows["ours"]["times ours"] == 1
        slow = rows["per-pixel loop"]
        assert slow["times ours"] == pytest.approx(slow["us a mask"] / rows["ours"]["us a mask"])
    assert "3 masks of 4x5" in capsys.readouterr().out


def test_a_way_that_decodes_otherwise_has_no_time(monkeypatch, tmp_path) -> None:
    csv = tmp_path / "train.csv"
    csv.write_text("ImageId,ClassId,EncodedPixels\na.jpg,1,1 3\n")
    monkeypatch.setattr(rle, "pixel_loop", lambda text, shape: np.ones(shape, np.uint8))
    with pytest.raises(AssertionError, match="per-pixel loop decodes"):
        rle.measure(rle.Config(data=csv, height=4, width=5, repeats=1))
