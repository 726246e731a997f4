"""What a training leaves behind: config, split, checkpoints, metrics.csv, sample pictures."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from common import checkpoint, overlay, thresholds
from common.config import CHECKOUT, TrainConfig
from common.dataset import ancestry, drift, splits
from common.dataset.prepare import Data
from common.errors import UserError
from common.files import publish, publish_json, refusals_said
from common.labels import is_fingerprint
from common.runs import Run
from common.training import console
from common.training.folder import LASTING
from common.training.state import Progress, Training
from common.training.step import MuonAdamW

SAMPLES = 4
PASSING = ("second", "wait", "memory")  # in the names of figures that no repeat gives again


def record(training: Training, row: dict[str, float], improved: bool) -> None:
    """Writes the epoch: the best weights, then the state, then the table, each whole or not."""
    folder = training.folder
    way_out = (
        f"What was finished before is kept; make room, then continue with {training.resume_command}"
    )
    with refusals_said(f"to {folder}", way_out):
        if improved:
            # Without what differs between repeats, so that equal weights are equal files.
            lasting = {k: v for k, v in row.items() if not any(word in k for word in PASSING)}
            checkpoint.save(
                folder / "best.pt",
                {"model": _plain(training.average), "epoch": row["epoch"], "metrics": lasting},
            )
            for name in (thresholds.FILE, thresholds.CURVE_FILE):  # chosen for the weights before
                (folder / name).unlink(missing_ok=True)
            _save_samples(training, row["epoch"])
        save_state(training)
        _write_table(folder, training.progress)


def _write_table(folder: Path, progress: Progress) -> None:
    publish(folder / "metrics.csv", pd.DataFrame(progress.history).to_csv(index=False))


def save_state(training: Training) -> None:
    checkpoint.save(
        training.folder / "last.pt",
        {
            "model": _plain(training.model),
            "average": _plain(training.average),
            "optimiser": training.optimiser.state_dict(),
            "progress": vars(training.progress),
        },
    )


def restore(
    path: Path,
    device: torch.device,
    model: nn.Module,
    average: nn.Module,
    optimiser: MuonAdamW,
) -> Progress:
    """Loads `save_state`'s file. Raises UserError where it is none or does not fit."""
    state = checkpoint.load(path, device, ("model", "average", "optimiser", "progress"))
    checkpoint.load_weights(model, state["model"], path)
    checkpoint.load_weights(average, state["average"], path)
    try:
        optimiser.load_state_dict(state["optimiser"])
        progress = dict(state["progress"])
        for name in ("best", "good", "skipped"):  # of older runs, which counted otherwise
            progress.pop(name, None)
        return _sound(Progress(**progress))
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path} was written by another version of this package, or by another: its optimiser "
            f"or progress does not fit ({error}).\nBegin a new run, or resume with that version."
        ) from error


def _sound(progress: Progress) -> Progress:
    """The progress, if a run can have come so far. Raises ValueError."""
    counts = progress.epoch, progress.step, progress.best_epoch
    rows = progress.history
    sound = (
        all(type(count) is int for count in counts)
        and isinstance(progress.loss_sum, float)
        and isinstance(rows, list)
        and all(isinstance(row, dict) and "val/loss" in row for row in rows)
        and len(rows) == progress.epoch
        and -1 <= progress.best_epoch < len(rows)
        and progress.step >= 0
    )
    if not sound:
        raise ValueError(f"a progress of epoch, step and best epoch {counts}")
    return progress


def _plain(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in model.state_dict().items()}


@torch.inference_mode()
def _save_samples(training: Training, epoch: int) -> None:
    """Some val images with truth and prediction, as PNG and as wandb overlays."""
    (training.folder / "samples").mkdir(exist_ok=True)
    mean, std = training.data.normalisation
    titles = training.data.labels.class_titles
    samples = {}
    for row in _sample_rows(training.data):
        image = np.array(training.data.store.images[row])
        truth = np.array(training.data.store.labels[row])
        pixels = torch.from_numpy(image).to(training.device)[None, None] / 255
        logits = training.average((pixels - mean) / std)
        prediction = logits.argmax(1)[0].to("cpu", torch.uint8).numpy()
        name = training.data.store.names[row]
        samples[name] = (image, truth, prediction)
        picture = overlay.triptych(image, truth, prediction, titles)
        overlay.save(training.folder / "samples" / f"{Path(name).stem}.png", picture)
    training.tracker.log_samples(epoch, samples, titles)


