"""From a config to a training that is ready to run, new or resumed."""

from __future__ import annotations

import copy
import math
from importlib import import_module
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from common import checkpoint, distributed, runs
from common.blocks import parameters
from common.config import TrainConfig
from common.dataset.loader import Loader
from common.dataset.prepare import Data
from common.devices import check_compiler, memory_format, training_precision
from common.errors import UserError
from common.losses import build_loss, class_weights
from common.machine import versions
from common.metrics import baselines
from common.tracking import Tracker, new_run_id
from common.training import console, probe, record
from common.training.state import Learner, Progress, Training
from common.training.step import MuonAdamW
from common.training.sync_bn import synchronise_batch_norms


def set_up(config: TrainConfig, folder: Path, resumed: bool, device: torch.device) -> Training:
    """Reads the data, builds or restores the network, opens the run directory and wandb's run.

    Raises UserError as `loop.fit` does; nothing is written before the data is known good.
    """
    # Processes on unlike machines must agree.
    config.precision, why = distributed.from_main(training_precision(config.precision, device))
    console.say(f"precision {config.precision}, {why}")
    _refuse_single_values(config)
    if config.compile:
        check_compiler(device)
    train, val, _ = import_module(f"{config.variant}.dataloader").build_dataloaders(config)
    data = train.data
    if resumed:
        record.check_same_data(runs.load(folder), data)
    if config.minutes is not None:  # a new run's: one that goes on knows its epochs
        config.epochs = probe.epochs_within(config.minutes, _learner(config, device, train, val))

    learner = _learner(config, device, train, val)
    model, progress = learner.model, Progress()
    if resumed and (folder / "last.pt").exists():
        state = (model, learner.average, learner.optimiser)
        progress = record.restore(folder / "last.pt", device, *state)
    elif config.init:
        start_from(model, _arguments(config, data), config)
        learner.average.load_state_dict(model.state_dict())
    run_id = runs.load(folder).wandb_id if resumed else distributed.from_main(new_run_id())
    floor = _baselines(data)
    details = {
        "model": _arguments(config, data),
        "data": record.describe(data),
        "baselines": floor,
        "git_commit": record.git_commit(),
        "versions": versions(),
    }
    if distributed.is_main():
        if resumed:
            record.reopen_folder(config, folder, data, progress)
        else:
            record.open_folder(config, folder, data, details, run_id)
    tracker = Tracker(config, folder, run_id, parameters(model), details)
    training = Training(
        **vars(learner), folder=folder, progress=progress, tracker=tracker, baselines=floor
    )
    console.opening(training, resumed)
    return training


def _refuse_single_values(config: TrainConfig) -> None:
    """Raises UserError where a batch norm would get one value a channel, which has no variance.

    Tried before any data is read, on PyTorch's meta device, which computes shapes alone.
    """
    whole = (config.height, config.width)
    size = config.crop_size or whole
    sharing = 1 if config.sync_bn else distributed.world_size()
    images = max(1, config.batch_size // sharing) * round(math.prod(whole) / math.prod(size))
    with torch.device("meta"):
        arguments = {"base_channels": config.base_channels, "num_classes": 2}
        model = runs.new_model(config.variant, arguments).train()
        try:
            model(torch.empty(images, 1, *size))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                f"a batch of {images} x {size[0]}x{size[1]} leaves batch normalisation one value a "
                "channel, from which nothing can be learned.\nTake a higher --batch-size"
                f"{', --sync-bn' if sharing > 1 else ''} or larger images."
            ) from error


def _learner(config: TrainConfig, device: torch.device, train: Loader, val: Loader) -> Learner:
    """An untrained network and what trains it; the seed decides its weights, nothing before."""
    torch.manual_seed(config.seed)
    data = train.data
    model = runs.new_model(config.variant, _arguments(config, data)).to(
        device, memory_format=memory_format(device)
    )
    if config.sync_bn and distributed.world_size() > 1:
        model = synchronise_batch_norms(model, device)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    weights = class_weights(train.pixel_counts()) if config.class_balance == "sqrt" else None
    criterion = build_loss(config.loss, weights).to(device)
    optimiser = MuonAdamW(model, config)
    network = torch.compile(model) if config.compile else model
    if distributed.world_size() > 1:
        ids = [device.index] if device.type == "cuda" else None
        network = DistributedDataParallel(network, device_ids=ids)
    return Learner(config, device, data, train, val, model, network, average, criterion, optimiser)


def _arguments(config: TrainConfig, data: Data) -> dict[str, int]:
    """What the variant's `build_model` is called with."""
    return {"base_channels": config.base_channels, "num_classes": data.num_classes}


def _baselines(data: Data) -> dict[str, float]:
    """Scores on the val part of predicting nothing, and of the best class everywhere."""
    scores = baselines(data.store.pixel_counts[data.rows("val")])
    empty = scores.pop("empty")
    (everywhere,) = scores.values()
    return {
        "empty": empty["dice_positive"],
        "empty_kaggle": empty["kaggle_dice"],
        "one_class": everywhere["dice_positive"],
    }


def start_from(model: nn.Module, arguments: dict[str, int], config: TrainConfig) -> None:
    """Gives the model the weights of --init; of another number of classes, all but the head's.

    Raises UserError where it is a run of another network.
    """
    earlier = runs.load(config.init)
    same = earlier.model | {"num_classes": arguments["num_classes"]}
    if earlier.variant != config.variant or same != arguments:
        raise UserError(
            f"--init {config.init} is a {earlier.variant} of {earlier.model}; this one is a "
            f"{config.variant} of {arguments}. Only weights of the same network fit."
        )
    weights, path = checkpoint.best_weights(earlier.path)
    if earlier.num_classes != arguments["num_classes"]:
        fresh = {k: v for k, v in model.state_dict().items() if k.startswith("head.")}
        weights = {k: v for k, v in weights.items() if not k.startswith("head.")} | fresh
        console.say(
            f"--init {config.init} tells {earlier.num_classes - 1} classes of defect, here are "
            f"{arguments['num_classes'] - 1}: all its weights are taken but the head's"
        )
    checkpoint.load_weights(model, weights, path)
