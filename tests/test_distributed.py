"""Two processes train as one does, and share their work without loss or duplicate."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from common.config import PROJECT
from tests import tiny

PREDICTED = ["val/accuracy", "val/dice_mean", "val/kaggle_dice", "val/iou_mean"]


def command(
    out: Path,
    dataset: Path,
    store: Path,
    *options: object,
    launcher: tuple[str, ...] = (),
    program: tuple[object, ...] = ("-m", "unet_64x400.train"),
) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", *launcher]
    launch += ["--nproc-per-node", "2"]
    fixed = tiny.options(dataset, store) | {"--out": out, "--epochs": 2}
    words = [word for pair in fixed.items() for word in pair]
    return [*launch, *map(str, [*program, *words, *options])]


def start(*arguments: object, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        command(*arguments, **options),
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 600
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.01)


def ranks(process: subprocess.Popen) -> list[int]:
    """Process numbers of a launch's ranks, rank 0 first."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def test_two_processes_train_as_one(
    train, dataset: Path, store_folder: Path, tmp_path: Path
) -> None:
    """With synchronised batch norms only the order of float32 sums differs."""
    alone, together = tmp_path / "one", tmp_path / "two"
    options = (
        "--epochs", 2, "--loss", "ce+focal_tversky", "--sync-bn", "--lr", "1e-4",
        "--sampling", "balanced", "--crop", "32x96",
    )  # fmt: skip
    assert train("unet_64x400", "--out", alone, *options) == 0
    done = subprocess.run(
        command(together, dataset, store_folder, *options),
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best epoch") == 1
    one, two = (pd.read_csv(out / "metrics.csv") for out in (alone, together))
    assert two["train/loss"].tolist() == pytest.approx(one["train/loss"].tolist(), rel=1e-4)
    # Dice is pooled over a batch, and two shares of the val part make other batches than one.
    assert two["val/loss"].tolist() == pytest.approx(one["val/loss"].tolist(), rel=0.05)
    for name in PREDICTED:
        assert two[name].tolist() == pytest.approx(one[name].tolist(), abs=5e-3)
    # What depends on the truth alone shows that each val image was counted once.
    assert two["val/kaggle_dice_empty"].tolist() == one["val/kaggle_dice_empty"].tolist()


def test_a_dead_process_ends_the_run_and_it_can_be_resumed(
    train, dataset: Path, store_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(out, dataset, store_folder, "--epochs", 3)
    wait_for(out / "metrics.csv", process)
    os.kill(ranks(process)[-1], signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "SIGKILL" in said
    assert "error: another process of this training has ended" in said
    assert f"torchrun --nproc-per-node 2 -m unet_64x400.train --resume {out}" in said
    assert str(PROJECT / "common") not in said  # torchrun's traceback is there, none of ours
    assert train("unet_64x400", "--out", out, "--epochs", 3, "--resume", "auto") == 0
    assert len(pd.read_csv(out / "metrics.csv")) == 3


def test_torchrun_starts_a_launch_with_a_dead_process_again(
    dataset: Path, store_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "run"
    options = ("--epochs", 3, "--resume", "auto")
    # By default torchrun keeps its store over a restart, and in it the dead processes' addresses.
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    process = start(out, dataset, store_folder, *options, launcher=("--max-restarts", "1"))
    wait_for(out / "metrics.csv", process)
    os.kill(ranks(process)[-1], signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert said.count(f"resuming {out} at epoch") == 1
    assert pd.read_csv(out / "metrics.csv")["epoch"].tolist() == [0, 1, 2]


SLOW_SAVE = """
import os, signal, sys, time
from common.training import record
from unet_64x400.train import main

save = record.save_state

def slowly(training):
    if training.progress.step:
        os.kill(os.getpid(), signal.SIGTERM)  # as torchrun does where a process has left
        time.sleep(4)  # time for the other to leave
    save(training)

record.save_state = slowly
sys.exit(main())
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_all_once_the_state_is_saved(
    dataset: Path, store_folder: Path, tmp_path: Path, rank: int
) -> None:
    """torchrun sends SIGTERM to the others as soon as one has left: not in mid-save, then."""
    out, program = tmp_path / "run", tmp_path / "slow_save.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(PROJECT)!r})\n{SLOW_SAVE}")
    process = start(out, dataset, store_folder, "--epochs", 3, program=(program,))
    wait_for(out / "metrics.csv", process)
    os.kill(ranks(process)[rank], signal.SIGTERM)
    said, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "everything is saved" in said
    progress = torch.load(out / "last.pt", weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"] > 0) == (1, True), said
