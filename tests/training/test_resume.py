"""Killed, interrupted and resumed runs end as undisturbed ones do, bit for bit."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from common.config import PROJECT
from common.training import folder
from common.training.signals import StopRequest
from modified_unet.train import Config, main
from tests import tiny

EPOCHS = 3
MAY_DIFFER = ("second", "wait", "memory")


def command(dataset: Path, store: Path, *options: object) -> list[str]:
    fixed = tiny.options(dataset, store) | {"--epochs": EPOCHS}
    words = [word for pair in fixed.items() for word in pair]
    return [sys.executable, "-m", "modified_unet.train", *map(str, [*words, *options])]


def record(run: Path) -> pd.DataFrame:
    """metrics.csv without the columns that may differ between repeats, as text."""
    table = pd.read_csv(run / "metrics.csv", dtype=str)
    return table[[c for c in table if not any(word in c for word in MAY_DIFFER)]]


def assert_same_run(run: Path, reference: Path) -> None:
    pd.testing.assert_frame_equal(record(run), record(reference))
    for name in ("best.pt", "last.pt"):
        ours, theirs = (torch.load(r / name, weights_only=True) for r in (run, reference))
        for key in ("model", "average"):
            for tensor, value in ours.get(key, {}).items():
                assert torch.equal(value, theirs[key][tensor]), (name, tensor)
    assert (run / "best.pt").read_bytes() == (reference / "best.pt").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train("modified_unet", "--out", out, "--epochs", EPOCHS) == 0
    return out


def test_draws_and_crops_go_on_where_they_were(train, tmp_path: Path, monkeypatch) -> None:
    options = ("--sampling", "balanced", "--crop", "16x40", "--loss", "ce+focal_tversky")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train("modified_unet", "--out", whole, "--epochs", 2, *options) == 0

    def stop_in_epoch_2(self: StopRequest, step: int, every: int) -> bool:
        self.signum = signal.SIGTERM
        return step == 12

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "agreed", stop_in_epoch_2)
        assert train("modified_unet", "--out", cut, "--epochs", 2, *options) == 128 + signal.SIGTERM
    progress = torch.load(cut / "last.pt", weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 3)
    assert main(["--resume", str(cut)]) == 0
    assert_same_run(cut, whole)


def stopped_after_an_epoch(argv: list[str], out: Path, signum: int) -> tuple[int, str, str]:
    """Exit code and output of a training to which the signal is sent when one epoch is done."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(argv, cwd=PROJECT, **pipes, text=True)
    limit = time.monotonic() + 600
    while rows(out) < 1:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.002)
    process.send_signal(signum)
    said = process.communicate()
    return process.returncode, *said


