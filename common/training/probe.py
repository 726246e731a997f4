"""How many epochs fit into a time: some steps and some of the validation, timed beforehand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, islice, repeat

import torch

from common import distributed
from common.devices import clock
from common.training import console
from common.training.memory import no_memory_said
from common.training.state import Learner
from common.training.step import optimise, update_ema
from common.training.validation import validate

LONGEST = 10.0  # seconds that steps are timed for, and validation
SHARE = 0.02  # of the time that is planned, where that is less


def epochs_within(minutes: float, learner: Learner) -> int:
    """As many epochs as fit into `minutes` on this machine, validation counted; at least 1.

    What is made before the first step (pixel stores, a compiled network) takes no part of the time.
    The learner is trained on the way: it is one to throw away. All processes get one number. Raises
    UserError where memory runs out.
    """
    config, train, val = learner.config, learner.train, learner.val
    budget = min(LONGEST, SHARE * 60 * minutes)
    message = (
        f"the memory of {learner.device} does not hold a step of {config.batch_size} strips of "
        f"{config.height}x{config.width}. Lower --batch-size, --size or --base-channels."
    )
    with no_memory_said(lambda: message):
        step = _seconds_each(lambda count: _train(learner, count), learner.device, budget)
        check = _seconds_each(
            lambda count: validate(learner, islice(chain.from_iterable(repeat(val)), count)),
            learner.device, budget,
        )  # fmt: skip
    epoch = len(train) * step + len(val) * check
    epochs = distributed.from_main(max(1, int(60 * minutes / epoch)))
    console.say(
        f"--minutes {minutes:g}: {epochs} epochs, each of {len(train)} steps of {step:.3g} s and "
        f"{len(val)} batches of validation of {check:.3g} s: {epoch:.3g} s"
    )
    return epochs


def _train(learner: Learner, count: int) -> None:
    """Some optimiser steps, through as many epochs as they fill."""
    config = learner.config
    learner.network.train()
    for images, targets in islice(chain.from_iterable(repeat(learner.train)), count):
        optimise(
            learner.network, learner.criterion, learner.optimiser, images, targets,
            clip=config.clip, mixed_precision=learner.mixed_precision,
        )  # fmt: skip
        update_ema(learner.average, learner.model, config.ema)


def _seconds_each(work: Callable[[int], object], device: torch.device, budget: float) -> float:
    """Mean seconds of one of the pieces that `work(count)` does, in about `budget` seconds."""

    def seconds(count: int) -> float:
        begun = clock(device)
        work(count)
        return clock(device) - begun

    seconds(1)  # the first one compiles, allocates, picks kernels
    one = seconds(1)
    count = distributed.max_over_ranks(int(budget / one))
    return seconds(count) / count if count > 1 else one
