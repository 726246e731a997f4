"""Publish a run as a folder that others can use, and that can go to a model hub as it is.

    python -m common.publish runs/A --out steel-unet --report report

The folder holds the weights (model.safetensors), config.json, split.csv, seen.csv, metrics.csv,
thresholds.json (chosen if the run has none), model.onnx (checked as `common.export` does) and
README.md, the model card. It names no path of this machine and holds no image. `load_run`,
`common.predict` and `common.export` read it like a run directory. Nothing is uploaded.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from common import cli


@dataclass
class Config:
    """Publish a run as a folder."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    out: Annotated[Path, tyro.conf.arg(help="Folder to write; new, or published before.")]
    report: Path | None = None
    """Folder of a comparison that the run took part in: its figures go into the card."""
    onnx: bool = True
    """Put the exported network beside the weights."""
    images: Path | None = None
    """Folder of strips to check the export on. Default: the val images, of where it was trained."""
    data: Path | None = None
    """Data set root, for the val images. Default: where the run was trained."""


def main(argv: list[str] | None = None) -> int:
    """Publishes; returns the exit code."""
    return cli.run("common.publishing.folder:publish_run", Config, argv)


if __name__ == "__main__":
    sys.exit(main())
