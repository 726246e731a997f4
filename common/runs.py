"""Run directories: what config.json and metrics.csv say, and the network built again."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from common import checkpoint
from common import labels as labels_module
from common.config import HOME
from common.errors import UserError
from common.labels import Labels, class_titles
from common.pixels import BITS

LOCK = ".lock"  # held by the process that trains in the directory
# Columns of metrics.csv that commands need.
METRICS = ("epoch", "train/loss", "val/loss", "val/dice_mean", "epoch_seconds")


@dataclass(frozen=True)
class Part:
    """What a part of config.json must be; one that is not `needed` may be absent."""

    words: str
    fits: Callable[[Any], bool]
    needed: bool = True

    def check(self, saved: Any, name: str) -> None:
        """Raises ValueError where the part `name`, keys joined by dots, is not so in `saved`."""
        for key in name.split("."):
            if not isinstance(saved, dict) or key not in saved:
                if self.needed:
                    raise ValueError(f"its part {name} is missing")
                return
            saved = saved[key]
        if not self.fits(saved):
            raise ValueError(f"its part {name} is {saved!r:.60}, not {self.words}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= 1_000_000


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_figure(value: Any) -> bool:
    """A number, also one that is not defined: null, NaN in older files."""
    return value is None or type(value) in (int, float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _are_names(value: Any) -> bool:
    return _are_all(_is_text)(value) and all(k.isascii() and k.isdigit() for k in value)


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


PARTS = {
    "variant": Part("a name", lambda value: _is_text(value) and value.isidentifier()),
    "options.height": Part("a size in pixels", _is_count),
    "options.width": Part("a size in pixels", _is_count),
    "options.epochs": Part("a number of epochs", _is_count, needed=False),
    "model.num_classes": Part(
        "2 to 256 classes", lambda value: type(value) is int and 2 <= value <= 256
    ),
    "model": Part("whole numbers by name", _are_all(_is_count)),
    "normalisation": Part(
        "a mean and a standard deviation", lambda value: _is_range(value) and value[1] > 0
    ),
    "data.root": Part("a path", _is_text),
    "data.fingerprint": Part("a fingerprint", _is_text),
    "data.class_names": Part("names of classes", _are_names, needed=False),
    "data.bits": Part(f"one of {BITS}", lambda v: type(v) is int and v in BITS, needed=False),
    "data.drift": Part("ranges by name", _are_all(_is_range), needed=False),
    "baselines": Part("figures by name", _are_all(_is_figure)),
    "git_commit": Part("a commit or null", lambda value: value is None or _is_text(value)),
    "wandb_id": Part("an id", _is_text),
    "versions": Part("versions by name", lambda value: isinstance(value, dict), needed=False),
}


@dataclass(frozen=True)
class Run:
    """What a run directory says of itself.

    num_classes counts the background. normalisation is (mean, std) of grey values in [0, 1].
    data holds root, fingerprint, class names, the bits in use of 16-bit images, and the drift
    reference of the training images.
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
    def bits(self) -> int:
        """What 16-bit images are scaled down from; 16 in a run of before others were known."""
        return self.data.get("bits", 16)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.options["height"], self.options["width"]

    def saved(self) -> dict[str, Any]:
        """All that config.json holds."""
        return json.loads((self.path / "config.json").read_text(encoding="utf-8"))

    def labels(self, root: Path | None = None) -> Labels:
        """The data set that it was trained on, or the one in `root`, its images read alike."""
        found = labels_module.load(root or self.data["root"])
        return replace(found, bits=self.bits)

    def metrics(self) -> pd.DataFrame:
        """metrics.csv: a row an epoch, all of them numbers. Raises UserError where it is not so."""
        file = self.path / "metrics.csv"
        try:
            table = pd.read_csv(file)
            if absent := [name for name in METRICS if name not in table]:
                raise ValueError(f"it has no column {', '.join(absent)}")
            if table.empty:
                raise ValueError("it has no row")
            return table.apply(pd.to_numeric)
        except (FileNotFoundError, ValueError) as error:
            raise UserError(
                f"cannot read {file}: {error}\n"
                f"Resuming writes it anew: --resume {shlex.quote(str(self.path))}"
            ) from error
        except OSError as error:  # may not be read, or is no file
            raise UserError(f"cannot read {file}: {error.strerror or error}") from error

    def build_model(self, device: torch.device | str = "cpu") -> nn.Module:
        """The trained network (best epoch, averaged weights) in eval mode on `device`."""
        model = new_model(self.variant, self.model)
        checkpoint.load_weights(model, *checkpoint.best_weights(self.path))
        return model.to(device).eval()


def load(path: Path | str) -> Run:
    """Reads a run directory or a published folder. Raises UserError where it is none or not whole.

    A path that does not exist is also looked for beside the package: what comes with it is found
    from anywhere.
    What config.json holds beyond the parts of a Run is left alone: a later version's.
    """
    path = Path(path)
    if not path.exists() and (HOME / path).is_dir():
        path = HOME / path
    if not path.is_dir():
        raise UserError(f"no run directory {path}. Train one with: python unet_64x400/train.py")
    file = path / "config.json"
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        for name, part in PARTS.items():
            part.check(saved, name)
    except FileNotFoundError:
        reserved = (path / LOCK).exists() and not (path / "last.pt").exists()
        yet = " yet: its training is being prepared" if reserved else ""
        raise UserError(f"{path} is no run directory{yet}: it has no config.json.") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(
            f"{file} is damaged: {error}\nBring it back from a copy of the run, or train anew."
        ) from error
    parts = {field.name for field in fields(Run)} & set(saved)
    normalisation = tuple(saved["normalisation"])
    return Run(path=path, **{k: saved[k] for k in parts} | {"normalisation": normalisation})


def new_model(variant: str, arguments: dict[str, Any]) -> nn.Module:
    """An untrained network of the variant, found by the name of its package."""
    try:
        module = importlib.import_module(f"{variant}.model")
    except ModuleNotFoundError as error:
        raise UserError(f"the run's variant {variant!r} cannot be imported: {error}") from error
    try:
        inspect.signature(module.build_model).bind(**arguments)
    except TypeError as error:
        raise UserError(f"the network of {variant!r} cannot be built again: {error}") from error
    return module.build_model(**arguments)
