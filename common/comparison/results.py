"""A comparison's quality figures as plain values: what results.json holds and page and plots read.

Undefined figures (the Dice of a class that does not occur) are None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.comparison import bootstrap
from common.comparison.bootstrap import interval, over_trainings
from common.comparison.contestants import Contestant, Network
from common.comparison.scorecard import empty, figures, size_bins, size_recall
from common.comparison.tally import Tally
from common.config import completed
from common.errors import UserError
from common.runs import Run
from common.thresholds import CURVE_FILE

Json = dict[str, Any]
Replicates = dict[str, np.ndarray]
Resample = Callable[[bootstrap.Statistic], Replicates]
Measured = tuple[str, dict[str, float | None], Replicates]  # a name, its figures, its replicates
NOTHING = "predicting nothing"
CURVE = ["class", "probability", "dice_positive", "empty_accuracy", "taken"]
CURVES = {"train_loss": "train/loss", "val_loss": "val/loss", "val_dice_mean": "val/dice_mean"}


@dataclass(frozen=True)
class Training:
    """A training on the test images: its run, or a run a fold, and the tally of all images.

    Or predictions that others made, which stand for one.
    """

    contestants: Sequence[Contestant]
    tally: Tally

    def prediction_path(self, image: str) -> Path:
        """Where the label map of an image lies, of the run that has not seen it."""
        return next(one for one in self.contestants if one.tests(image)).prediction_path(image)


@dataclass(frozen=True)
class Scored:
    """A variant on the test images: its trainings (seeds)."""

    name: str
    trainings: Sequence[Training]

    @property
    def tallies(self) -> list[Tally]:
        return [training.tally for training in self.trainings]

    @property
    def first(self) -> Contestant:
        """Stands for all where one is enough: they are one network, but for its weights."""
        return self.trainings[0].contestants[0]

    @property
    def networks(self) -> list[Network]:
        """Of all trainings; empty where predictions are all that is known."""
        every = [one for training in self.trainings for one in training.contestants]
        return [one for one in every if isinstance(one, Network)]


def quality(scored: Sequence[Scored], groups: Sequence[str], resamples: int, seed: int) -> Json:
    """What each variant scores, beside predicting nothing, and the differences of all of them.

    groups: of each image. All are resampled alike: that is what pairs them.
    """
    resample = partial(bootstrap.replicate, groups=groups, resamples=resamples, seed=seed)
    nothing = empty(scored[0].tallies[0])
    baseline = {name: _number(value[0]) for name, value in figures(nothing).items()}
    floor = (NOTHING, baseline, resample(lambda weights: figures(nothing, weights)))
    found = []
    for number, one in enumerate(scored):
        shares = bootstrap.draw_trainings(len(one.tallies), resamples, seed, number)
        found.append(_variant(one, resample, shares))
    whole: Json = {"baseline": baseline, "variants": [entry for entry, _ in found]}
    for suffix in ("", "_thresholded"):
        measured = [by_decision[suffix] for _, by_decision in found]
        whole[f"differences{suffix}"] = _differences(list(combinations(measured, 2)))
        whole[f"against_nothing{suffix}"] = _differences([(one, floor) for one in measured])
    return whole


def sizes(tally: Tally) -> list[Json]:
    """The images' sizes, the commonest first, with the number of images of each."""
    found, counts = np.unique(tally.size, axis=0, return_counts=True)
    rows = [
        {"height": height, "width": width, "images": images}
        for (height, width), images in zip(found.tolist(), counts.tolist(), strict=True)
    ]
    return sorted(rows, key=lambda row: -row["images"])


def _variant(
    scored: Scored, resample: Resample, shares: np.ndarray
) -> tuple[Json, dict[str, Measured]]:
    """A variant's entry in the results; and without and with thresholds what makes differences.

    shares: its own `bootstrap.draw_trainings`.
    """
    drawn = (scored.tallies, resample, shares)
    scores, replicates = _scores(*drawn, thresholded=False)
    thresholded, replicates_thresholded = _scores(*drawn, thresholded=True)
    entry = {
        "name": scored.name,
        "seeds": len(scored.trainings),
        **(_of_runs if scored.networks else _of_predictions)(scored),
        "scores": scores,
        "thresholded": thresholded,
        "size_recall": _size_recall(*drawn, thresholded=False),
        "size_recall_thresholded": _size_recall(*drawn, thresholded=True),
        "calibration": _calibration(scored.tallies),
    }
    return entry, {
        "": (scored.name, _values(scores), replicates),
        "_thresholded": (scored.name, _values(thresholded), replicates_thresholded),
    }


