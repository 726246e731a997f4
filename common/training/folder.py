"""Which folder a training has: one reserved by making it, or an earlier run's; nobody else's.

A run's folder is a run directory once config.json lies in it, which comes last. Before, it is a
reservation: a lock that its process holds, and what it may have begun to write. A process that was
killed leaves the lock to whoever comes next.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from common import distributed, runs
from common.checkpoint import PUBLISHED
from common.config import PROJECT, TrainConfig
from common.errors import UserError
from common.locks import hold
from common.runs import LOCK, Run
from common.training import console

RUNS = PROJECT / "runs"
BEGUN = ("split.csv", ".split.csv.*", "seen.csv", ".seen.csv.*", ".config.json.*")
# A resumed run keeps its options but for these: where things lie, what computes, and how long.
# Another number of epochs stretches the learning rate's schedule; the others leave the training
# as it was, but for rounding.
LASTING = ("data", "epochs", "device", "workers", "wandb", "compile", "store")
MAY_CHANGE = {"resume", "out", *LASTING}

Choice = tuple[TrainConfig, Path, bool]


@contextmanager
def claimed(config: TrainConfig) -> Iterator[Choice]:
    """Where this training goes: (config, folder, whether it continues an earlier run).

    No other process trains there meanwhile. A continued run takes its options from its
    config.json. A new folder is there at once, and gone again if the context is left before it has
    become a run directory. Raises UserError where --resume names no run or one that is being
    trained, where an option contradicts the run's, and where --out already holds something or
    cannot be written.
    """
    with ExitStack() as held:
        chosen = None
        if distributed.is_main():
            chosen = _earlier(config, held) or _reserve(config, held)
        yield distributed.from_main(chosen)


def claim(folder: Path) -> AbstractContextManager:
    """Keeps other processes from training in a folder, until the context is left.

    Raises UserError where one does, and where the folder cannot be written.
    """
    try:
        return hold(folder / LOCK, wait=False)
    except BlockingIOError:
        raise UserError(f"another process is training in {folder}.") from None
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def _earlier(config: TrainConfig, held: ExitStack) -> Choice | None:
    """The run to continue, claimed; None where --resume asks for none, or auto finds none."""
    if config.resume is None:
        return None
    if config.resume == "auto" and config.out is None:
        return _newest_unfinished(config, held)
    if config.resume == "auto" and not (config.out / "config.json").exists():
        return None
    folder = config.out if config.resume == "auto" else Path(config.resume)
    merged = _merge(config, runs.load(folder))
    held.enter_context(claim(folder))
    return merged, folder, True


def _newest_unfinished(config: TrainConfig, held: ExitStack) -> Choice | None:
    """Of the runs in their default folder that this one could continue; the others are left."""
    candidates = RUNS.glob(f"{config.variant}-*/config.json")
    for path in sorted(candidates, key=lambda p: p.stat().st_mtime, reverse=True):
        folder = path.parent
        try:
            run = runs.load(folder)
            done = len(run.metrics()) if (folder / "metrics.csv").exists() else 0
            if done and done >= run.options.get("epochs", done):
                continue
            merged = _merge(config, run)
            held.enter_context(claim(folder))
        except UserError as error:
            console.say(f"--resume auto leaves {folder}: {error}")
        else:
            return merged, folder, True
    return None


def _reserve(config: TrainConfig, held: ExitStack) -> Choice:
    """A new run's folder, made and claimed."""
    folder = config.out or RUNS
    try:
        made = _make(folder)
        held.callback(_remove, made)
        if config.out is None:
            folder = _make_default(RUNS / f"{config.variant}-{time.strftime('%Y%m%d-%H%M%S')}")
            held.callback(_remove, [folder])
        _refuse_used(folder)
        held.enter_context(claim(folder))
        _refuse_used(folder)  # its process may have ended only now
    except OSError as error:
        raise UserError(
            f"cannot make the run directory {folder}: {error.strerror or error}\n"
            "Name another with --out."
        ) from error
    for path in _begun(folder):
        path.unlink()
    held.callback(_abandon, folder)
    return dataclasses.replace(config, out=folder), folder, False


def _make(folder: Path) -> list[Path]:
    """Makes a folder, where a link leads too; returns the folders that were not there, it first."""
    folder = Path(os.path.realpath(folder))
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _make_default(folder: Path) -> Path:
    """Makes the folder, or the first one with a number behind its name that is not there yet."""
    for number in count(1):
        numbered = folder.with_name(f"{folder.name}-{number}") if number > 1 else folder
        with suppress(FileExistsError):
            numbered.mkdir()
            return numbered
    raise AssertionError  # numbers do not end


def _refuse_used(folder: Path) -> None:
    """Raises UserError where a folder holds more than the reservation of a process."""
    if {path.name for path in folder.iterdir()} - {LOCK, *(path.name for path in _begun(folder))}:
        raise UserError(
            f"--out {folder} already holds files. Name another folder, or continue that run with "
            f"--resume {shlex.quote(str(folder))}."
        )


def _begun(folder: Path) -> list[Path]:
    """What was written of a run directory that has no config.json yet, under a lock of ours."""
    if not (folder / LOCK).exists() or (folder / "config.json").exists():
        return []
    return [path for name in BEGUN for path in folder.glob(name)]


def _abandon(folder: Path) -> None:
    """Removes a reservation that has come to nothing."""
    if not (folder / "config.json").exists():
        for path in (*_begun(folder), folder / LOCK):
            with suppress(OSError):
                path.unlink()


def _remove(folders: list[Path]) -> None:
    """Removes the folders that are empty, inner ones first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _merge(config: TrainConfig, run: Run) -> TrainConfig:
    """The run's options, with those given on the command line that may change."""
    if (run.path / PUBLISHED).exists():
        raise UserError(f"--resume {run.path} is a published folder, not a run: nothing to resume.")
    if run.variant != config.variant:
        raise UserError(f"--resume {run.path} is a run of {run.variant}, not of {config.variant}.")
    try:
        saved = type(config).from_json(run.options)
    except (TypeError, ValueError) as error:
        raise UserError(f"--resume {run.path}: {error}") from error
    changes, conflicts = {}, []
    lasting = {"epochs"} if config.minutes is not None else set()  # what a probe has said before
    for name in sorted(config.given_options() - lasting):
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
            + "\nLeave them out, or begin a new run: name its folder with --out, without --resume."
        )
    if (root := Path(run.data["root"])).is_dir():  # --data may have been relative to elsewhere
        changes.setdefault("data", root)
    kept = {"out": run.path, "split": run.path / "split.csv"}
    return dataclasses.replace(saved, **changes | kept)
