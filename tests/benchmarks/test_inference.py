import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import inference, runtimes
from common import labels, runs
from common.config import PROJECT
from common.errors import UserError
from common.pixels import read_image
from common.thresholds import Thresholds
from tests import tiny

RULE = Thresholds((0.3,) * 4, (5,) * 4)
ALONE = "TESTING_OPENVINO"  # set in the environment of a process that tests nothing else


@pytest.fixture(scope="module", autouse=True)
def _no_openvino_beside_trainings():
    """OpenVINO 2026.4 damages the heap: the next training in its process crashed in malloc."""
    with pytest.MonkeyPatch.context() as patch:
        if ALONE not in os.environ:
            patch.setitem(sys.modules, "openvino", None)
        yield


@pytest.fixture(scope="module")
def entry(root, tmp_path_factory):
    # Half the strips' size: at odd factors OpenVINO rounds some halves the other way.
    run = runs.load(tiny.make_run(tmp_path_factory.mktemp("runs") / "unet", root, (32, 160)))
    return inference.Entry(run, RULE)


@pytest.fixture(scope="module")
def strips(root):
    data = labels.load(root)
    paths = [data.path(name) for name in data.images if data.classes(name)][:3]
    return [inference.Strip(p, data.label_map(p.name, tiny.SIZE)) for p in paths]


@pytest.fixture(scope="module")
def built(entry):
    """Every way to run the network on this machine but the one that takes long to build."""
    offered = runtimes.ways(torch.device("cpu"))
    assert ("OpenVINO" in offered) == (ALONE in os.environ)
    offered.pop("PyTorch compiled", None)
    return {name: build(entry.run, entry.rule, tiny.SIZE) for name, build in offered.items()}


def test_every_way_finds_the_same(built, strips):
    for strip in strips:
        image = read_image(strip.path)
        found = {
            name: way.decide(way.infer(way.prepare(image)), image.shape)
            for name, way in built.items()
        }
        assert len(np.unique(found["PyTorch"])) > 3
        for name, label_map in found.items():
            assert label_map.dtype == np.uint8
            assert (label_map != found["PyTorch"]).mean() < (0.05 if "bf16" in name else 1e-3)


