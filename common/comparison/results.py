"""A comparison's quality figures as plain values: what results.json holds and page and plots read.

Undefined figures (the Dice of a class that does not occur) are None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from common.comparison.bootstrap import Statistic, interval
from common.comparison.scorecard import empty, figures, size_bins, size_recall
from common.comparison.tally import Tally
from common.evaluate import Contestant
from common.runs import Run

Json = dict[str, Any]
Replicates = dict[str, np.ndarray]
Resample = Callable[[Statistic], Replicates]
CURVES = {"train_loss": "train/loss", "val_loss": "val/loss", "val_dice_mean": "val/dice_mean"}


@dataclass(frozen=True)
class Scored:
    """A variant on the test images: its trainings (seeds), with a tally each."""

    name: str
    contestants: Sequence[Contestant]
    tallies: Sequence[Tally]

    @property
    def runs(self) -> list[Run]:
        return [contestant.segmenter.run for contestant in self.contestants]


def variant(scored: Scored, resample: Resample) -> tuple[Json, Replicates]:
    """A variant's entry in the results, and the replicates of its scores for differences.

    resample: `bootstrap.replicate` with groups, number and seed filled in, the same ones for all
    variants: that is what pairs them.
    """
    first = scored.runs[0]
    scores, replicates = _scores(scored.tallies, resample, thresholded=False)
    thresholded, _ = _scores(scored.tallies, resample, thresholded=True)
    entry = {
        "name": scored.name,
        "variant": first.variant,
        "runs": [str(run.path) for run in scored.runs],
        "seeds": len(scored.runs),
        "height": first.size[0],
        "width": first.size[1],
        "scores": scores,
        "thresholded": thresholded,
        "thresholds": asdict(scored.contestants[0].thresholds),
        "size_recall": _size_recall(scored.tallies, resample),
        "calibration": _calibration(scored.tallies),
        "curves": [_curves(run) for run in scored.runs],
    }
    return entry, replicates


def differences(entries: Sequence[Json], replicates: Sequence[Replicates]) -> list[Json]:
    """Every metric's difference a - b between every two variants, with its paired interval.

    It holds where the interval excludes 0.
    """
    result = []
    for (a, of_a), (b, of_b) in combinations(zip(entries, replicates, strict=True), 2):
        for metric in of_a:
            low, high = interval(of_a[metric] - of_b[metric])
            values = a["scores"][metric]["value"], b["scores"][metric]["value"]
            if None in values or math.isnan(low):
                continue
            result.append(
                {
                    "a": a["name"],
                    "b": b["name"],
                    "metric": metric,
                    "difference": values[0] - values[1],
                    "low": low,
                    "high": high,
                    "holds": low > 0 or high < 0,
                }
            )
    return result


def baseline(tally: Tally) -> dict[str, float | None]:
    """What predicting nothing scores on the same images."""
    return {name: _number(value[0]) for name, value in figures(empty(tally)).items()}


def _scores(
    tallies: Sequence[Tally], resample: Resample, thresholded: bool
) -> tuple[dict[str, Json], Replicates]:
    """Each metric's mean over seeds with its interval, and the replicates of that mean."""

    def mean_over_seeds(weights: np.ndarray) -> Replicates:
        seeds = [figures(tally, weights, thresholded) for tally in tallies]
        return {metric: np.mean([seed[metric] for seed in seeds], axis=0) for metric in seeds[0]}

    replicates = resample(mean_over_seeds)
    seeds = [figures(tally, None, thresholded) for tally in tallies]
    scores = {}
    for metric, drawn in replicates.items():
        values = np.array([seed[metric][0] for seed in seeds])
        low, high = interval(drawn)
        scores[metric] = {
            "value": _number(values.mean()),
            "low": _number(low),
            "high": _number(high),
            "seed_std": _number(values.std(ddof=1)) if len(values) > 1 else None,
        }
    return scores, replicates


def _size_recall(tallies: Sequence[Tally], resample: Resample) -> list[Json]:
    """Recall of truth components by size: all classes together (class None), then each class."""

    def recalls(weights: np.ndarray | None) -> np.ndarray:
        return np.mean([size_recall(tally, weights) for tally in tallies], axis=0)

    values = recalls(None)[0]
    drawn = resample(lambda weights: {"recall": recalls(weights)})["recall"]
    by_class = tallies[0].components.sum(axis=0)
    counts = np.concatenate([by_class.sum(axis=0, keepdims=True), by_class])
    rows = []
    for k in range(len(counts)):
        for size, (low_px, high_px) in enumerate(size_bins()):
            low, high = interval(drawn[:, k, size])
            rows.append(
                {
                    "class": k or None,
                    "low_px": low_px,
                    "high_px": high_px,
                    "count": int(counts[k, size]),
                    "recall": _number(values[k, size]),
                    "low": _number(low),
                    "high": _number(high),
                }
            )
    return rows


def _calibration(tallies: Sequence[Tally]) -> list[Json]:
    """Mean P(defect) and share of defect pixels in each bin of P(defect) that holds pixels."""
    bins = sum(tally.calibration.sum(axis=0) for tally in tallies)
    return [
        {"probability": total / pixels, "frequency": defects / pixels, "pixels": int(pixels)}
        for pixels, total, defects in bins.tolist()
        if pixels
    ]


def _curves(run: Run) -> Json:
    """Losses and val Dice by epoch, counted from 1."""
    metrics = run.metrics()
    columns = {name: [_number(x) for x in metrics[key]] for name, key in CURVES.items()}
    return {"run": run.name, "epoch": (metrics["epoch"] + 1).tolist(), **columns}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
