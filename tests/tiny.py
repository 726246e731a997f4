"""Small data sets and untrained runs, made in a moment, for tests of what comes after training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common import checkpoint, labels, runs
from common.dataset import splits
from common.pixels import read_image
from common.resize import resize_image
from data.synthetic import generate

SIZE = (64, 320)  # of the strips
MEAN, STD = 0.4, 0.2


def make_data(root: Path, images: int = 24) -> Path:
    """Synthetic strips of SIZE; 24 show every class."""
    return generate(root, images, seed=1, height=SIZE[0], width=SIZE[1], workers=1)


def make_run(
    path: Path,
    root: Path,
    size: tuple[int, int],
    variant: str = "unet_64x400",
    base: int = 4,
    **options: object,
) -> Path:
    """A run on the data in `root`, as after an epoch: random weights that find every class."""
    data = labels.load(root)
    path.mkdir()
    arguments = {"base_channels": base, "num_classes": data.num_classes + 1}
    torch.manual_seed(3)
    model = runs.new_model(variant, arguments)
    strips = [resize_image(read_image(data.path(name)), size) for name in data.images[:8]]
    liven(model, (torch.from_numpy(np.stack(strips))[:, None] / 255 - MEAN) / STD)
    checkpoint.save(path / "best.pt", {"model": model.state_dict()})
    splits.write(splits.make_split(data), path / "split.csv")
    config = {
        "variant": variant,
        "options": {"height": size[0], "width": size[1], "seed": 0, "epochs": 1} | options,
        "model": arguments,
        "normalisation": [MEAN, STD],
        "data": {"root": str(root), "fingerprint": labels.fingerprint(data)},
        "baselines": {},
        "git_commit": "0123abc",
        "wandb_id": "none",
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.csv").write_text(
        "epoch,train/loss,val/loss,val/dice_mean,epoch_seconds\n0,1,1,0.5,9\n"
    )
    return path


@torch.no_grad()
def liven(model: nn.Module, images: torch.Tensor) -> None:
    """Sets batch norms by the images' statistics, and the head so that every class has its share.

    Random weights alone say the same of every pixel.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # an average over all batches seen
    for _ in range(3):
        model(images)
    logits = model.eval()(images).transpose(0, 1).flatten(1)
    by_class = model.head.weight.view(len(logits), -1), model.head.bias.view(len(logits), -1)
    mean, std = logits.mean(1, keepdim=True), logits.std(1, keepdim=True)
    by_class[1].sub_(mean)
    for part in by_class:
        part.div_(std / 2)


def options(data: Path, store: Path) -> dict[str, object]:
    """Options of a training that takes seconds."""
    return {
        "--data": data, "--store": store, "--epochs": 1, "--batch-size": 4, "--height": 32,
        "--width": 200, "--base-channels": 8, "--device": "cpu", "--precision": "fp32",
        "--wandb": "disabled",
    }  # fmt: skip
