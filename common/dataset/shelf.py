"""Lists the pixel stores that trainings have left, and deletes those of no use any more.

    python -m common.dataset.store --list
    python -m common.dataset.store --prune --days 7

What is deleted is decoded again when a training needs it.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from common import cli
from common.config import TrainConfig, check_at_least
from common.dataset.store import ABOUT
from common.errors import UserError
from common.locks import hold

NAME = re.compile(r"\d+x\d+-[0-9a-f]{16}(\.partial)?")
DAY = 24 * 60 * 60


@dataclass
class Config:
    """List the pixel stores, or delete those of no use."""

    list: bool = False
    """Print every store: size on disk, when it was last used, and of which data it is."""
    prune: bool = False
    """Delete unfinished stores, those whose data is gone, and those not used for --days."""
    days: int = 30
    """How long a store may lie unused."""
    store: Path = TrainConfig.store
    """Folder of the stores."""

    def __post_init__(self) -> None:
        if not (self.list or self.prune):
            raise ValueError("say what to do: --list or --prune")
        check_at_least(self, days=0)


@dataclass(frozen=True)
class Shelved:
    """A store on disk. data: root of its data set, None where it does not say."""

    path: Path
    data: Path | None
    size: int
    used: float

    def why_useless(self, days: int) -> str | None:
        """Why it may go; None where it may be needed."""
        if self.path.suffix == ".partial":
            return "unfinished"
        if self.data and not self.data.is_dir():
            return "its data is gone"
        idle = (time.time() - self.used) / DAY
        return f"not used for {idle:.0f} days" if idle >= days else None

    def __str__(self) -> str:
        day = time.strftime("%Y-%m-%d", time.localtime(self.used))
        data = self.data or "of unknown data"
        return f"{self.path.name}  {self.size / 1e9:.2f} GB  last used {day}  {data}"


def stores(folder: Path) -> list[Shelved]:
    """The stores in a folder, the one last used first."""
    homes = [path for path in folder.glob("*") if NAME.fullmatch(path.name)]
    return sorted(map(_shelved, homes), key=lambda one: one.used, reverse=True)


def prune(folder: Path, days: int) -> int:
    """Deletes what is useless, but for what is being built now; returns the bytes made free."""
    freed = 0
    for one in stores(folder):
        if (why := one.why_useless(days)) is None:
            continue
        lock = one.path.with_suffix(".lock")
        try:
            with hold(lock, wait=False):
                shutil.rmtree(one.path)
                lock.unlink(missing_ok=True)
        except BlockingIOError:
            print(f"kept: {one.path.name} is being built")
        else:
            print(f"deleted: {one.path.name}, {why}")
            freed += one.size
    return freed


def _shelved(path: Path) -> Shelved:
    try:
        data = Path(json.loads((path / ABOUT).read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError):  # one of before this was kept
        data = None
    size = sum(file.stat().st_size for file in path.glob("*"))
    return Shelved(path, data, size, path.stat().st_mtime)


def _run(config: Config) -> None:
    try:
        if config.prune:
            print(f"{prune(config.store, config.days) / 1e9:.2f} GB made free")
        if config.list:
            found = stores(config.store)
            print(*found, sep="\n", end="\n" if found else "")
            total = sum(one.size for one in found)
            print(f"{config.store}: {len(found)} stores, {total / 1e9:.2f} GB")
    except OSError as error:
        raise UserError(f"cannot use {error.filename}: {error.strerror or error}") from error


def main(argv: list[str] | None = None) -> int:
    """Lists or prunes; returns the exit code."""
    return cli.run(_run, Config, argv)