def test_openvino_finds_the_same():
    """The tests around this one, in a process of their own."""
    if not _has_openvino():
        pytest.skip("needs OpenVINO (pip install openvino)")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k"]
    command += ["every_way or pretended or stages_add_up"]
    done = subprocess.run(
        command, env=os.environ | {ALONE: "1"}, cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def _has_openvino() -> bool:
    """Whether it is installed; the fixture above hides it from importlib."""
    return any((Path(folder) / "openvino").is_dir() for folder in sys.path)


def test_a_pretended_output_is_decided_to_what_it_pretends(built, strips):
    truth = np.zeros(tiny.SIZE, np.uint8)
    truth[:32, 40:200], truth[40:, 100:] = 2, 4
    image = read_image(strips[0].path)
    for way in built.values():
        output = way.pretend(way.infer(way.prepare(image)), truth)
        assert (way.decide(output, truth.shape) != truth).mean() < 0.03  # edges, after the resize


def test_stages_add_up_and_networks_are_timed_in_turns(built, entry, strips, monkeypatch):
    order = []
    segment = inference.segment

    def recorded(entry, way, strip):
        order.append((next(name for name, w in built.items() if w is way), strip.path.name))
        return segment(entry, way, strip)

    monkeypatch.setattr(inference, "segment", recorded)
    monkeypatch.setattr(
        inference, "ways", lambda _: {name: lambda *_, w=w: w for name, w in built.items()}
    )
    table = inference.time_stages([entry], strips, rounds=3, device=torch.device("cpu"))
    assert table["runtime"].tolist() == list(built)
    assert (table["variant"] == f"unet_64x400 32x160 {entry.run.path}").all()
    # One round to warm up and three timed; a strip to settle and a timed one each.
    a_round = [name for name in built for _ in range(2)]
    assert [name for name, _ in order] == a_round * 4
    assert len({name for _, name in order[-2 * len(built) :]}) == 1
    assert (table[list(inference.STAGES)] > 0).all(axis=None)
    assert (table["low"] <= table["total"]).all()
    assert (table["total"] <= table["high"]).all()
    assert table["strips/s"].to_numpy() == pytest.approx(1000 / table["total"])


def test_runs_of_one_variant_and_size_are_all_timed(entry, strips, tmp_path, monkeypatch, capsys):
    twin = shutil.copytree(entry.run.path, tmp_path / entry.run.path.name)  # the same name, too
    both = (entry.run.path, twin)
    way = runtimes.Way(*[lambda image, _=None: image] * 4)
    monkeypatch.setattr(inference, "ways", lambda _: {"none": lambda *_: way})
    entries = inference.load_entries(inference.Config(runs=both))
    table = inference.time_stages(entries, strips, rounds=1, device=torch.device("cpu"))
    assert table["variant"].tolist() == [f"unet_64x400 32x160 {path}" for path in both]
    assert inference.main(["--runs", str(twin), str(twin)]) == 2
    assert "names a run twice" in capsys.readouterr().err


def test_untrained_networks_hand_on_the_true_masks(strips, monkeypatch):
    run = runtimes.untrained("unet_64x400", tiny.SIZE)
    assert run.build_model().state_dict().keys()
    way = runtimes.Way(
        prepare=lambda image: image,
        infer=lambda image: image,
        decide=lambda output, _: output,
        pretend=lambda _, truth: truth,
    )
    seen = []
    monkeypatch.setattr(
        inference, "keep", lambda label_map, *_: seen.append(label_map) or label_map
    )
    stages = inference.segment(inference.Entry(run, RULE), way, strips[0])
    assert len(stages) == 5
    assert seen[0] is strips[0].truth


def test_processes_are_counted_together(entry, strips, tmp_path):
    config = inference.Config(seconds=0.2)
    row = inference.time_processes(entry, "PyTorch", strips, config, processes=2)
    assert row["processes"] == 2
    assert row["threads each"] == max(1, torch.get_num_threads() // 2)
    assert row["strips/s"] > 1


def fail():
    raise RuntimeError("something broke")


FAULTS = {"raises": fail, "dies": lambda: os._exit(1), "dawdles": lambda: time.sleep(4)}


@dataclass(frozen=True, kw_only=True)
class Faulty(runs.Run):
    """A run whose network can be built once; in the next process there is a fault."""

    fault: str
    mark: Path

    def build_model(self, device="cpu"):
        try:
            self.mark.touch(exist_ok=False)
        except FileExistsError:
            FAULTS[self.fault]()
        return super().build_model(device)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raises", "RuntimeError: something broke"),
        ("dies", "ended abruptly"),
        ("dawdles", "not ready 0.5 seconds after another"),
    ],
)
def test_a_failing_process_ends_the_benchmark(entry, strips, tmp_path, monkeypatch, fault, said):
    if fault == "dawdles":
        monkeypatch.setattr(inference, "START_SECONDS", 0.5)
    run = Faulty(**vars(entry.run), fault=fault, mark=tmp_path / "mark")
    config = inference.Config(seconds=0.1)
    with pytest.raises(UserError, match=f"PyTorch, one of 2 processes failed: .*{said}"):
        inference.time_processes(replace(entry, run=run), "PyTorch", strips, config, processes=2)


def test_goals_are_told_from_the_fastest_fp32_runtimes():
    networks = [inference.SLIM, inference.UNET, ("unet_128x800", (128, 800))]
    entries = [inference.Entry(runtimes.untrained(*network), RULE) for network in networks]
    slim, unet, other = (entry.name for entry in entries)
    stages = pd.DataFrame(
        [
            (slim, "PyTorch", 60, 70),
            (slim, "OpenVINO, exported file", 45, 50),
            (slim, "OpenVINO bf16", 20, 30),
            (unet, "PyTorch", 300, 310),
            (unet, "OpenVINO", 200, 230),
            (unet, "OpenVINO, exported file", 190, 195),  # no network alone
            (unet, "OpenVINO bf16", 90, 120),
            (other, "OpenVINO", 1, 2),
        ],
        columns=["variant", "runtime", "network", "total"],
    )
    scaling = pd.DataFrame(
        [
            (slim, "OpenVINO", 1, 2, 35.0),
            (slim, "OpenVINO", 2, 1, 39.0),
            (slim, "OpenVINO", 4, 1, 70.0),  # of four threads
            (slim, "OpenVINO bf16", 2, 1, 90.0),
            (other, "OpenVINO", 2, 1, 99.0),
        ],
        columns=["variant", "runtime", "processes", "threads each", "strips/s"],
    )
    found = inference.goals(entries, stages, scaling)
    assert found["speed_ratio"] == 200 / 50
    assert found["strips_per_second"] == 39
    assert "50.0 ms" in found["lines"][0]
    assert "4.00 times" in found["lines"][0]
    assert found["lines"][1].endswith("2 processes of 1 threads: 39.0 strips/s, misses 40")
    scaling["strips/s"] += 1
    assert inference.goals(entries, stages, scaling)["lines"][1].endswith("reaches 40")

    found = inference.goals(entries[2:], stages, scaling)
    assert found["speed_ratio"] is found["strips_per_second"] is None
    assert "not all was timed" in found["lines"][0]


def test_bad_options_are_refused(capsys):
    assert inference.main(["--rounds", "0"]) == 2
    assert "--rounds must be at least 1" in capsys.readouterr().err
