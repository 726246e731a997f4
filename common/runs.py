"""Run directories: where one goes, what its config.json says, and its network built again."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from common import checkpoint
from common.config import PROJECT, TrainConfig
from common.errors import UserError
from common.labels import class_titles
from common.locks import hold

RUNS = PROJECT / "runs"
# A resumed run keeps its options but for these: where things lie, what computes, and how long.
# Another number of epochs stretches the learning rate's schedule; the others leave the training
# as it was, but for rounding.
LASTING = ("data", "epochs", "device", "workers", "wandb", "compile", "store")
MAY_CHANGE = {"resume", "out", *LASTING}


@dataclass(frozen=True)
class Run:
    """What a run directory says of itself.

    num_classes counts the background. normalisation is (mean, std) of grey values in [0, 1].
    data holds root, fingerprint, class names and the drift reference of the training images.
    versions: of Python and the libraries that trained it; empty in a run of before they were kept.
    """

    path: Path
    variant: str
    options: dict[str, Any]
    model: dict[str, Any]
    normalisation: tuple[float, float]
    data: dict[str, Any]
    baselines: dict[str, float]
    git_commit: str | None
    wandb_id: str
    versions: dict[str, str | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def num_classes(self) -> int:
        return self.model["num_classes"]

    @property
    def class_titles(self) -> tuple[str, ...]:
        """What to call the defect classes, in order; see `labels.class_titles`."""
        names = self.data.get("class_names", {})
        return class_titles(self.num_classes - 1, {int(k): name for k, name in names.items()})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.options["height"], self.options["width"]

    def metrics(self) -> pd.DataFrame:
        """metrics.csv: a row an epoch."""
        try:
            return pd.read_csv(self.path / "metrics.csv")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {self.path / 'metrics.csv'}: {error}") from error

    def build_model(self, device: torch.device | str = "cpu") -> nn.Module:
        """The trained network (best epoch, averaged weights) in eval mode on `device`."""
        model = new_model(self.variant, self.model)
        path = self.path / "best.pt"
        checkpoint.load_weights(model, checkpoint.load(path, keys=("model",))["model"], path)
        return model.to(device).eval()


def load(path: Path | str) -> Run:
    """Reads a run directory. Raises UserError where it is none or is not whole."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no run directory {path}. Train one with: python unet_64x400/train.py")
    try:
        saved = json.loads((path / "config.json").read_text())
        return Run(path=path, **saved | {"normalisation": tuple(saved["normalisation"])})
    except FileNotFoundError:
        raise UserError(f"{path} is no run directory: it has no config.json.") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path / 'config.json'} is damaged: {error}") from error


def claim(folder: Path) -> AbstractContextManager:
    """Keeps other processes from training in a run directory, until the context is left.

    Raises UserError where one does, and where the directory cannot be written.
    """
    try:
        return hold(folder / ".lock", wait=False)
    except BlockingIOError:
        raise UserError(f"another process is training in {folder}.") from None
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def new_model(variant: str, arguments: dict[str, Any]) -> nn.Module:
    """An untrained network of the variant, found by the name of its package."""
    try:
        module = importlib.import_module(f"{variant}.model")
    except ModuleNotFoundError as error:
        raise UserError(f"the run's variant {variant!r} cannot be imported: {error}") from error
    return module.build_model(**arguments)


def choose_folder(config: TrainConfig) -> tuple[TrainConfig, Path, bool]:
    """Where this training goes: (config, run directory, whether it continues an earlier one).

    A continued run takes its options from its config.json. Raises UserError where --resume names
    no run, where an option contradicts the run's, and where --out already holds something.
    """
    folder = _to_resume(config)
    if folder is not None:
        return _merge(config, load(folder)), folder, True
    folder = config.out or RUNS / f"{config.variant}-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.exists() and any(folder.iterdir()):
        if config.out is None:
            return choose_folder(dataclasses.replace(config, out=_unused(folder)))
        raise UserError(
            f"--out {folder} already holds files. Name another folder, or continue that run with "
            f"--resume {folder}."
        )
    return dataclasses.replace(config, out=folder), folder, False


def git_commit() -> str | None:
    """The project's commit, '+changes' appended where files differ from it; None without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _to_resume(config: TrainConfig) -> Path | None:
    if config.resume is None:
        return None
    if config.resume != "auto":
        return Path(config.resume)
    if config.out is not None:
        return config.out if (config.out / "config.json").exists() else None
    candidates = RUNS.glob(f"{config.variant}-*/config.json")
    for path in sorted(candidates, key=lambda p: p.stat().st_mtime, reverse=True):
        run = load(path.parent)
        metrics = path.parent / "metrics.csv"
        unfinished = not metrics.exists() or len(run.metrics()) < run.options["epochs"]
        if unfinished and not _is_claimed(path.parent):
            return path.parent
    return None


def _is_claimed(folder: Path) -> bool:
    try:
        with claim(folder):
            return False
    except UserError:
        return True


def _merge(config: TrainConfig, run: Run) -> TrainConfig:
    """The run's options, with those given on the command line that may change."""
    if run.variant != config.variant:
        raise UserError(f"--resume {run.path} is a run of {run.variant}, not of {config.variant}.")
    try:
        saved = type(config).from_json(run.options)
    except (TypeError, ValueError) as error:
        raise UserError(f"--resume {run.path}: {error}") from error
    changes, conflicts = {}, []
    for name in sorted(config.given_options()):
        given, before = getattr(config, name), getattr(saved, name)
        if given == before:
            continue
        if name in MAY_CHANGE:
            changes[name] = given
        else:
            conflicts.append(f"--{name.replace('_', '-')} {given} (the run has {before})")
    if config.out is not None and config.out.resolve() != run.path.resolve():
        conflicts.append(f"--out {config.out} (a run stays where it is)")
    if conflicts:
        raise UserError(
            f"--resume {run.path} continues with the run's own options; these contradict it:\n  "
            + "\n  ".join(conflicts)
        )
    kept = {"out": run.path, "split": run.path / "split.csv"}
    return dataclasses.replace(saved, **changes | kept)


def _unused(folder: Path) -> Path:
    """The folder's name with the first free number behind it: two runs in one second."""
    number = 2
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate
