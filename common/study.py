"""Train variants at many sizes, over folds, seeds and shares of the labels, and compare them all.

    python -m common.study --data data/severstal --out studies/sizes --folds 5 --epochs 40 \\
        --variants unet_64x400 modified_unet@64x512 modified_unet@256x1600 --seeds 0 1
    python -m common.study --data data/severstal --out studies/time --minutes 30 \\
        --variants unet_64x400 modified_unet -- --batch-size 8

Trains what is not yet trained, each in a run directory in --out, and writes the comparison into
its folder report. Options behind -- go to every training, --device and --wandb to the comparison
too. Stopped at any time, the same command goes on; given in two places at once, each takes other
trainings.
"""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from common import compare
from common.cli import run
from common.config import check_at_least, parse_size
from common.errors import Interrupted, UserError
from common.files import publish_json
from common.locks import hold

if TYPE_CHECKING:
    from common.training.jobs import Job

# Options of train.py that a study gives itself.
OWN = {
    "data", "epochs", "fold", "folds", "height", "minutes", "out", "resume", "seed", "share",
    "size", "split", "width",
}  # fmt: skip


@dataclass
class Config:
    """Train what is not yet trained, compare all, write the page."""

    data: Path
    """Data set root."""
    out: Path
    """Folder of the study: a run directory for each training, their logs, and report."""
    variants: tuple[str, ...]
    """What to train: a variant at its own size, or at another as VARIANT@HxW."""
    seeds: tuple[int, ...] = (0,)
    """Trainings of each, but for the seed."""
    folds: int | None = None
    """Cross-validation: this many parts, each of which tests once."""
    split: Path | None = None
    """split.csv that all trainings use, in place of folds. Default: the ordinary split."""
    epochs: int | None = None
    """Passes over the training part. Default: that of train.py."""
    minutes: float | None = None
    """In place of --epochs: as many as fit into this time, by one probe a variant and share."""
    shares: tuple[float, ...] = (1.0,)
    """Shares of the train part to train on."""
    jobs: int = 1
    """Trainings at a time; each has a GPU of its own where there are several."""
    print: bool = False
    """Print the commands of what is not yet trained, one a line, and train nothing."""
    train: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Behind --: further options of train.py, for every training."""

    def __post_init__(self) -> None:
        for name in ("variants", "seeds", "shares"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"--{name} needs at least one value, none of them twice")
        for variant in self.variants:
            if "@" in variant:
                parse_size(f"--variants {variant.partition('@')[0]}@", variant.partition("@")[2])
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("give --epochs or --minutes")
        if self.folds is not None and self.split is not None:
            raise ValueError("give --folds or --split")
        check_at_least(self, folds=3, epochs=1, jobs=1)
        if min(self.seeds) < 0:
            raise ValueError("--seeds must be at least 0")
        if not all(0 < share <= 1 for share in self.shares):
            raise ValueError("--shares must be above 0 and at most 1")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise ValueError(f"--minutes must be a positive number, got {self.minutes}")
        words = (word.partition("=")[0] for word in self.train if word.startswith("--"))
        if own := sorted({word for word in words if word[2:].replace("-", "_") in OWN}):
            raise ValueError(f"{', '.join(own)} behind --: the study gives that itself")


@dataclass(frozen=True)
class Planned:
    """One training of a study."""

    variant: str
    """As in --variants."""
    share: float
    folder: Path
    command: tuple[str, ...]
    """Without the number of epochs and the run directory."""

    @property
    def recipe(self) -> str:
        """What has one number of epochs, with --minutes too."""
        return f"{self.variant} share {self.share}"

    def job(self, epochs: int | None) -> Job:
        """What trains it. epochs: None for train.py's own number."""
        from common.training.jobs import Job  # not above: PyTorch takes seconds to load

        where = ("--out", str(self.folder), "--resume", "auto")
        how_long = () if epochs is None else ("--epochs", str(epochs))
        return Job(self.folder, self.variant, (*self.command, *where, *how_long), epochs)


def plan(config: Config) -> list[Planned]:
    """All trainings, those of one seed and fold together: what comes first can be compared.

    Raises UserError where a variant does not exist.
    """
    for variant in config.variants:
        name = variant.partition("@")[0]
        if not name.isidentifier() or find_spec(name) is None or not find_spec(f"{name}.train"):
            raise UserError(f"--variants {variant}: there is no variant {name!r}")
    folds = range(config.folds) if config.folds else [None]
    found = []
    order = itertools.product(config.seeds, folds, config.shares, config.variants)
    for seed, fold, share, variant in order:
        name, _, size = variant.partition("@")
        options = [*config.train, "--data", str(config.data), "--seed", str(seed)]
        options += ["--size", size] if size else []
        options += ["--share", str(share)] if share < 1 else []
        options += ["--split", str(config.split)] if config.split else []
        options += ["--folds", str(config.folds), "--fold", str(fold)] if config.folds else []
        parts = [
            variant,
            f"share{share}" if share < 1 else "",
            f"fold{fold}of{config.folds}" if config.folds else "",
            f"seed{seed}",
        ]
        folder = config.out / "-".join(filter(None, parts))
        command = (sys.executable, "-m", f"{name}.train", *options)
        found.append(Planned(variant, share, folder, command))
    return found


def study(config: Config) -> int:
    """Trains and compares, or prints how; returns the exit code.

    Raises UserError where --out belongs to another study or cannot be written, and where a training
    failed; Interrupted after a signal, when all have saved.
    """
    from common.training.jobs import reached, train_all

    planned = plan(config)
    try:
        (config.out / "logs").mkdir(parents=True, exist_ok=True)
        epochs = _epochs(config, planned)
        jobs = [one.job(epochs.get(one.recipe, config.epochs)) for one in planned]
        if not config.print:
            train_all(jobs, config.jobs)
            return _report(config, jobs)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or config.out}: {error.strerror or error}"
        ) from error
    for job in jobs:
        if not reached(job).finished:
            print(shlex.join(job.command))
    return 0


def _epochs(config: Config, planned: list[Planned]) -> dict[str, int]:
    """The number of epochs of each recipe that was probed, from study.json or found now.

    study.json also says what all trainings of a study share; another study is refused.
    """
    file = config.out / "study.json"
    shared = {
        "split": None if config.split is None else str(config.split),
        "epochs": config.epochs,
        "minutes": config.minutes,
        "train": list(config.train),
    }
    with hold(config.out / "logs" / "study.lock"):
        saved = json.loads(file.read_text()) if file.exists() else shared | {"probed": {}}
        for name, value in shared.items():
            if saved[name] != value:
                options = "the options behind --" if name == "train" else f"--{name}"
                raise UserError(
                    f"{config.out} holds a study with {options} {saved[name]}, not {value}. "
                    "Name another folder with --out."
                )
        publish_json(file, saved)
        for one in planned if config.minutes is not None else ():
            if one.recipe not in saved["probed"]:
                saved["probed"][one.recipe] = _probe(one, config.minutes, config.out / "logs")
                publish_json(file, saved)
    return saved["probed"]


def _probe(one: Planned, minutes: float, logs: Path) -> int:
    """The epochs that fit into the time: of a training that ends when it has found them."""
    from common import runs
    from common.training.jobs import last_words, run_until
    from common.training.signals import stop_on_signal

    folder, log = logs / "probe", logs / "probe.log"
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{one.recipe}: how many epochs fit into {minutes:g} min?", file=sys.stderr)
    options = ("--out", str(folder), "--minutes", str(minutes), "--wandb", "disabled")
    with stop_on_signal() as stop:
        run_until(
            lambda: bool(stop.signum) or (folder / "config.json").exists(),
            (*one.command, *options), log, {},
        )  # fmt: skip
    if stop.signum:
        raise Interrupted("stopped before the trainings began", stop.signum)
    if not (folder / "config.json").exists():
        raise UserError(f"{one.recipe} cannot be trained:\n{last_words(log)}")
    epochs = runs.load(folder).options["epochs"]
    shutil.rmtree(folder)
    print(f"{one.recipe}: {epochs} epochs", file=sys.stderr)
    return epochs


def _report(config: Config, jobs: list[Job]) -> int:
    """Compares all runs; where another process of the study does that meanwhile, waits for it."""
    report, asked = config.out / "report", time.time()
    with hold(config.out / "logs" / "report.lock"):
        results = report / "results.json"
        if results.exists() and results.stat().st_mtime > asked:
            print(f"report: {(report / 'index.html').resolve()}")
            return 0
        folders = [str(job.folder) for job in jobs]
        options = ["--data", str(config.data), "--out", str(report), *_for_both(config.train)]
        return compare.main([*folders, *options])


def _for_both(train: Sequence[str]) -> list[str]:
    """Of the options of trainings those that a comparison takes too."""
    found = []
    for word, following in itertools.zip_longest(train, train[1:]):
        name, equals, _ = word.partition("=")
        if name in ("--device", "--wandb"):
            found += [word] if equals else [word, following]
    return found


def main(argv: list[str] | None = None) -> int:
    """Trains and compares; returns the exit code."""
    return run(study, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
