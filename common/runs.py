"""Run directories: what config.json and metrics.csv say, and the network built again."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from common import checkpoint
from common.errors import UserError
from common.labels import class_titles


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


def new_model(variant: str, arguments: dict[str, Any]) -> nn.Module:
    """An untrained network of the variant, found by the name of its package."""
    try:
        module = importlib.import_module(f"{variant}.model")
    except ModuleNotFoundError as error:
        raise UserError(f"the run's variant {variant!r} cannot be imported: {error}") from error
    return module.build_model(**arguments)