def _sample_rows(data: Data) -> list[int]:
    """Val rows to show: first one of each class, then the next defective ones, then clean ones."""
    rows = data.rows("val").tolist()
    present = data.store.pixel_counts[rows][:, 1:] > 0
    firsts = [rows[np.argmax(column)] for column in present.T if column.any()]
    order = sorted(rows, key=lambda row: not data.store.pixel_counts[row, 1:].any())
    return list(dict.fromkeys([*firsts, *order]))[: max(SAMPLES, len(firsts))]


def open_folder(
    config: TrainConfig, folder: Path, data: Data, details: dict[str, Any], run_id: str
) -> None:
    """Makes the reserved folder a run directory: it is one as soon as config.json lies in it."""
    way_out = "Make room, or name another with --out."
    with refusals_said(f"the run directory {folder}", way_out):
        splits.write(data.split, folder / "split.csv")
        if data.seen:
            publish(folder / ancestry.FILE, ancestry.written(data.seen))
        publish_json(
            folder / "config.json",
            {
                "variant": config.variant,
                "options": config.to_json(),
                "normalisation": data.normalisation,
                "wandb_id": run_id,
                **details,
            },
        )


def reopen_folder(config: TrainConfig, folder: Path, data: Data, progress: Progress) -> None:
    """Makes a run directory say what its resumed run knows.

    A kill may have come between last.pt and metrics.csv, after the last epoch even. And options
    that were changed on resuming hold from now on, also where the next command does not repeat
    them.
    """
    config_file = folder / "config.json"
    saved = json.loads(config_file.read_text())
    given = config.to_json()
    changed = {name: given[name] for name in LASTING if given[name] != saved["options"].get(name)}
    if "epochs" in changed:
        console.say(
            f"epochs {saved['options']['epochs']} -> {config.epochs}: the learning rate goes on as "
            "if that had been its schedule from the beginning"
        )
    root = str(data.labels.root.resolve())
    with refusals_said(f"to {folder}"):
        for name in ("last.pt", "best.pt", "metrics.csv", "config.json"):
            for leftover in folder.glob(f".{name}.*"):  # of a kill in mid-save
                leftover.unlink()
        if progress.history:
            _write_table(folder, progress)
        if changed or root != saved["data"]["root"]:
            saved["options"] |= changed
            saved["data"]["root"] = root
            publish_json(config_file, saved)


def describe(data: Data) -> dict[str, Any]:
    """What config.json keeps of the data: enough to find it, know it again and notice drift."""
    return {
        "root": str(data.labels.root.resolve()),
        "fingerprint": data.fingerprint,
        "class_names": data.labels.class_names,
        "bits": data.labels.bits,
        "images": {part: int(n) for part, n in data.split["split"].value_counts().items()},
        "trained_on": len(data.rows("train")),
        "drift": drift.reference(
            drift.statistics(data.store.images[row]) for row in data.rows("train")
        ),
    }


def check_same_data(run: Run, data: Data) -> None:
    if not is_fingerprint(run.data["fingerprint"], data.labels, data.fingerprint):
        raise UserError(
            f"the data in {data.labels.root} has changed since {run.path} was begun "
            f"(fingerprint {data.fingerprint}, the run has {run.data['fingerprint']}).\n"
            "Name the original data with --data, or begin a new run."
        )


def git_commit() -> str | None:
    """The commit of this package's own checkout, '+changes' appended where files differ from it.

    None where the package is installed, lies within another repository, or git is missing.
    """
    try:
        if CHECKOUT is None or Path(_git("rev-parse", "--show-toplevel")).resolve() != CHECKOUT:
            return None
        changes = "+changes" if _git("status", "--porcelain", "-uno") else ""
        return _git("rev-parse", "HEAD") + changes
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    # A git that runs us as its hook says by variables which repository it means.
    environment = {k: value for k, value in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()
