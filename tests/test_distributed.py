"""Two processes train as one does, and share their work without loss or duplicate."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from common.config import PROJECT

PREDICTED = ["val/accuracy", "val/dice_mean", "val/kaggle_dice", "val/iou_mean"]


def command(processes: int, out: Path, dataset: Path, store: Path, *options: object) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc-per-node", str(processes), "-m"]
    if processes == 1:
        launch = [sys.executable, "-m"]
    fixed = {
        "--data": dataset, "--store": store, "--out": out, "--epochs": 2, "--batch-size": 4,
        "--height": 32, "--width": 200, "--base-channels": 8, "--device": "cpu",
        "--wandb": "disabled",
    }  # fmt: skip
    words = [word for pair in fixed.items() for word in pair]
    return [*launch, "unet_64x400.train", *map(str, [*words, *options])]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_two_processes_train_as_one(dataset: Path, store_folder: Path, tmp_path: Path) -> None:
    """With synchronised batch norms only the order of float32 sums differs."""
    tables = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        options = ("--loss", "ce+dice", "--sync-bn", "--lr", "1e-4")
        done = subprocess.run(
            command(processes, out, dataset, store_folder, *options),
            cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("best epoch") == 1
        tables.append(pd.read_csv(out / "metrics.csv"))
    one, two = tables
    assert two["train/loss"].tolist() == pytest.approx(one["train/loss"].tolist(), rel=1e-4)
    # Dice is pooled over a batch, and two shares of the val part make other batches than one.
    assert two["val/loss"].tolist() == pytest.approx(one["val/loss"].tolist(), rel=0.05)
    for name in PREDICTED:
        assert two[name].tolist() == pytest.approx(one[name].tolist(), abs=5e-3)
    # What depends on the truth alone shows that each val image was counted once.
    assert two["val/kaggle_dice_empty"].tolist() == one["val/kaggle_dice_empty"].tolist()


def test_a_dead_process_ends_the_run_and_it_can_be_resumed(
    dataset: Path, store_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(2, out, dataset, store_folder, "--epochs", 3),
        cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    limit = time.monotonic() + 120
    while not (out / "metrics.csv").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "SIGKILL" in said
    done = subprocess.run(
        command(2, out, dataset, store_folder, "--epochs", 3, "--resume", "auto"),
        cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(out / "metrics.csv")) == 3
