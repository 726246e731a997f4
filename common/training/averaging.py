"""The work of `common.average`: a run directory of the mean of several runs' weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from common import checkpoint, runs
from common.dataset import ancestry
from common.errors import UserError
from common.files import publish, publish_json, refusals_said, try_folder
from common.runs import Run
from common.tables import read_rows

if TYPE_CHECKING:
    from common.average import Config


def average(config: Config) -> None:
    """Runs the command. config.json is written last: it makes the run."""
    several = [runs.load(path) for path in config.runs]
    check_alike(several)
    first, out = several[0], config.out
    with refusals_said(f"to {out}"):
        try_folder(out)
    if any(out.iterdir()):
        raise UserError(f"--out {out} is not empty. Name another folder.")
    weights = mean([run.build_model().state_dict() for run in several])
    metrics = pd.concat([run.metrics() for run in several], ignore_index=True)
    metrics["epoch"] = range(len(metrics))
    seen = {known_by: name for run in several for known_by, name in ancestry.seen_by(run).items()}
    saved = first.saved() | {"averaged": [run.name for run in several]}
    with refusals_said(f"to {out}"):
        publish(out / "split.csv", (first.path / "split.csv").read_bytes())
        publish(out / "metrics.csv", metrics.to_csv(index=False))
        publish(out / ancestry.FILE, ancestry.written(seen))
        checkpoint.save(out / checkpoint.BEST, {"model": weights})
        publish_json(out / "config.json", saved)
    print(f"run directory: {out}\nnext: python -m common.compare {out} --out report")


def check_alike(several: Sequence[Run]) -> None:
    """Raises UserError unless all are runs of one network, fed alike, on one split."""
    first, *others = several
    for other in others:
        for what, of in (
            ("network", lambda run: (run.variant, run.model)),
            ("input size", lambda run: run.size),
            ("normalisation", lambda run: run.normalisation),
            ("bits of 16-bit images", lambda run: run.bits),
            ("split", lambda run: read_rows(run.path / "split.csv", ["image", "split"])[0]),
        ):
            if of(first) != of(other):
                raise UserError(
                    f"{first.path} and {other.path} are not alike in their {what}: the mean of "
                    "their weights would be no network."
                )


def mean(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each floating-point tensor, summed in float64; counters are the first's."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