def rows(run: Path) -> int:
    path = run / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def test_killed_in_mid_epoch_and_resumed(
    train, dataset: Path, store_folder: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    given = command(dataset, store_folder, "--out", out)
    code, _, _ = stopped_after_an_epoch(given, out, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert_resumes_as(undisturbed, out, train)


KILLED_WHILE_PUBLISHING = f"""
import os, signal, sys
sys.path.insert(0, {str(PROJECT)!r})
from modified_unet.train import main

name, times = sys.argv.pop(1), int(sys.argv.pop(1))
replace = os.replace

def die_or_replace(source, target):
    global times
    times -= os.path.basename(target) == name
    if times == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = die_or_replace
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("best.pt", 1),
        ("last.pt", 2),
        ("metrics.csv", 1),  # between a checkpoint and its table
        ("metrics.csv", EPOCHS),  # no epoch is left to write the last row: resuming does
    ],
)
def test_killed_while_a_file_is_published_and_resumed(
    train, dataset: Path, store_folder: Path, undisturbed: Path, tmp_path: Path, name: str,
    times: int,
) -> None:  # fmt: skip
    out, program = tmp_path / "run", tmp_path / "killed.py"
    program.write_text(KILLED_WHILE_PUBLISHING)
    python, _, _, *options = command(dataset, store_folder, "--out", out)
    killed = subprocess.run(
        [python, program, name, str(times), *options], cwd=PROJECT, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(out.glob(f".{name}.*"))) == 1  # written, not yet in its place
    assert rows(out) == times - 1
    assert_resumes_as(undisturbed, out, train)


def assert_resumes_as(undisturbed: Path, out: Path, train) -> None:
    assert rows(out) < EPOCHS
    assert train("modified_unet", "--out", out, "--epochs", EPOCHS, "--resume", "auto") == 0
    assert_same_run(out, undisturbed)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_mid_epoch_and_prints_how_to_go_on(
    dataset: Path, store_folder: Path, undisturbed: Path, tmp_path: Path, signum: int, monkeypatch
) -> None:
    out = tmp_path / "run"
    given = command(dataset, store_folder, "--out", out)
    code, stdout, stderr = stopped_after_an_epoch(given, out, signum)
    assert code == 128 + signum, stderr
    assert "Traceback" not in stderr
    assert re.findall("^epoch  ", stdout, re.MULTILINE) == ["epoch  "]  # a log: a line an epoch
    assert "\r" not in stdout + stderr  # and no bar
    assert f"--resume {out}" in stdout + stderr
    progress = torch.load(out / "last.pt", weights_only=True)["progress"]
    assert progress["epoch"] == 1
    assert progress["step"] > 0
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["--resume", str(out)]) == 0
    assert_same_run(out, undisturbed)


def test_resuming_with_other_options_is_refused(train, trained_run: Path, capsys) -> None:
    assert train("modified_unet", "--resume", trained_run, "--lr", 0.5) == 2
    assert "--lr 0.5 (the run has" in capsys.readouterr().err
    assert train("unet_64x400", "--resume", trained_run) == 2
    assert "is a run of modified_unet" in capsys.readouterr().err


def test_what_was_given_is_told_from_a_default(train, tmp_path: Path, capsys) -> None:
    """The class's defaults, asked for, are as good as any other value."""
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--lr", 0.01, "--seed", 3, "--no-sync-bn") == 0
    config = Config()
    assert train("modified_unet", "--resume", out, "--lr", config.lr) == 2
    assert f"--lr {config.lr} (the run has 0.01)" in capsys.readouterr().err
    assert train("modified_unet", "--resume", out, f"--seed={config.seed}") == 2
    assert "--seed 0 (the run has 3)" in capsys.readouterr().err
    assert train("modified_unet", "--resume", out, "--sync-bn") == 2
    assert train("modified_unet", "--resume", out, "--out", tmp_path / "other") == 2
    assert "--out" in capsys.readouterr().err


def test_changed_options_hold_from_then_on(train, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(Config, "epochs", 3)
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--epochs", 1) == 0
    assert train("modified_unet", "--resume", out, "--epochs", 3, "--workers", 1) == 0
    assert "epochs 1 -> 3" in capsys.readouterr().out
    assert rows(out) == 3
    options = json.loads((out / "config.json").read_text())["options"]
    assert (options["epochs"], options["workers"], options["split"]) == (3, 1, None)
    assert train("modified_unet", "--resume", out, "--epochs", 3) == 0
    assert "->" not in capsys.readouterr().out


def test_wandb_goes_on_with_the_same_run(train, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for epochs in (1, 2):
        options = ("--epochs", epochs, "--wandb", "offline")
        assert train("modified_unet", "--out", out, *options, "--resume", "auto") == 0
    run_id = json.loads((out / "config.json").read_text())["wandb_id"]
    files = [path.name for path in out.glob("wandb/offline-run-*/*.wandb")]
    assert files == [f"run-{run_id}.wandb"] * 2


def test_resuming_on_changed_data_is_refused(
    train, trained_run: Path, dataset: Path, tmp_path: Path, capsys
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(dataset, changed)
    first, second = sorted((changed / "train_images").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    assert train("modified_unet", "--resume", trained_run, "--data", changed) == 2
    assert "has changed" in capsys.readouterr().err


def test_a_run_that_is_being_trained_is_left_alone(train, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(folder, "RUNS", tmp_path)
    out = tmp_path / "modified_unet-1"
    assert train("modified_unet", "--out", out, "--epochs", 1) == 0
    before = (out / "last.pt").stat().st_mtime_ns
    with folder.claim(out):
        assert train("modified_unet", "--resume", out, "--epochs", 2) == 2
        assert f"another process is training in {out}" in capsys.readouterr().err
        (out / "metrics.csv").unlink()  # unfinished, then, as far as auto can tell
        with folder.claimed(Config(resume="auto")) as (_, other, resumed):
            assert (other != out, resumed) == (True, False)
    assert (out / "last.pt").stat().st_mtime_ns == before
    with folder.claimed(Config(resume="auto")) as (_, same, resumed):
        assert (same, resumed) == (out, True)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_what_a_kill_in_mid_save_left_is_removed(train, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--epochs", 1) == 0
    (out / ".last.pt.x1y2z3").write_bytes(b"half a checkpoint")
    assert train("modified_unet", "--resume", out, "--epochs", 2) == 0
    assert not list(out.glob(".*.pt.*"))
