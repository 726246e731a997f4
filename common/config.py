"""The options that every training shares, as one typed dataclass that is also the command line."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

HOME = Path(__file__).resolve().parents[1]
"""Where the package lies: its checkout, or among the installed ones."""
CHECKOUT = HOME if (HOME / "pyproject.toml").is_file() else None
"""Folder of the checkout that the package is used from; None where it was installed."""
PROJECT = CHECKOUT or Path.cwd()
"""Where runs, data sets and stores lie where no option says otherwise."""

# Options that no longer exist, with the value at which they did nothing: old runs may have them.
REMOVED = {"on_nonfinite": "stop"}
# Options whose absence from an old run means something else than their default.
BEFORE = {"crop": "none", "sampling": "uniform"}
STRIP = 4  # an input so many times as wide as high is trained on as crops, by default
STRIP_CROP = "100%x32%"

LOSSES = ("ce", "bce", "dice", "focal_tversky", "lovasz")  # what common.losses can sum


@dataclass
class TrainConfig:
    """Options of one training run. A variant subclasses this with its own defaults."""

    variant: ClassVar[str]
    """Name of the variant's package; written to config.json so that the model can be rebuilt."""
    given: ClassVar[frozenset[str] | None] = None
    """Options that the command line names, set by `common.cli.parse`: no option itself."""
    shorthands: ClassVar[dict[str, tuple[str, ...]]] = {
        "size": ("height", "width"),
        "minutes": ("epochs",),
    }
    """Options of the command line that stand for others, which are what config.json keeps."""

    data: Path | None = None
    """Data set root (train_images/ and train.csv). Default: data/severstal, else data/synthetic."""
    out: Path | None = None
    """Run directory. Default: runs/<variant>-<date-time>."""
    init: Path | None = None
    """Run, or published folder, whose weights this one starts from, with a schedule of its own."""
    epochs: int = 40
    """Passes over the training part. Another number on resuming stretches the schedule of lr."""
    minutes: InitVar[float | None] = None
    """In place of --epochs: as many as fit into this time here, by a probe; at least one."""
    batch_size: int = 16
    """Strips in one optimiser step, summed over all devices."""
    lr: float = 3e-3
    """Peak learning rate of AdamW, reached after the warm-up; Muon's is ten times as high."""
    loss: str = "bce+lovasz"
    """Sum of losses by name: ce, bce, dice, focal_tversky, lovasz, joined by '+'."""
    seed: int = 0
    """Seeds weights, order and augmentation. The split does not depend on it."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. auto takes a GPU where there is one."""
    precision: Literal["fp32", "bf16"] | None = None
    """bf16 runs the network in mixed precision. Default: bf16 where it is fast."""
    compile: bool = False
    """Compile the network with torch.compile."""
    workers: int = 0
    """Threads that decode images into the pixel store; 0 takes one a core."""
    limit: int | None = None
    """Use about this many images: whole groups, every part kept non-empty."""
    resume: str | None = None
    """Run directory to continue; 'auto': --out, else the newest unfinished run, else a new one."""
    wandb: Literal["online", "offline", "disabled"] | None = None
    """Weights & Biases mode. Default: WANDB_MODE, else online with a login, else offline."""
    wandb_project: str | None = None
    """Project of the wandb run. Default: WANDB_PROJECT, else steel-defects."""
    wandb_group: str | None = None
    """Group of runs that belong together. Default: WANDB_RUN_GROUP, else steel-defects."""
    height: int = 256
    """Height of the network's input, in pixels."""
    width: int = 1600
    """Width of the network's input, in pixels."""
    size: InitVar[str | None] = None
    """HxW, such as 128x800: --height and --width in one."""
    crop: str | None = None
    """HxW, each in pixels or a share of the input's: train on crops of the strips, as many as make
    up a strip's area for each of a batch; or none. Default: 100%x32% of strips, none of squares."""
    sampling: Literal["uniform", "balanced"] = "balanced"
    """Draw all strips alike, or those with rare classes more often (repeat factors)."""
    base_channels: int = 64
    """Channels of the first stage; the others scale with it."""
    folds: int | None = None
    """Cross-validation: this many parts, at least 3, one of which tests, the next validates."""
    fold: int | None = None
    """With --folds: the part that tests, from 0."""
    share: float = 1.0
    """Train on this share of the train part, whole groups, in as many steps as on all of it."""
    split: Path | None = None
    """split.csv (image,split,group) to use as it is, --limit or not, in place of a new one."""
    store: Path = PROJECT / "data" / ".store"
    """Folder of the decoded pixels (memory-mapped, rebuilt when data or size change)."""
    weight_decay: float = 1e-2
    """Weight decay, on convolution weights only."""
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises linearly; a cosine brings it down."""
    clip: float = 1.0
    """Largest gradient norm (all parameters together)."""
    ema: float = 0.998
    """Decay a step of the averaged weights that are validated and kept; 0 turns averaging off."""
    class_balance: Literal["none", "sqrt"] = "sqrt"
    """Class weights of ce and bce: none, or by the inverse roots of the pixel shares as drawn."""
    sync_bn: bool = False
    """Batch statistics over all devices instead of each device's own share."""

    def __post_init__(self, minutes: float | None, size: str | None) -> None:
        self.minutes = minutes  # kept for a copy with other options too
        if size is not None:
            self.height, self.width = parse_size("--size", size)
        check_at_least(
            self, epochs=1, batch_size=1, height=8, width=8, base_channels=1, workers=0, seed=0,
            limit=3, folds=3, fold=0,
        )  # fmt: skip
        if self.seed >= 2**63:
            raise ValueError(f"--seed must be below 2**63, got {self.seed}")
        for name in ("lr", "clip", "minutes"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{_flag(name)} must be a positive number, got {value}")
        for name, high in {"ema": 1.0, "warmup": 1.0, "weight_decay": math.inf}.items():
            value = getattr(self, name)
            if not 0 <= value < high:
                raise ValueError(f"{_flag(name)} must be at least 0 and below {high}, got {value}")
        if (self.folds is None) != (self.fold is None):
            raise ValueError("--folds and --fold go together")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"--fold must be below --folds {self.folds}, got {self.fold}")
        if not 0 < self.share <= 1:
            raise ValueError(f"--share must be above 0 and at most 1, got {self.share}")
        try:
            loss_names(self.loss)
        except ValueError as error:
            raise ValueError(f"--loss: {error}") from error
        if crop := self.crop_size:
            size = (self.height, self.width)
            if any(part > whole for part, whole in zip(crop, size, strict=True)):
                raise ValueError(
                    f"--crop {self.crop} is larger than the input, {self.height}x{self.width}"
                )
            if any(part == 0 or part % 8 for part in crop):
                raise ValueError(f"--crop {self.crop}: both sides must be multiples of 8")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {self.device!r}")

    @property
    def crops(self) -> str:
        """What is trained on: --crop, else its default."""
        return self.crop or (STRIP_CROP if self.width >= STRIP * self.height else "none")

    @property
    def crop_size(self) -> tuple[int, int] | None:
        """Height and width of the crops; None where whole strips are trained on."""
        if self.crops == "none":
            return None
        return parse_size("--crop", self.crops, whole=(self.height, self.width))

    def given_options(self) -> set[str]:
        """Options that were asked for; without a command line, those that are not the default."""
        if self.given is not None:
            return set(self.given)
        fields = dataclasses.fields(self)
        return {field.name for field in fields if getattr(self, field.name) != field.default}

    def to_json(self) -> dict[str, Any]:
        """The options as plain JSON values, paths as strings; to data and store from the root."""
        values = dataclasses.asdict(self) | {"crop": self.crops}
        found = {key: values[key].absolute() for key in ("data", "store") if values[key]}
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in (values | found).items()
        }

    @classmethod
    def from_json(cls, options: dict[str, Any]) -> TrainConfig:
        """The inverse of `to_json`; ValueError names options that this version does not know."""
        known = {field.name for field in dataclasses.fields(cls)}
        options = _as_now(options)
        if unknown := sorted(set(options) - known):
            raise ValueError(f"unknown options in the run's config.json: {', '.join(unknown)}")
        paths = {"data", "out", "init", "split", "store"}
        return cls(
            **{k: Path(v) if k in paths and v is not None else v for k, v in options.items()}
        )


