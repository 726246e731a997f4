"""All benchmarks in one run: what is called, and what becomes of its figures."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import all as every

FIGURES = {
    "models": {
        "networks": [{"network": "unet", "ms": 100.0}],
        "ratios": [{"network": "slim", "against": "unet", "latency": 30.0}],
    },
    "training": {"rows": [{"network": "unet", "step": 2.0}]},
    "loading": {"rows": [{"loader": "ours", "images/s": 22739.4}]},
    "inference": {
        "stages": [{"variant": "slim", "runtime": "torch", "total": 9.0}],
        "scaling": [{"variant": "slim", "runtime": "torch", "processes": 2, "strips/s": None}],
    },
    "rle": {"rows": [{"task": "decode", "way": "ours", "us a mask": 44.0}]},
}


@pytest.fixture
def called(monkeypatch):
    """In place of the benchmarks: writes FIGURES where they would write theirs."""
    commands = {}

    def run(command, check):
        part = command[2].removeprefix("benchmarks.")
        commands[part] = command[3:-2]
        if part == "rle" and "fail" in commands:
            return SimpleNamespace(returncode=2)
        Path(command[-1]).write_text(json.dumps(FIGURES[part]))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_every_part_is_run_and_all_figures_stand_in_one_table_and_one_file(
    called, tmp_path, capsys
):
    out = tmp_path / "speed.json"
    assert every.main(["--out", str(out)]) == 0
    assert list(called) == ["models", "training", "loading", "inference", "rle"]
    kept = json.loads(out.read_text())
    assert {part: kept[part] | FIGURES[part] for part in kept} == kept
    lines = [line.split() for line in capsys.readouterr().out.split("all figures")[1].splitlines()]
    assert ["models", "slim,", "unet", "latency", "30"] in lines
    assert ["loading", "ours", "images/s", "2.274e+04"] in lines
    assert ["inference", "slim,", "torch,", "2", "strips/s"] in lines


def test_a_part_that_fails_is_named_and_the_others_are_kept(called, tmp_path, capsys):
    called["fail"] = []
    out = tmp_path / "speed.json"
    assert every.main(["--out", str(out)]) == 1
    assert "without rle, which failed" in capsys.readouterr().err
    assert set(json.loads(out.read_text())) == {"models", "training", "loading", "inference"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_says_so_in_a_line(called, capsys):
    assert every.main(["--device", "cuda"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not called


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_part_takes_the_options_it_is_called_with(device):
    from importlib import import_module

    from common.cli import parse

    for part, options in every.PARTS[device].items():
        given = [*options, *(["--device", device] if device == "cuda" else []), "--out", "x.json"]
        assert parse(import_module(f"benchmarks.{part}").Config, given).out == Path("x.json")
