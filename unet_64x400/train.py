"""Train the U-Net on strips resized to 64x400.

python unet_64x400/train.py
python unet_64x400/train.py --data data/severstal --epochs 40 --seed 1
torchrun --nproc-per-node 4 unet_64x400/train.py --data data/severstal
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a plain script

from common.cli import run
from common.config import TrainConfig
from common.training.loop import fit
from unet_64x400.dataloader import HEIGHT, WIDTH, build_dataloaders
from unet_64x400.model import build_model


@dataclass
class Config(TrainConfig):
    """Recipe of the U-Net at 64x400."""

    variant = "unet_64x400"

    height: int = HEIGHT
    width: int = WIDTH
    loss: str = "bce+lovasz"


def main(argv: list[str] | None = None) -> int:
    """Trains; returns the exit code."""
    return run(lambda config: fit(config, build_model, build_dataloaders), Config, argv)


if __name__ == "__main__":
    sys.exit(main())
