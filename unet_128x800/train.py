"""Train the U-Net on strips resized to 128x800.

    python unet_128x800/train.py
    python unet_128x800/train.py --data data/severstal --epochs 40 --seed 1
    torchrun --nproc-per-node 4 unet_128x800/train.py --data data/severstal

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
    """Recipe of the U-Net at 128x800."""

    variant = "unet_128x800"

    height: int = 128
    width: int = 800


def main(argv: list[str] | None = None) -> int:
    """Trains the network of model.py on the batches of dataloader.py; returns the exit code."""
    return run("common.training.loop:fit", Config, argv)


if __name__ == "__main__":
    sys.exit(main())