def _of_runs(scored: Scored) -> Json:
    """What a variant's runs say of themselves."""
    runs = [network.segmenter.run for network in scored.networks]
    first = runs[0]
    return {
        "variant": first.variant,
        "predictions": None,
        "runs": [str(run.path) for run in runs],
        "folds": completed(first.options)["folds"],
        "training_seconds": _number(np.mean([_seconds(run) for run in runs])),
        "versions": [run.versions for run in runs],
        "epochs": [_epochs(run) for run in runs],
        "share": completed(first.options)["share"],
        "train_images": _number(np.mean([_trained_on(run) for run in runs])),
        "height": first.size[0],
        "width": first.size[1],
        "thresholds": asdict(scored.networks[0].thresholds),
        "thresholds_curve": _thresholds_curve(first),
        "curves": [_curves(run) for run in runs],
    }


def _of_predictions(scored: Scored) -> Json:
    """The same of predictions that others made: where they lie, and else nothing."""
    unknown = (
        "variant", "folds", "training_seconds", "share", "train_images", "height", "width",
        "thresholds", "network", "parameters", "conv_layers", "gflop", "latency", "throughput",
        "peak_memory_mb",
    )  # fmt: skip
    lists = ("runs", "versions", "epochs", "thresholds_curve", "curves")
    known = {"predictions": str(scored.first.path)}
    return dict.fromkeys(unknown) | {key: [] for key in lists} | known


def _values(scores: dict[str, Json]) -> dict[str, float | None]:
    return {metric: score["value"] for metric, score in scores.items()}


def _differences(pairs: Sequence[tuple[Measured, Measured]]) -> list[Json]:
    """Of every pair each metric's difference a - b, with its paired interval where it has one.

    The interval is corrected for the number of pairs; a difference holds where it excludes 0.
    """
    rows = []
    for (name_a, values_a, drawn_a), (name_b, values_b, drawn_b) in pairs:
        for metric, replicates in drawn_a.items():
            low, high = interval(replicates - drawn_b[metric], len(pairs))
            if None in (values_a[metric], values_b[metric]) or math.isnan(low):
                continue
            rows.append(
                {
                    "a": name_a,
                    "b": name_b,
                    "metric": metric,
                    "difference": values_a[metric] - values_b[metric],
                    "low": low,
                    "high": high,
                    "holds": low > 0 or high < 0,
                }
            )
    return rows


def _scores(
    tallies: Sequence[Tally], resample: Resample, shares: np.ndarray, thresholded: bool
) -> tuple[dict[str, Json], Replicates]:
    """Each metric's mean over seeds with its interval, and the replicates of that mean."""

    def of_each(weights: np.ndarray | None) -> Replicates:
        seeds = [figures(tally, weights, thresholded) for tally in tallies]
        return {metric: np.stack([seed[metric] for seed in seeds], 1) for metric in seeds[0]}

    drawn = resample(of_each).items()
    replicates = {metric: over_trainings(values, shares) for metric, values in drawn}
    scores = {}
    for metric, (values,) in of_each(None).items():
        low, high = interval(replicates[metric])
        scores[metric] = {
            "value": _number(values.mean()),
            "low": _number(low),
            "high": _number(high),
            "seed_std": _number(values.std(ddof=1)) if len(values) > 1 else None,
        }
    return scores, replicates


def _size_recall(
    tallies: Sequence[Tally], resample: Resample, shares: np.ndarray, thresholded: bool
) -> list[Json]:
    """Recall of truth components by size: all classes together (class None), then each class."""

    def of_each(weights: np.ndarray | None) -> np.ndarray:
        return np.stack([size_recall(tally, weights, thresholded) for tally in tallies], axis=1)

    values = of_each(None)[0].mean(axis=0)
    drawn = over_trainings(resample(lambda weights: {"": of_each(weights)})[""], shares)
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


def _thresholds_curve(run: Run) -> list[Json]:
    """What other probabilities would have scored on val, where the decision was chosen by that."""
    path = run.path / CURVE_FILE
    if not path.exists():
        return []
    try:
        rows = pd.read_csv(path)[CURVE].astype(object)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it, or choose anew: --aim."
        ) from error
    return rows.where(rows.notna(), None).to_dict("records")


def _epochs(run: Run) -> Json:
    done = len(run.metrics())
    return {"done": done, "planned": run.options.get("epochs", done)}


def _trained_on(run: Run) -> float:
    """Images trained on; a run of before shares says how many the train part holds."""
    return run.data.get("trained_on", run.data.get("images", {}).get("train", math.nan))


def _seconds(run: Run) -> float:
    return run.metrics()["epoch_seconds"].sum(skipna=False)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
