"""Kaggle's data: what to do without credentials, and never half a data set that looks whole."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import kagglehub
import numpy as np
import pytest
from kagglehub.exceptions import DataCorruptionError, KaggleApiHTTPError, UnauthenticatedError

from common.labels import load
from data import download


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for kagglehub's cache with three images; the real one is never called."""
    folder = tmp_path / "cache"
    (folder / "train_images").mkdir(parents=True)
    (folder / "test_images").mkdir()
    for name in "abc":
        cv2.imwrite(str(folder / "train_images" / f"{name}.jpg"), np.zeros((8, 16), np.uint8))
    (folder / "train.csv").write_text("ImageId,ClassId,EncodedPixels\na.jpg,1,1 3\n")
    monkeypatch.setattr(download, "IMAGES", 3)
    monkeypatch.setattr(kagglehub, "competition_download", lambda handle: str(folder))
    return folder


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def competition_download(handle: str) -> str:
        assert handle == "severstal-steel-defect-detection"
        raise error

    monkeypatch.setattr(kagglehub, "competition_download", competition_download)


def run(out: Path) -> int:
    return download.main(["--out", str(out)])


def test_images_and_table_arrive(cache: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "data" / "severstal"
    assert run(out) == 0
    assert load(out).images == ("a.jpg", "b.jpg", "c.jpg")
    assert sorted(path.name for path in out.iterdir()) == ["train.csv", "train_images"]
    assert f"python -m data.check {out}" in capsys.readouterr().out
    shutil.rmtree(cache)
    assert run(out) == 0
    assert "already holds" in capsys.readouterr().out


def test_a_notebook_on_kaggle_takes_what_is_mounted(cache, tmp_path, monkeypatch) -> None:
    mounted = cache.rename(tmp_path / "input")
    monkeypatch.setattr(download, "MOUNTED", (tmp_path / "nothing", mounted))
    fails(monkeypatch, ConnectionError("nobody is asked"))
    out = tmp_path / "severstal"
    assert run(out) == 0
    assert load(out).images == ("a.jpg", "b.jpg", "c.jpg")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnauthenticatedError(), ["who you are"]),
        (KaggleApiHTTPError("no", SimpleNamespace(status_code=403)), ["HTTP 403", "not accepted"]),
        (KaggleApiHTTPError("no", SimpleNamespace(status_code=401)), ["HTTP 401"]),
        (ValueError("not JSON"), ["credentials cannot be used: not JSON"]),
    ],
)
def test_who_may_not_is_told_what_to_do(
    cache, tmp_path: Path, monkeypatch, capsys, error: Exception, said: list[str]
) -> None:
    fails(monkeypatch, error)
    assert run(tmp_path / "out") == 2
    message = capsys.readouterr().err
    steps = ["/rules", "kaggle.json", "KAGGLE_USERNAME", "data.download", "data.synthetic"]
    for text in [*said, *steps]:
        assert text in message
    assert len(message.splitlines()) < 12
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KaggleApiHTTPError("boom", SimpleNamespace(status_code=500)), "Try again later"),
        (KaggleApiHTTPError("boom"), "Try again later"),
        (ConnectionError("no route"), "the download stopped: no route"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (DataCorruptionError("checksum"), "damaged: checksum"),
    ],
)
def test_other_failures_say_to_run_again(
    cache, tmp_path: Path, monkeypatch, capsys, error: Exception, said: str
) -> None:
    fails(monkeypatch, error)
    assert run(tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_credentials_on_this_machine(tmp_path: Path, monkeypatch, capsys) -> None:
    """The real kagglehub, which asks nobody while it knows no credentials."""
    for name in list(os.environ):
        if name.startswith("KAGGLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    assert run(tmp_path / "out") == 2
    assert "kaggle.json" in capsys.readouterr().err


def test_an_interrupted_placing_goes_on(cache: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out, replace, placed = tmp_path / "out", os.replace, []

    def interrupted(source: Path, target: Path) -> None:
        if len(placed) == 2:
            raise KeyboardInterrupt
        placed.append(target.name)
        replace(source, target)

    monkeypatch.setattr("os.replace", interrupted)
    assert run(out) == 130
    assert not (out / "train.csv").exists()
    monkeypatch.setattr("os.replace", lambda s, t: placed.append(t.name) or replace(s, t))
    assert run(out) == 0
    assert placed == ["a.jpg", "b.jpg", "c.jpg", "train.csv"]
    assert sorted(p.name for p in (out / "train_images").iterdir()) == ["a.jpg", "b.jpg", "c.jpg"]


def test_another_disk_gets_copies(cache: Path, tmp_path: Path, monkeypatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_links)
    assert run(tmp_path / "out") == 0
    assert load(tmp_path / "out").rles == {"a.jpg": {1: "1 3"}}


def test_a_full_disk_is_said_and_leaves_no_data_set(cache, tmp_path: Path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert run(tmp_path / "out") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "out" / "train.csv").exists()


def test_a_cache_or_folder_that_lacks_images_is_refused(cache, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    (cache / "train_images" / "c.jpg").unlink()
    assert run(out) == 2
    assert "holds 2 images, Kaggle's set 3" in capsys.readouterr().err
    assert not out.exists()
    shutil.copytree(cache, out)
    assert run(out) == 2
    assert f"{out} holds 2 images" in capsys.readouterr().err
