"""Weights & Biases: the same figures as metrics.csv, losses a step, and mask overlays.

A training never depends on it, nor waits for it: without a login or a server it is recorded
offline, and whatever else wandb reports, the run says so once and goes on without.

What an option names comes first, then wandb's own variables and settings files, then the defaults
that stand here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import wandb
from tqdm import tqdm

from common.config import TrainConfig
from common.distributed import is_main

PROJECT = GROUP = "steel-defects"
PATIENCE = 30  # seconds that wandb may take to begin, and for its last upload
# Quiet, and never waiting for long: what is not uploaded stays where it was recorded.
SETTINGS = {
    "silent": True, "console": "off", "init_timeout": PATIENCE, "finish_timeout": PATIENCE,
}  # fmt: skip


@contextmanager
def guard(consequence: str) -> Iterator[None]:
    """Says what wandb raised and what follows from it, instead of letting it reach the work."""
    try:
        yield
    # A tracker may never stop a training, and what wandb lets through is not documented.
    except Exception as error:  # noqa: BLE001
        tqdm.write(f"wandb failed and {consequence}: {error}")


def settings() -> wandb.Settings:
    """SETTINGS, but for those that the user's environment names."""
    ours = {name: v for name, v in SETTINGS.items() if f"WANDB_{name.upper()}" not in os.environ}
    return wandb.Settings(**ours)


def default_mode() -> str:
    """The mode of a run for which no option names one; for scripts that ask before training."""
    return choose_mode(None)[0]


def choose_mode(asked: str | None) -> tuple[str, str]:
    """The mode of a run, and why: online only where wandb finds a login for its server.

    asked: online, offline, disabled, or None for what WANDB_MODE and wandb's settings files say.
    """
    if asked in ("offline", "disabled"):
        return asked, "--wandb"
    own = wandb.setup(settings()).settings
    if asked:  # or `login` would look for none where WANDB_MODE says offline
        wandb.setup(wandb.Settings(mode=asked))
    if own.mode in ("offline", "dryrun", "disabled"):
        return own.mode, "as WANDB_MODE or a settings file of wandb says"
    if problem := login_problem():
        return "offline", problem
    return own.mode, f"logged in to {own.base_url}"


def login_problem() -> str | None:
    """Why wandb has no login for its server, None where it has; no server is asked."""
    try:
        if wandb.login(prompt=False, verify=False):
            return None
    except wandb.errors.AuthenticationError as error:  # a key of another form
        return str(error)
    return f"no login to {wandb.setup().settings.base_url}: `wandb login` makes one"


def new_run_id() -> str:
    """What a new run is called by wandb: as the agent of a sweep says, else at random."""
    return os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)


def begin(
    asked: str | None,
    folder: Path,
    project: str | None,
    group: str | None,
    job_type: str,
    **options: Any,
) -> wandb.Run | None:
    """A wandb run that lies in `folder`, offline where its server cannot be had; says its mode.

    asked, project, group: as options name them, or None. options: more of `wandb.init`. Returns
    None where wandb is disabled.
    """
    mode, why = choose_mode(asked)
    tqdm.write(f"wandb: {mode} ({why})")
    if mode == "disabled":
        return None
    own = wandb.setup().settings
    place = Path(os.environ.get("WANDB_DIR") or folder)
    options |= {
        "project": project or own.project or PROJECT,
        "group": group or own.run_group or GROUP,
        "name": own.run_name or folder.name,
        "job_type": own.run_job_type or job_type,
        "dir": place,
        "reinit": "create_new",  # a run apart from `wandb.run`, beside which `login` finds nothing
        "settings": settings(),
    }
    try:
        return wandb.init(mode=mode, **options)
    except wandb.Error as error:
        if mode != "online":
            raise
        kept = place / "wandb" / "offline-run-*"
        tqdm.write(f"wandb: {error}\nwandb: offline instead; upload it later: wandb sync {kept}")
        wandb.teardown()  # or its service still holds the run's id
        return wandb.init(mode="offline", **options)


