"""Train the U-Net on strips resized to 64x400.

    python unet_64x400/train.py
    python unet_64x400/train.py --data data/severstal --epochs 40 --seed 1
    torchrun --nproc-per-node 4 unet_64x400/train.py --data data/severstal

docs/train.md says how to watch, stop and resume it, and what it leaves behind.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a plain script

from common.cli import run
from common.config import TrainConfig


@dataclass
class Config(TrainConfig):
    """Recipe of the U-Net at 64x400."""

    variant = "unet_64x400"

    height: int = 64
    width: int = 400


def main(argv: list[str] | None = None) -> int:
    """Trains the network of model.py on the batches of dataloader.py; returns the exit code."""
    return run("common.training.loop:fit", Config, argv)


if __name__ == "__main__":
    sys.exit(main())
