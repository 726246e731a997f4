"""Train the slim-deep U-Net, at 64x512 or on whole strips.

python modified_unet/train.py
python modified_unet/train.py --height 256 --width 1600
torchrun --nproc-per-node 4 modified_unet/train.py --data data/severstal
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a plain script

from common.cli import run
from common.config import TrainConfig
from common.training.loop import fit
from modified_unet.dataloader import HEIGHT, WIDTH, build_dataloaders
from modified_unet.model import build_model


@dataclass
class Config(TrainConfig):
    """Recipe of the slim-deep U-Net."""

    variant = "modified_unet"

    height: int = HEIGHT
    width: int = WIDTH
    loss: str = "bce+lovasz"
    base_channels: int = 32


def main(argv: list[str] | None = None) -> int:
    """Trains; returns the exit code."""
    return run(lambda config: fit(config, build_model, build_dataloaders), Config, argv)


if __name__ == "__main__":
    sys.exit(main())
