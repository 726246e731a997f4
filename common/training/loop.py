"""The training loop that all variants share.

    prepare -> for every epoch: train, validate, record -> say where it lies and what comes next

A checkpoint is written after every epoch, and in mid-epoch when a signal asks the run to stop.
Order, augmentation and dropout of a step follow from (seed, epoch, step), so a run that was killed
and resumed writes the same weights and figures as one that was not.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from common import distributed
from common.config import TrainConfig
from common.devices import pick_device
from common.errors import Interrupted, UserError
from common.machine import peak_memory
from common.metrics import merit
from common.progress import tqdm
from common.training import console, folder, record
from common.training.memory import keep_freed_memory, no_memory_said
from common.training.setup import set_up
from common.training.signals import StopRequest, end_on_sigterm, stop_on_signal
from common.training.state import Training
from common.training.step import ema_decay, learning_rate, optimise, update_ema
from common.training.validation import validate

FLUSH = 10  # steps between two looks at a GPU's losses


def fit(config: TrainConfig) -> Path:
    """Trains the variant that `config` belongs to and returns the run directory.

    Raises UserError for bad data or options (before anything is written), for a loss that is not
    finite, for a disk that refuses, and where memory runs out; Interrupted after a signal.
    """
    device = pick_device(config.device)
    keep_freed_memory()
    with distributed.process_group(device), end_on_sigterm(), folder.claimed(config) as place:
        with no_memory_said(lambda: _no_room(device)):
            training = set_up(*place, device)
        config = training.config
        try:
            again = f"continue with {training.resume_command}"
            with (
                distributed.lost_peer_said(again),
                no_memory_said(lambda: _no_memory(training)),
                stop_on_signal() as stop,
            ):
                for _ in range(training.progress.epoch, config.epochs):
                    _run_epoch(training, stop)
        except (UserError, Interrupted, KeyboardInterrupt):
            training.tracker.finish(exit_code=1)
            raise
        training.tracker.finish()
        console.closing(training)
    return training.folder


def _run_epoch(training: Training, stop: StopRequest) -> None:
    progress, config = training.progress, training.config
    if training.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(training.device)
    start = time.perf_counter()
    images, waited = _train_epoch(training, stop)
    seconds = time.perf_counter() - start
    row = {
        "epoch": progress.epoch,
        "train/loss": progress.loss_sum / progress.step,
        **validate(training, training.val),
        "lr": training.optimiser.lr,
        "images_per_second": images / seconds,
        "data_wait_fraction": waited / seconds,
        "epoch_seconds": time.perf_counter() - start,
        "peak_memory_mb": _peak_memory(training.device) / 2**20,
    }
    progress.history.append(row)
    improved = progress.best_epoch < 0 or merit(row) > merit(progress.history[progress.best_epoch])
    if improved:
        progress.best_epoch = progress.epoch
    progress.epoch += 1
    progress.step, progress.loss_sum = 0, 0.0
    if distributed.is_main():
        record.record(training, row, improved)
    training.tracker.log_epoch(row, progress.history[progress.best_epoch])
    data = training.data
    console.epoch(row, config.epochs, improved, data.labels.class_titles, data.val_classes)


def _train_epoch(training: Training, stop: StopRequest) -> tuple[int, float]:
    """The rest of the epoch from `progress.step` on; returns (images seen, seconds waited)."""
    config, progress, loader = training.config, training.progress, training.train
    # On a CPU a look costs nothing; a GPU is asked only now and then.
    every = 1 if training.device.type == "cpu" else FLUSH
    steps, total = len(loader), len(loader) * config.epochs
    training.network.train()
    loader.set_epoch(progress.epoch, progress.step)
    first, waited = progress.step, 0.0
    pending: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    bar = tqdm(
        total=steps, initial=first, desc=f"epoch {progress.epoch + 1}/{config.epochs}",
        unit="step", leave=False, disable=not distributed.is_main(),
    )  # fmt: skip
    begun = time.perf_counter()
    batches = iter(loader)
    for step in range(first, steps):
        asked = time.perf_counter()
        images, targets = next(batches)
        waited += time.perf_counter() - asked
        done = progress.epoch * steps + step
        lr = learning_rate(done, total, config.lr, config.warmup)
        training.optimiser.lr = lr
        _seed_step(config.seed, done)
        loss, bad = optimise(
            training.network, training.criterion, training.optimiser, images, targets,
            clip=config.clip, mixed_precision=training.mixed_precision,
        )  # fmt: skip
        update_ema(training.average, training.model, ema_decay(done, config.ema))
        pending.append((step, loss, bad))
        if len(pending) == every or step == steps - 1:
            value = _flush(training, pending, lr)
            pending.clear()
            rate = (step + 1 - first) * loader.batch_size / (time.perf_counter() - begun)
            bar.set_postfix(loss=f"{value:.4f}", images=f"{rate:.1f}/s", refresh=False)
        bar.update()
        if stop.agreed(done, every):
            if pending:
                _flush(training, pending, lr)
            bar.close()
            _save_and_leave(training, stop.signum)
    bar.close()
    return (steps - first) * loader.batch_size, waited


def _save_and_leave(training: Training, signum: int) -> None:
    if distributed.is_main():
        record.save_state(training)
        training.tracker.finish(exit_code=1)
    # The first process that leaves makes torchrun end the others: all wait until it may.
    distributed.barrier()
    raise Interrupted(
        f"stopped by {signal.Signals(signum).name} in epoch {training.progress.epoch + 1}, after "
        f"step {training.progress.step}; everything is saved.\n"
        f"continue with: {training.resume_command}",
        signum,
    )


def _flush(
    training: Training, pending: list[tuple[int, torch.Tensor, torch.Tensor]], lr: float
) -> float:
    """Brings losses to the host, checks and logs them; returns the last one."""
    losses = torch.stack([torch.stack((loss.float(), bad)) for _, loss, bad in pending])
    losses = distributed.sum_over_ranks(losses).div_(distributed.world_size()).tolist()
    progress, steps = training.progress, len(training.train)
    for (step, *_), (loss, bad) in zip(pending, losses, strict=True):
        if bad:
            _refuse_step(training, step, loss)
        progress.loss_sum += loss
        progress.step = step + 1
        training.tracker.log_step(progress.epoch * steps + step, loss, lr)
    return losses[-1][0]


def _refuse_step(training: Training, step: int, loss: float) -> NoReturn:
    """Says which images gave a loss or gradient that is not finite."""
    names = dict.fromkeys(training.train.batch_names(step))  # crops of one image name it once
    raise UserError(
        f"epoch {training.progress.epoch + 1}, step {step + 1}: loss {loss}, or a gradient, is not "
        f"finite; the weights were not updated.\nImages of the batch: {', '.join(names)}\n"
        f"{_kept(training)}\nTry a lower --lr or --precision fp32."
    )


def _no_room(device: torch.device) -> str:
    return (
        f"the memory of {device} has no room for the network and its data. Free it of other "
        "processes, or take a lower --base-channels or another --device."
    )


def _no_memory(training: Training) -> str:
    config = training.config
    crop = f" as crops of {config.crops}" if config.crop_size else ""
    return (
        f"the memory of {training.device} does not hold a step of {config.batch_size} strips of "
        f"{config.height}x{config.width}{crop} in {config.precision} "
        f"(epoch {training.progress.epoch + 1}).\n{_kept(training)}\n"
        "Begin a run with a lower --batch-size, --height and --width or --base-channels, or go on "
        f"where there is more memory: {training.resume_command}"
    )


def _kept(training: Training) -> str:
    if epoch := training.progress.epoch:
        return f"The state after epoch {epoch} is kept in {training.folder / 'last.pt'}."
    return "No epoch was finished before."


def _seed_step(seed: int, step: int) -> None:
    """Seeds dropout from the step and the process, so that a resumed run draws the same."""
    entropy = np.random.SeedSequence((seed, step, distributed.rank()))
    torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))


def _peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory()
