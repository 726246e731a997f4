"""Every figure of speed in one run, as one table and one JSON file.

    python -m benchmarks.all --out speed.json
    python -m benchmarks.all --device cuda --out speed.json

Each part is a benchmark of its own in a process of its own, one after the other: threads, compiled
networks and memory of one do not reach the next. A part that fails is named, and the others go on.
Run it on an idle machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common import cli
from common.devices import pick_device
from common.files import publish_json

# What each part is called with. On a GPU: what a GPU is used with.
PARTS = {
    "cpu": {
        "models": [],
        "training": ["--device", "cpu"],
        "loading": [],
        "inference": ["--threads", "2"],
        "rle": [],
    },
    "cuda": {
        "models": ["--precision", "bf16", "--compile"],
        "training": ["--batch-size", "64", "--compile"],
        "loading": [],
        "inference": ["--rounds", "20", "--seconds", "2"],
    },
}
# Of each row of a part's figures: where the rows stand, and what names them.
ROWS = {
    "models": {"networks": ["network"], "ratios": ["network", "against"]},
    "training": {"rows": ["network"]},
    "loading": {"rows": ["loader"]},
    "inference": {"stages": ["variant", "runtime"], "scaling": ["variant", "runtime", "processes"]},
    "rle": {"rows": ["task", "way"]},
}


@dataclass
class Config:
    """Run every benchmark, on a CPU or a GPU."""

    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    out: Path | None = None
    """JSON file for all figures."""


def measure(config: Config) -> int:
    """Runs the parts; 0, or 1 where one of them failed. UserError where the device is not there."""
    device = pick_device(config.device)
    parts = PARTS[device.type]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (part, options) in enumerate(parts.items(), start=1):
            print(f"\n[{number}/{len(parts)}] benchmarks.{part}\n", flush=True)
            if device.type == "cuda":
                options = [*options, "--device", config.device]
            out = Path(folder) / f"{part}.json"
            begun = time.perf_counter()
            command = [sys.executable, "-m", f"benchmarks.{part}", *options, "--out", str(out)]
            done = subprocess.run(command, check=False)
            if done.returncode == 0:
                seconds = round(time.perf_counter() - begun, 1)
                figures[part] = {"options": options, "seconds": seconds} | json.loads(
                    out.read_text()
                )
    print("\nall figures\n")
    print(table(figures).to_string(index=False))
    failed = sorted(set(parts) - set(figures))
    if failed:
        print(f"\nwithout {', '.join(failed)}, which failed: see above", file=sys.stderr)
    if config.out:
        publish_json(config.out, figures)
    return 1 if failed else 0


def table(figures: dict[str, Any]) -> pd.DataFrame:
    """One line a figure: part, what was measured, the figure's name and its value."""
    return pd.DataFrame(_lines(figures), columns=["part", "of", "figure", "value"])


def _lines(figures: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for part, found in figures.items():
        for key, names in ROWS[part].items():
            for row in found[key]:
                of = ", ".join(str(row[name]) for name in names)
                for figure, value in row.items():
                    if figure not in names:
                        yield part, of, figure, f"{value:.4g}" if value is not None else ""


def main(argv: list[str] | None = None) -> int:
    """Prints every part's table and all in one; returns the exit code."""
    return cli.run(measure, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
