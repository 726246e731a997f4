"""Data and runs that many tests share, made once a session from generated strips."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from common.comparison.page.page import GalleryItem, write_page
from data.synthetic import generate
from tests import report_example, tiny

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_runtest_setup() -> None:
    """One thread, as in the processes that tests start; benchmarks change it."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_wandb_account(monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> Iterator[None]:
    """Tests behave alike on a machine with a wandb account and on one without."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    nowhere = tmp_path_factory.getbasetemp() / "no-wandb"
    monkeypatch.setenv("NETRC", str(nowhere / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(nowhere))
    yield
    if "wandb" in sys.modules:  # it reads its environment once a process, and keeps a login
        sys.modules["wandb"].teardown()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; skips where they are absent (they may not be redistributed)."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the real data sets in {REAL_DATA}, which cannot be distributed")
    return REAL_DATA


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a real disk of a given size ("64k"); skips where this user may not."""
    mounted = []

    def mount(size: str) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"needs to mount a tmpfs: {error}")
        if done.returncode:
            pytest.skip(f"needs to mount a tmpfs: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty synthetic strips in Kaggle's layout."""
    root = tmp_path_factory.mktemp("data") / "synthetic"
    generate(root, 60, seed=0)
    return root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four strips that are smaller still: see `tiny`."""
    return tiny.make_data(tmp_path_factory.mktemp("data") / "strips")


@pytest.fixture(scope="module")
def bare_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run on `root`."""
    return tiny.make_run(tmp_path_factory.mktemp("runs") / "unet", root, (32, 96))


@pytest.fixture
def run(bare_run: Path, tmp_path: Path) -> Path:
    """A copy of `bare_run` that a test may change."""
    return shutil.copytree(bare_run, tmp_path / "run")


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for pixel stores, so that tests share them."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def train(dataset: Path, store_folder: Path) -> Callable[..., int]:
    """Calls a variant's main at a size that takes seconds; returns its exit code."""

    defaults = tiny.options(dataset, store_folder)

    def call(variant: str, *options: object) -> int:
        given = [str(option) for option in options]
        argv = [str(x) for k, v in defaults.items() if k not in given for x in (k, v)]
        return importlib.import_module(f"{variant}.train").main(argv + given)

    return call


@pytest.fixture(scope="session")
def trained_run(train: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run directory of the slim-deep network, two epochs at a tiny size."""
    out = tmp_path_factory.mktemp("runs") / "modified"
    assert train("modified_unet", "--out", out, "--epochs", 2) == 0
    return out


@pytest.fixture(scope="session")
def gallery_items() -> list[GalleryItem]:
    """Fourteen strips of the invented comparison."""
    return report_example.gallery(14)


@pytest.fixture(scope="session")
def page_path(gallery_items: list[GalleryItem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The invented comparison's report page."""
    path = tmp_path_factory.mktemp("report") / "index.html"
    write_page(report_example.results(), gallery_items, path)
    return path
