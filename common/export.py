"""Export a run as one ONNX file, checked against PyTorch before it is kept.

    python -m common.export runs/A --out model.onnx
    python -m common.export runs/A --out model.onnx --int8

The file takes raw grey strips `strips` (N, H, W) uint8 and gives `probabilities` (N, C, H, W)
float32 and `label_map` (N, H, W) uint8: normalisation, both resizes, softmax and the run's
thresholds are inside. N is free. H and W are free where the network works at the strips' own size;
elsewhere they are those of the data. Only strips of the size in the metadata are checked: others
are resized by `common.predict`, but not here. Least peaks and areas (in the metadata) are left to
the consumer: docs/line.md has the loop.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common import cli
from common.config import check_at_least


@dataclass
class Config:
    """Export a run as ONNX, checked on its val images."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    out: Path = Path("model.onnx")
    """The file to write."""
    data: Path | None = None
    """Data set root, for the val images. Default: where the run was trained."""
    images: Path | None = None
    """Folder of strips to check the file on where the training data are elsewhere."""
    height: int | None = None
    """Height of the strips that the file takes, in pixels. Default: that of the first checked."""
    width: int | None = None
    """Width of the strips, likewise."""
    limit: int | None = None
    """Check on so many of the images, evenly spread. Default: on all."""
    opset: int = 20
    """Version of ONNX's operators, 18 to 21: a lower one is read by older runtimes."""
    int8: bool = False
    """Also try 8-bit arithmetic, as <out>.int8.onnx: kept where it is faster and as good."""

    def __post_init__(self) -> None:
        check_at_least(self, limit=1)
        if self.opset not in range(18, 22):
            raise ValueError(f"--opset must be 18 to 21, got {self.opset}")
        if self.images is not None and self.data is not None:
            raise ValueError("--images and --data: give the one or the other")
        if self.images is not None and self.int8:
            raise ValueError("--int8 needs masks to be judged by: give --data, not --images")


def main(argv: list[str] | None = None) -> int:
    """Exports; returns 0, 1 where int8 was not worth keeping, 2 where nothing was exported."""
    return cli.run("common.deployment.export:export", Config, argv)


if __name__ == "__main__":
    sys.exit(main())
