"""Folders of trainings: reserved by making them, taken over from the dead, never left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.config import PROJECT, TrainConfig
from common.errors import UserError
from common.runs import LOCK
from common.training import folder
from common.training.folder import claimed
from modified_unet.train import Config
from tests import tiny


def holds(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_trainings_begun_in_one_second_get_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(time, "strftime", lambda _: "20310203-040506")
    with claimed(Config()) as (config, first, _), claimed(Config()) as (_, second, resumed):
        assert config.out == first
        assert not resumed
        names = ["modified_unet-20310203-040506", "modified_unet-20310203-040506-2"]
        assert [first.name, second.name] == names
        assert holds(tmp_path / "runs") == names
        (second / "config.json").write_text("{}")
    assert holds(tmp_path / "runs") == names[1:]


@pytest.mark.parametrize("out", ["run", "deep/er/run"])
def test_a_training_that_fails_before_it_begins_leaves_nothing(tmp_path, out):
    with claimed(Config(out=tmp_path / out)) as (_, place, _):
        (place / "split.csv").write_text("half")
    assert holds(tmp_path) == []


def test_a_folder_that_was_there_stays(tmp_path):
    with claimed(Config(out=tmp_path)):
        assert holds(tmp_path) == [LOCK]
    assert holds(tmp_path) == []


def test_links_and_the_working_folder_are_filled(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "dangling").symlink_to("later")
    for out, real in (("link", "there"), ("dangling", "later")):
        with claimed(Config(out=tmp_path / out)) as (_, place, _):
            (place / "config.json").write_text("{}")
        assert holds(tmp_path / real) == [LOCK, "config.json"]
        assert (tmp_path / out).is_symlink()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with claimed(Config(out=Path())) as (_, place, _):
        (place / "config.json").write_text("{}")
    assert Path("config.json").exists()


def test_what_is_in_use_is_refused_and_left_as_it_is(tmp_path):
    def said(out: Path) -> str:
        with pytest.raises(UserError) as error, claimed(Config(out=out)):
            pass
        return str(error.value)

    (tmp_path / "file").write_text("mine")
    assert "Name another with --out" in said(tmp_path / "file")
    assert "Name another with --out" in said(tmp_path / "file" / "run")
    (tmp_path / "split.csv").write_text("mine")
    (tmp_path / "sub").mkdir()
    assert "already holds files" in said(tmp_path)
    with claimed(Config(out=tmp_path / "sub")):
        assert "another process is training" in said(tmp_path / "sub")
    assert holds(tmp_path) == ["file", "split.csv", "sub"]


KILLED = """
import os, signal, sys
from pathlib import Path
from common import files
from modified_unet.train import main

at, replace = sys.argv.pop(1), os.replace

def die_or_replace(source, target):
    if Path(target).name == at:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = die_or_replace
sys.exit(main())
"""


@pytest.mark.parametrize("at", ["split.csv", "config.json"])
def test_a_dead_process_s_reservation_is_taken_over(train, dataset, store_folder, tmp_path, at):
    out = tmp_path / "run"
    fixed = tiny.options(dataset, store_folder) | {"--out": out}
    options = [str(word) for pair in fixed.items() for word in pair]
    killed = subprocess.run([sys.executable, "-c", KILLED, at, *options], cwd=PROJECT)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "config.json").exists()
    assert LOCK in holds(out)
    assert train("modified_unet", "--out", out, "--resume", "auto") == 0
    names = ["best.pt", "config.json", "last.pt", "metrics.csv", "samples", "split.csv"]
    assert holds(out) == [LOCK, *names]


def test_sigterm_before_the_first_step_leaves_nothing(train, tmp_path, monkeypatch, capsys):
    def asked_to_end(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # the signal's answer comes first

    monkeypatch.setattr("common.training.loop.set_up", asked_to_end)
    assert train("modified_unet", "--out", tmp_path / "run") == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in capsys.readouterr().err
    assert holds(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_auto_resumes_only_what_the_options_fit(train, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(folder, "RUNS", tmp_path)
    out = tmp_path / "modified_unet-1"
    assert train("modified_unet", "--out", out, "--seed", 3) == 0
    (tmp_path / "modified_unet-0").mkdir()
    (tmp_path / "modified_unet-0" / "config.json").write_text("{")
    (out / "metrics.csv").unlink()  # unfinished, then, as far as auto can tell
    for seed, resumed in ((3, True), (4, False)):
        config = Config(resume="auto", seed=seed)
        config.given = frozenset({"seed"})
        with claimed(config) as (_, place, again):
            assert (again, place == out) == (resumed, resumed)
    said = capsys.readouterr().out
    assert f"leaves {out}: --resume {out} continues with the run's own options" in said
    assert "modified_unet-0/config.json is damaged" in said


def test_a_place_that_cannot_be_written_is_said(tmp_path, small_disk, capsys):
    disk = small_disk("64k")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(UserError, match="Read-only file system"), claimed(TrainConfig(out=disk)):
        pass


def test_data_named_from_another_folder_are_found_on_resuming(trained_run, dataset, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    saved = json.loads((run / "config.json").read_text())
    saved["options"]["data"] = "../steel"  # as older versions kept it
    (run / "config.json").write_text(json.dumps(saved))
    with claimed(Config(resume=str(run))) as (config, _, resumed):
        assert resumed
        assert config.data == dataset.resolve()
    given = Config(resume=str(run), data=Path("moved"))
    given.given = frozenset({"resume", "data"})
    with claimed(given) as (config, _, _):
        assert config.data == Path("moved")


def test_data_and_store_are_kept_as_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = Config(data=Path("steel"), store=Path("s"), out=Path("run")).to_json()
    assert (options["data"], options["store"]) == (f"{tmp_path}/steel", f"{tmp_path}/s")
