"""Segment new images with a trained run: Kaggle's CSV, overlays, label maps.

    python -m common.predict runs/A photographs --out submission.csv
    python -m common.predict runs/A 'line3/*.jpg' --overlays pictures --masks maps --report

Images of any sizes stream through: threads decode ahead of the network and write behind it, so a
million images need no more memory than a few batches. An image that cannot be read is reported
and left out; the others are finished, and the exit code is 1.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common import cli
from common.config import check_at_least


@dataclass
class Config:
    """Segment images of any size with a trained run."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders, image files, or glob patterns in quotes."""
    out: Path = Path("submission.csv")
    """The table of masks; its images go by their file names."""
    format: Literal["new", "old"] = "new"
    """new: ImageId,ClassId,EncodedPixels, a row a mask. old: a row for every image and class."""
    overlays: Path | None = None
    """Folder for pictures of the images with their masks drawn in."""
    masks: Path | None = None
    """Folder for label maps: grey PNG, 0 background, else the class."""
    flip_tta: bool = False
    """Average the network's answer over four mirror images: slower, often a little better."""
    report: bool = False
    """Print how many images, defects and pixels of each class were found."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N. auto takes a GPU where there is one."""
    batch_size: int = 8
    """Images that go through the network together."""
    thresholds: bool = True
    """Decide by the run's thresholds.json where there is one, else by the most probable class."""

    def __post_init__(self) -> None:
        check_at_least(self, batch_size=1)


def main(argv: list[str] | None = None) -> int:
    """Segments; returns 0, 1 where some images could not be read, 2 where nothing could be done."""
    return cli.run("common.deployment.predict:predict", Config, argv)


if __name__ == "__main__":
    sys.exit(main())