def class_labels(titles: Sequence[str]) -> dict[int, str]:
    """The legend of masks whose defect classes are called so, from 1 on."""
    return {0: "background"} | {k: f"class {title}" for k, title in enumerate(titles, start=1)}


def picture(
    name: str, image: np.ndarray, label_maps: dict[str, np.ndarray], labels: dict[int, str]
) -> wandb.Image:
    """An image (H, W) uint8 with label maps of its size, by their names, that can be switched.

    labels: of `class_labels`.
    """
    masks = {key: {"mask_data": one, "class_labels": labels} for key, one in label_maps.items()}
    return wandb.Image(image, caption=name, masks=masks)


class Tracker:
    """One wandb run of one training; does nothing off rank 0, when disabled or after a failure.

    It lives on a thread of its own, to which the training hands what is to be logged: no step
    waits for a server, or for one that does not answer.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        run_id: str,
        parameters: int,
        details: dict[str, Any],
    ):
        self._columns = {
            "size": f"{config.height}x{config.width}", "parameters": parameters,
            "seed": config.seed, "fold": config.fold,
        }  # fmt: skip
        self._work: SimpleQueue[Callable[[wandb.Run], object] | None] = SimpleQueue()
        self._thread = Thread(
            target=self._serve,
            args=(config.wandb, folder, config.wandb_project, config.wandb_group, "train"),
            kwargs={
                "id": run_id,
                "resume": "allow",
                "config": {
                    "variant": config.variant,
                    **config.to_json(),
                    **self._columns,
                    **details,
                },
            },
            daemon=True,
        )
        if is_main():
            self._thread.start()

    def log_step(self, step: int, loss: float, lr: float) -> None:
        """One optimiser step, counted over the whole training."""
        values = {"step": step, "train/step_loss": loss, "train/step_lr": lr}
        self._later(lambda run: run.log(values))

    def log_epoch(self, row: dict[str, float], best: dict[str, float]) -> None:
        """The row that metrics.csv gets. best: that of the best epoch, which the summary keeps."""

        def log(run: wandb.Run) -> None:
            run.log(row)
            run.summary.update(best | self._columns)  # over the last row, which `log` left there

        self._later(log)

    def log_samples(
        self,
        epoch: int,
        samples: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
        titles: Sequence[str],
    ) -> None:
        """Images with switchable masks: name -> (image, truth, prediction), each (H, W) uint8.

        titles: what to call the defect classes, in order.
        """
        names = class_labels(titles)

        def log(run: wandb.Run) -> None:
            pictures = [
                picture(name, image, {"truth": truth, "prediction": prediction}, names)
                for name, (image, truth, prediction) in samples.items()
            ]
            run.log({"samples": pictures, "epoch": epoch})

        self._later(log)

    def finish(self, exit_code: int = 0) -> None:
        """Waits for what is still to be logged and uploaded, within wandb's own limits."""
        self._later(lambda run: run.finish(exit_code=exit_code))
        self._later(None)
        if self._thread.is_alive():
            self._thread.join(3 * PATIENCE)

    def _later(self, work: Callable[[wandb.Run], object] | None) -> None:
        if self._thread.is_alive():
            self._work.put(work)

    def _serve(self, *where: Any, **options: Any) -> None:
        """Opens the run, then does what is handed over, until None is."""
        with guard("is off for the rest of this run"):
            run = begin(*where, **options)
            if run is None:
                return
            # Steps and epochs advance on axes of their own: wandb's step counter cannot go back.
            run.define_metric("step")
            run.define_metric("epoch")
            run.define_metric("train/step_*", step_metric="step")
            for pattern in ("val/*", "train/loss", "lr", "images_per_second", "data_wait_fraction"):
                run.define_metric(pattern, step_metric="epoch")
            for work in iter(self._work.get, None):
                work(run)
