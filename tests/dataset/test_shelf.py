"""Pixel stores listed and pruned."""

import os
import shutil
import time
from pathlib import Path

import pytest

from common import labels as labels_module
from common.dataset import shelf
from common.dataset.store import open_store
from common.locks import hold
from tests import tiny

DAY = 24 * 60 * 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two stores of one data set, used today and 40 days ago, and what is none."""
    labels = labels_module.load(tiny.make_data(tmp_path / "data", images=3))
    for width in (40, 48):
        open_store(labels, labels.images, (16, width), tmp_path / "store", "0")
    (old,) = (tmp_path / "store").glob("16x48-*/")
    os.utime(old, (time.time() - 40 * DAY,) * 2)
    (tmp_path / "store" / "16x40-mine").mkdir()
    (tmp_path / "store" / "near-duplicates.npy").write_bytes(b"no store")
    return tmp_path / "store"


def widths(folder: Path) -> list[str]:
    return [store.path.name[:5] for store in shelf.stores(folder)]


def test_stores_are_listed_with_their_size_and_data(folder: Path, capsys) -> None:
    assert shelf.main(["--list", "--store", str(folder)]) == 0
    first, second, total = capsys.readouterr().out.splitlines()
    today = time.strftime("%Y-%m-%d")
    assert first.startswith("16x40-")
    assert first.endswith(f"0.00 GB  last used {today}  {(folder / '../data').resolve()}")
    assert second.startswith("16x48-")
    assert total == f"{folder}: 2 stores, 0.00 GB"
    held = sum(store.size for store in shelf.stores(folder))
    assert held > 2 * 3 * 16 * (40 + 48)
    assert shelf.main(["--list", "--store", str(folder / "nowhere")]) == 0


def test_a_store_that_is_opened_counts_as_used(folder: Path) -> None:
    labels = labels_module.load(folder / "../data")
    open_store(labels, labels.images, (16, 48), folder, "0")
    assert widths(folder) == ["16x48", "16x40"]
    assert shelf.prune(folder, days=30) == 0


def test_what_is_not_used_goes(folder: Path, capsys) -> None:
    assert shelf.main(["--prune", "--store", str(folder)]) == 0
    assert ", not used for 40 days" in capsys.readouterr().out
    assert widths(folder) == ["16x40"]
    assert (folder / "16x40-mine").exists()
    assert not list(folder.glob("16x48-*"))


def test_what_has_no_data_and_what_is_unfinished_goes(folder: Path, capsys) -> None:
    (store,) = folder.glob("16x40-????????????????/")
    store.rename(store.with_suffix(".partial"))
    with hold(store.with_suffix(".lock")):
        shelf.prune(folder, days=100)
    assert f"kept: {store.name}.partial is being built" in capsys.readouterr().out
    assert widths(folder) == ["16x40", "16x48"]
    shutil.rmtree(folder / "../data")
    assert shelf.prune(folder, days=100) > 0
    said = capsys.readouterr().out
    assert f"{store.name}.partial, unfinished" in said
    assert "its data is gone" in said
    assert widths(folder) == []


def test_nothing_to_do_is_refused(capsys) -> None:
    assert shelf.main([]) == 2
    assert "--list or --prune" in capsys.readouterr().err
