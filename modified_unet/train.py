"""Train the slim-deep U-Net, at 64x512 or on whole strips.

    python modified_unet/train.py
    python modified_unet/train.py --height 256 --width 1600
    torchrun --nproc-per-node 4 modified_unet/train.py --data data/severstal

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
    """Recipe of the slim-deep U-Net."""

    variant = "modified_unet"

    height: int = 64
    width: int = 512
    base_channels: int = 32


def main(argv: list[str] | None = None) -> int:
    """Trains the network of model.py on the batches of dataloader.py; returns the exit code."""
    return run("common.training.loop:fit", Config, argv)


if __name__ == "__main__":
    sys.exit(main())
