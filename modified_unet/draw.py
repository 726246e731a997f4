"""Draws the network as it is built, for the README.

python -m modified_unet.draw --out modified_unet/network.svg
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from common import cli
from common.errors import UserError
from modified_unet.model import MultiScaleBlock, build_model

PICTURE = Path(__file__).with_name("network.svg")
SIZE = (256, 1600)  # a whole strip
HEIGHTS = {1: 4, 2: 3, 4: 2, 8: 1, 16: 0}  # row of each stride, from the bottom
SUMS = {"fine": "up2", "context": "up4", "encode8": "up8"}  # skip: from -> to
COLOURS = {"block": "#2a6f97", "up": "#e09f3e", "other": "#8d99ae"}


@dataclass
class Config:
    """Draw the slim-deep U-Net."""

    out: Path = PICTURE
    """Where the picture goes; its ending (.svg, .png, .pdf) gives the format."""


@dataclass(frozen=True)
class Stage:
    """A part of the network in the order of execution; stride of what it puts out."""

    name: str
    channels: int
    stride: int
    dilations: tuple[tuple[int, ...], ...]


def stages(model: nn.Module) -> list[Stage]:
    """What each part of the network makes of a strip, seen by running it once."""
    found: list[Stage] = []

    def note(name: str):
        def hook(module: nn.Module, _: object, output: torch.Tensor) -> None:
            _, channels, height, _ = output.shape
            blocks = [m for m in module.modules() if isinstance(m, MultiScaleBlock)]
            dilations = tuple(tuple(s[0].dilation[0] for s in block.scales) for block in blocks)
            found.append(Stage(name, channels, SIZE[0] // height, dilations))

        return hook

    for name, part in model.named_children():
        if not isinstance(part, nn.AvgPool2d):
            part.register_forward_hook(note(name))
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 1, *SIZE))
    return found


def draw(parts: list[Stage]) -> Figure:
    """The network from left to right, one row a stride, skips as arcs over the row."""
    with mpl.rc_context({"svg.hashsalt": "network", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(15, 5.5), layout="constrained")
        axes = figure.add_subplot()
        places = {"image": (0.0, HEIGHTS[1])}
        _box(axes, places["image"], "image", "1 channel", COLOURS["other"])
        for index, part in enumerate(parts, start=1):
            places[part.name] = (float(index), HEIGHTS[part.stride])
            kind = "block" if part.dilations else "up" if part.name.startswith("up") else "other"
            _box(axes, places[part.name], part.name, _detail(part), COLOURS[kind])
        places["logits"] = (len(parts) + 1.0, HEIGHTS[1])
        _box(axes, places["logits"], "logits", "5 classes", COLOURS["other"])
        for start, end in pairwise(list(places.values())):
            _arrow(axes, start, end)
        for start, end in SUMS.items():
            _arrow(axes, places[start], places[end], skip=True)
        for stride, height in HEIGHTS.items():
            size = f"{SIZE[0] // stride} x {SIZE[1] // stride}"
            axes.text(-1.9, height, f"stride {stride}\n{size}", va="center", color="#444444")
        axes.set(xlim=(-2, len(places) - 0.3), ylim=(-0.6, 4.6))
        axes.set_axis_off()
    return figure


def _detail(part: Stage) -> str:
    dilations = "\n".join("dilated " + " ".join(map(str, block)) for block in part.dilations)
    return f"{part.channels} channels\n{dilations}".strip()


def _box(axes: Axes, place: tuple[float, float], name: str, detail: str, colour: str) -> None:
    x, y = place
    style = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "none"}
    axes.text(x, y, name, ha="center", va="center", color="white", weight="bold", bbox=style)
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.text(x, y - 0.2, detail, ha="center", va="top", fontsize=7, color="#333333", bbox=paper)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], skip: bool = False
) -> None:
    look = {"arrowstyle": "-|>", "shrinkA": 22, "shrinkB": 22, "color": "#999999"}
    if skip:
        look |= {"linestyle": "dashed", "color": COLOURS["block"]}
        axes.text((start[0] + end[0]) / 2, start[1] + 0.07, "skip, added", ha="center", fontsize=7)
    axes.annotate("", end, start, arrowprops=look)


def main(argv: list[str] | None = None) -> int:
    """Writes the picture; returns the exit code."""

    def save(config: Config) -> None:
        try:
            draw(stages(build_model())).savefig(config.out, metadata={"Date": None})
        except (OSError, ValueError) as error:  # matplotlib does not write every format
            raise UserError(f"cannot write {config.out}: {error}") from error
        print(config.out)

    return cli.run(save, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
