"""What a published folder holds, and how it comes from a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from common import checkpoint, runs, thresholds
from common.comparison.tune import ensure_thresholds
from common.dataset import ancestry
from common.errors import UserError
from common.files import publish, refusals_said, try_folder
from common.inference import Segmenter
from common.publishing.card import card, figures
from common.runs import Run

if TYPE_CHECKING:
    from common.publish import Config

ONNX = "model.onnx"
PATHS = ("data", "out", "init", "split", "store", "resume")  # options: places on this machine
COPIED = ("split.csv", "metrics.csv", thresholds.FILE)
FILES = {checkpoint.PUBLISHED, "config.json", "README.md", ONNX, ancestry.FILE, *COPIED}


def publish_run(config: Config) -> None:
    """Runs the command: all is made, and the export checked, before the first file is written."""
    run = runs.load(config.run)
    _check_folder(config.out, run)
    with refusals_said(f"to {config.out}"):
        try_folder(config.out)
    contents: dict[str, bytes | str] = {checkpoint.PUBLISHED: weights(run)}
    decision = thresholds.load(run.path, run.num_classes - 1)
    labels = None
    if decision is None or (config.onnx and config.images is None):
        labels = run.labels(config.data)
    if decision is None:
        decision = ensure_thresholds(Segmenter(run, torch.device("cpu")), labels)
    known = figures(config.report, run, decision) if config.report else None
    contents["README.md"] = card(run, decision, known, config.onnx)
    if config.onnx:
        from common.deployment.export import checked_strips  # needs the packages of an extra

        contents[ONNX] = checked_strips(run, labels, config.images)
    contents[ancestry.FILE] = ancestry.written(ancestry.seen_by(run))
    contents |= {name: _content(run.path / name) for name in COPIED}
    contents["config.json"] = json.dumps(public(run), indent=2) + "\n"  # last: it makes the run
    with refusals_said(f"to {config.out}"):
        for name, content in contents.items():
            publish(config.out / name, content)
        if not config.onnx:
            (config.out / ONNX).unlink(missing_ok=True)  # of other weights, published before
    size = sum(len(content) for content in contents.values())
    print(f"{config.out}: {', '.join(sorted(contents))}; {size / 2**20:.1f} MB")


def weights(run: Run) -> bytes:
    """The run's best weights as a safetensors file; equal weights give equal bytes."""
    state = run.build_model().state_dict()
    plain = {name: value.contiguous() for name, value in state.items()}
    return safetensors.torch.save(plain, {"format": "pt"})


def public(run: Run) -> dict[str, Any]:
    """The run's config.json, with the last part alone of every path: they are this machine's."""
    saved = run.saved()
    for part, names in ((saved["options"], PATHS), (saved["data"], ("root",))):
        part |= {name: Path(part[name]).name for name in names if part.get(name)}
    return saved


def _check_folder(folder: Path, run: Run) -> None:
    """Raises UserError where the folder holds anything that was not published before."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file. Name a folder.")
    foreign = {path.name for path in folder.glob("*")} - FILES
    if foreign or (folder.exists() and folder.samefile(run.path)):
        found = min(foreign, default="the run itself")
        raise UserError(f"--out {folder} already holds {found}. Name a folder of its own.")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
