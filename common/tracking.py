"""Weights & Biases: the same figures as metrics.csv, losses a step, and mask overlays.

A training never depends on it: without a server it is recorded offline, and whatever else wandb
reports, the run says so once and goes on without.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from tqdm import tqdm
from wandb.sdk.lib.service.service_connection import WandbApiFailedError, WandbAttachFailedError
from wandb.sdk.lib.service.service_token import WandbServiceConnectionError
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

from common.config import TrainConfig
from common.distributed import is_main

HOST = "api.wandb.ai"
# What wandb raises: its own errors, those of its service, which are no wandb.Error, and what file
# handling and checks of values let through.
FAILURES = (
    wandb.Error, HandleAbandonedError, MailboxClosedError, ServerResponseError,
    WandbApiFailedError, WandbAttachFailedError, WandbServiceConnectionError,
    OSError, RuntimeError, ValueError, TypeError,
)  # fmt: skip
PATIENCE = 30  # seconds that wandb may take to begin, and for its last upload


def has_key() -> bool:
    """Whether the user has set up an API key: WANDB_API_KEY, or an entry in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators(HOST) is not None
    except (OSError, NetrcParseError):
        return False


def default_mode() -> str:
    """What WANDB_MODE says, else online where there is an API key, else offline."""
    return os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")


def settings() -> wandb.Settings:
    """Quiet, and never waiting for long: what is not uploaded stays in the run directory."""
    return wandb.Settings(
        silent=True, console="off", init_timeout=PATIENCE, finish_timeout=PATIENCE
    )


def begin(mode: str, folder: Path, **options: Any) -> wandb.Run:
    """A wandb run that lies in `folder`, offline where its server cannot be had.

    mode: online or offline. options: of `wandb.init`. Raises one of FAILURES where even that fails.
    """
    options |= {
        "project": "steel-defects", "name": folder.name, "dir": folder, "settings": settings(),
    }  # fmt: skip
    try:
        return wandb.init(mode=mode, **options)
    except FAILURES as error:
        if mode == "offline":
            raise
        kept = folder / "wandb" / "offline-run-*"
        tqdm.write(f"wandb: {error}\nrecording offline; upload it later: wandb sync {kept}")
        wandb.teardown()  # or its service still holds the run's id
        return wandb.init(mode="offline", **options)


def class_labels(titles: Sequence[str]) -> dict[int, str]:
    """The legend of masks whose defect classes are called so, from 1 on."""
    return {0: "background"} | {k: f"class {title}" for k, title in enumerate(titles, start=1)}


class Tracker:
    """One wandb run of one training; does nothing off rank 0, when disabled or after a failure."""

    def __init__(self, config: TrainConfig, folder: Path, run_id: str, details: dict[str, Any]):
        self._run = None
        mode = config.wandb or default_mode()
        if mode == "disabled" or not is_main():
            return
        with self._guard():
            self._run = begin(
                mode,
                folder,
                group=config.wandb_group,
                id=run_id,
                resume="allow",
                job_type="train",
                config={"variant": config.variant, **config.to_json(), **details},
            )
            # Steps and epochs advance on axes of their own: wandb's step counter cannot go back.
            self._run.define_metric("step")
            self._run.define_metric("epoch")
            self._run.define_metric("train/step_*", step_metric="step")
            for pattern in ("val/*", "train/loss", "lr", "images_per_second", "data_wait_fraction"):
                self._run.define_metric(pattern, step_metric="epoch")

    def log_step(self, step: int, loss: float, lr: float) -> None:
        """One optimiser step, counted over the whole training."""
        self._log({"step": step, "train/step_loss": loss, "train/step_lr": lr})

    def log_epoch(self, row: dict[str, float]) -> None:
        """The row that metrics.csv gets."""
        self._log(row)

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
        with self._guard():
            if self._run is None:
                return
            pictures = [
                wandb.Image(
                    image,
                    caption=name,
                    masks={
                        "truth": {"mask_data": truth, "class_labels": names},
                        "prediction": {"mask_data": prediction, "class_labels": names},
                    },
                )
                for name, (image, truth, prediction) in samples.items()
            ]
            self._run.log({"samples": pictures, "epoch": epoch})

    def finish(self, exit_code: int = 0) -> None:
        with self._guard():
            if self._run is not None:
                self._run.finish(exit_code=exit_code)
                self._run = None

    def _log(self, values: dict[str, float]) -> None:
        with self._guard():
            if self._run is not None:
                self._run.log(values)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turns tracking off at the first failure instead of letting it reach the training."""
        try:
            yield
        except FAILURES as error:
            self._run = None
            tqdm.write(f"wandb failed and is off for the rest of this run: {error}")
