import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common import runs
from common.comparison import timing
from common.inference import Segmenter
from common.thresholds import Thresholds

ROOT = Path(__file__).parents[2]
THRESHOLDS = Thresholds((0.5,) * 4, (0,) * 4)


@pytest.fixture
def segmenter(trained_run):
    return Segmenter(runs.load(trained_run), torch.device("cpu"))


@pytest.fixture
def images():
    return [np.full((48, 300), grey, np.uint8) for grey in (60, 120)]


@pytest.fixture
def clock(monkeypatch):
    """A clock that runs only while a stage works: seconds a batch, by stage and image."""
    state = {"now": 0.0}
    monkeypatch.setattr(timing, "clock", lambda device: state["now"])

    def slow(stage, seconds_of):
        def wait(whole):
            def timed(self, batch, *rest):
                state["now"] += seconds_of(len(batch))
                return whole(self, batch, *rest)

            return timed

        monkeypatch.setattr(Segmenter, stage, wait(getattr(Segmenter, stage)))

    return slow


def test_stages_are_told_apart(segmenter, images, clock):
    clock("preprocess", lambda n: 0.002)
    clock("logits", lambda n: 0.005)
    (latency,) = timing.latencies([(segmenter, THRESHOLDS)], images, repeats=3)
    assert latency == timing.Latency(*map(pytest.approx, (7.0, 7.0, 7.0, 2.0, 5.0, 0.0)))


def test_median_and_spread_are_over_rounds_and_the_first_only_warms_up(segmenter, images, clock):
    seconds = iter([9.0, 0.001, 0.002, 0.003, 0.004, 0.100])
    clock("logits", lambda n: next(seconds))
    (latency,) = timing.latencies([(segmenter, THRESHOLDS)], images, repeats=5)
    assert latency.median_ms == pytest.approx(3.0)
    assert latency.low_ms == pytest.approx(np.percentile([1, 2, 3, 4, 100], 10))
    assert latency.high_ms == pytest.approx(np.percentile([1, 2, 3, 4, 100], 90))


def test_networks_take_turns(segmenter, images, monkeypatch):
    order = []
    monkeypatch.setattr(
        timing, "_time_stages", lambda network, _, batch: order.append(network) or (1.0, 1.0, 1.0)
    )
    timing.latencies([("a", None), ("b", None)], images, repeats=2)
    assert order == ["a", "b"] * 3


def test_the_best_batch_is_found_and_larger_ones_are_not_tried(segmenter, images, clock):
    tried = []

    def seconds(n):  # a fixed cost a batch, and beyond 4 images a much higher one an image
        tried.append(n)
        return 0.010 + 0.001 * n + 0.020 * max(n - 4, 0)

    clock("logits", seconds)
    best = timing.throughput(segmenter, THRESHOLDS, images, repeats=2)
    assert best == timing.Throughput(4, *map(pytest.approx, (4 / 0.014,) * 3))
    assert max(tried) == 8


def test_slow_networks_are_not_tried_in_larger_batches(segmenter, images, clock):
    tried = []
    clock("logits", lambda n: tried.append(n) or 2.0)
    best = timing.throughput(segmenter, THRESHOLDS, images, repeats=20)
    assert best.batch == 1
    assert best.images_per_second == pytest.approx(0.5)
    assert tried == [1] * 4  # once to see, three times to measure


def test_a_gpu_that_is_full_ends_the_search(segmenter, images, clock, monkeypatch):
    def seconds(n):
        if n > 2:
            raise torch.OutOfMemoryError
        return 0.01

    clock("logits", seconds)
    assert timing.throughput(segmenter, THRESHOLDS, images, repeats=2).batch == 2


def test_operations_are_counted_by_hand(segmenter):
    segmenter.network = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 5, 1))
    height, width = segmenter.run.size
    by_hand = 2 * height * width * (9 * 6 + 6 * 5)
    assert timing.gflop(segmenter) == pytest.approx(by_hand / 1e9)


def test_memory_is_what_the_network_needs_not_what_the_process_holds(segmenter):
    held = np.ones(200 * 2**20, np.uint8)
    grown = timing.peak_memory_mb(segmenter, (256, 1600), "fp32")
    probabilities = 5 * 256 * 1600 * 4 / 2**20
    assert probabilities < grown < 150
    assert held.all()


def test_memory_is_measured_for_a_script_without_a_main_guard(trained_run):
    script = f"""
import torch
from common import runs
from common.comparison import timing
from common.inference import Segmenter
segmenter = Segmenter(runs.load({str(trained_run)!r}), torch.device("cpu"))
print(timing.peak_memory_mb(segmenter, (64, 400), "fp32"))
"""
    done = subprocess.run(
        [sys.executable], input=script, capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert 0 < float(done.stdout) < 150


def test_a_measuring_process_that_is_killed_is_said(segmenter, tmp_path, monkeypatch, capsys):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert timing.peak_memory_mb(segmenter, (64, 400), "fp32") is None
    assert "was not measured: it was killed" in capsys.readouterr().out
    python.write_text("#!/bin/sh\necho 'MemoryError: no room' >&2\nexit 1\n")
    assert timing.peak_memory_mb(segmenter, (64, 400), "fp32") is None
    assert "was not measured: MemoryError: no room" in capsys.readouterr().out


def test_costs_have_the_keys_that_results_need(segmenter, images, monkeypatch):
    monkeypatch.setattr(timing, "BATCHES", (1, 2))
    monkeypatch.setattr(timing, "peak_memory_mb", lambda *_: 12.0)
    (cost,) = timing.costs([(segmenter, THRESHOLDS)], images, "fp32", repeats=1)
    model = segmenter.run.build_model()
    assert cost["parameters"] == sum(p.numel() for p in model.parameters())
    assert 10 < cost["conv_layers"] < 200
    assert cost["peak_memory_mb"] == 12.0
    assert set(cost["latency"]) == {
        "batch", "median_ms", "low_ms", "high_ms", "preprocess_ms", "network_ms", "postprocess_ms",
    }  # fmt: skip
    assert set(cost["throughput"]) == {"batch", "images_per_second", "low", "high"}
    assert cost["latency"]["network_ms"] > 0


def test_the_machine_is_named():
    about = timing.machine(torch.device("cpu"))
    assert about["device"].strip()
    assert about["threads"] == torch.get_num_threads()
    assert about["torch"] == torch.__version__