def completed(options: dict[str, Any]) -> dict[str, Any]:
    """A run's options as this version would have written them: absent ones say what was done then.

    That is their default, or stands in BEFORE. Options that no longer exist are left out where they
    had the value at which they did nothing.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    return defaults | _as_now(options)


def _as_now(options: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in options.items() if (k, v) not in REMOVED.items()}
    return kept | {k: v for k, v in BEFORE.items() if kept.get(k) is None}


def check_at_least(options: object, **least: int) -> None:
    """Raises ValueError where a number among the options, if there is one, is below its least."""
    for name, low in least.items():
        value = getattr(options, name)
        if value is not None and value < low:
            raise ValueError(f"{_flag(name)} must be at least {low}, got {value}")


def loss_names(name: str) -> list[str]:
    """The losses that a name such as "ce+dice" sums. ValueError for an unknown or repeated one."""
    names = name.split("+")
    if not set(names) <= set(LOSSES) or len(set(names)) < len(names):
        raise ValueError(
            f"unknown loss {name!r}: give one of {', '.join(LOSSES)}, "
            "or a sum of different ones such as 'ce+dice'"
        )
    return names


def parse_size(option: str, text: str, whole: tuple[int, int] | None = None) -> tuple[int, int]:
    """Height and width of "HxW". Raises ValueError that names the option.

    whole: height and width of what percentages are of, where those are taken too; a share is
    brought to the nearest multiple of 8 that fits.
    """
    side = r"(\d+)" if whole is None else r"(\d+|(?:100|\d\d?)%)"
    if not (found := re.fullmatch(f"{side}x{side}", text)):
        or_shares = "" if whole is None else ", 100%x32% or none"
        raise ValueError(f"{option} must be HxW, such as 128x800{or_shares}, got {text!r}")
    height, width = whole or (0, 0)
    return _pixels(found[1], height), _pixels(found[2], width)


def _pixels(side: str, whole: int) -> int:
    if not side.endswith("%"):
        return int(side)
    return min(max(1, round(int(side[:-1]) / 100 * whole / 8)), whole // 8) * 8


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
