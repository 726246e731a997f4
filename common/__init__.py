"""The commands, and the ground that every room stands on.

Commands: study, average, compare, reference, summary; predict, alarms, export, publish.

The ground, in reading order:

    errors, files, cli              problems said in words, files published whole, options
    machine, locks, progress        what a process has, what it shares, what it shows
    rle, pixels, tables, labels     masks, images, and what is in a data set
    resize, overlay                 pictures at a network's size; masks drawn into pictures
    config                          the options that every training shares
    devices, distributed            what computes, alone or together
    losses, metrics                 what a training minimises, and what it is judged by
    blocks, unet                    networks
    checkpoint, runs, inference     a run directory turned back into a network
    thresholds                      the decision: which pixels and areas are reported
    tracking                        wandb, which can never stop a training

Rooms: `dataset` -> `training` -> `comparison`, `deployment` -> `publishing`.

In Python, `from common import load_run` and `load_run("runs/A").predict("strip.jpg")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.deployment.trained import load_run

__all__ = ["load_run"]


def __getattr__(name: str) -> object:
    """`load_run`, imported when it is asked for: it needs PyTorch, which takes seconds to load."""
    if name == "load_run":
        from common.deployment.trained import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
