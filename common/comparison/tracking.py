"""A comparison as a Weights & Biases run: table, plots and overlays, beside the runs it compares.

As with trainings, nothing depends on it: whatever wandb reports is said once and passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import wandb

from common.comparison.page.page import GalleryItem
from common.tracking import begin, class_labels, guard, picture

OVERLAYS = 24  # images logged with switchable masks


def log_comparison(
    results: dict[str, Any],
    table: pd.DataFrame,
    plots: Sequence[Path],
    gallery: Sequence[GalleryItem],
    folder: Path,
    project: str | None,
    group: str | None,
    mode: str | None,
) -> None:
    """Logs a finished comparison.

    table: a row a variant. plots: PNGs. folder: where an offline run is kept, in wandb/. project,
    group: as options of the runs name them. mode: online, offline, disabled. None is as in a
    training.
    """
    labels = class_labels(results["data"]["class_titles"])
    config = {key: results[key] for key in ("data", "machine", "command")}
    with guard("the comparison is not tracked"):
        run = begin(mode, folder, project, group, "compare", config=config)
        if run is None:
            return
        with run:
            run.log({"comparison": wandb.Table(dataframe=table)})
            run.log({f"plots/{path.stem}": wandb.Image(str(path)) for path in plots})
            pictures = [
                picture(item.name, item.image, {"truth": item.truth, **item.predictions}, labels)
                for item in gallery[:OVERLAYS]
            ]
            run.log({"predictions": pictures})
            for variant in results["variants"]:
                for metric, score in variant["scores"].items():
                    run.summary[f"{variant['name']}/{metric}"] = score["value"]
