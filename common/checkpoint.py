"""Checkpoints: tensors and plain values only, written whole, loaded without running code."""

from __future__ import annotations

import io
import pickle
import shlex
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from common.errors import UserError
from common.files import publish, refusals_said

BEST = "best.pt"  # of a run directory: the averaged weights of its best epoch
PUBLISHED = "model.safetensors"  # the same in a published folder

# What torch.load raises for bytes that are no checkpoint, besides UnpicklingError.
DAMAGE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, struct.error,
)  # fmt: skip


def save(path: Path, state: dict[str, Any]) -> None:
    """Publishes a checkpoint. Raises UserError where the disk refuses; the earlier one stays."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    way_out = (
        "The last one that was written is untouched; mend this, then continue with "
        f"--resume {shlex.quote(str(path.parent))}."
    )
    with refusals_said(f"the checkpoint {path}", way_out):
        publish(path, buffer.getbuffer())


def load(
    path: Path, device: torch.device | str = "cpu", keys: Sequence[str] = ()
) -> dict[str, Any]:
    """Reads a checkpoint that holds at least `keys`.

    Raises UserError where there is none, where it is damaged or of another make, and where it holds
    anything but tensors and plain values (such a file could run code when loaded).
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}: this run has not finished an epoch.") from None
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is damaged or holds more than tensors and plain values, which\n"
            "could run code when loaded. Only checkpoints written by this package are read."
        ) from error
    except DAMAGE as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}") from error
    if not isinstance(state, dict) or any(key not in state for key in keys):
        raise UserError(
            f"{path} is a checkpoint of another make: it holds {_contents(state)}; "
            f"expected {', '.join(keys) or 'named values'}."
        )
    return state


def best_file(folder: Path) -> Path:
    """Where the weights to use lie of a run directory or a published folder."""
    best, published = folder / BEST, folder / PUBLISHED
    return published if published.exists() and not best.exists() else best


def best_weights(folder: Path) -> tuple[dict[str, torch.Tensor], Path]:
    """The weights to use of a run directory or a published folder, and the file they came from.

    Raises UserError as `load`.
    """
    path = best_file(folder)
    if path.name == BEST:
        return load(path, keys=("model",))["model"], path
    try:
        return safetensors.torch.load_file(path), path
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Loads a state dict strictly. Raises UserError that says which tensors do not fit and how."""
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise UserError(
            f"{path} is a checkpoint of another make: in place of a network's weights by name it "
            f"holds {_contents(weights)}."
        )
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own if name not in weights]
    problems += [f"{name} is not part of the network" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, the network has {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        shown = "\n  ".join(problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(
            f"{path} holds the weights of another network:\n  {shown}{more}\n"
            "Was it trained with another variant, --base-channels or number of classes?"
        )
    model.load_state_dict(weights)


def _contents(state: object) -> str:
    """The first keys of a dict, else the type."""
    if not isinstance(state, dict):
        return f"a {type(state).__name__}"
    shown = ", ".join(map(str, list(state)[:5])) or "nothing"
    return shown + (f" and {len(state) - 5} more" if len(state) > 5 else "")
