"""--minutes: as many epochs as fit, found beforehand, and nothing else than --epochs of them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from common.cli import parse
from common.errors import UserError
from common.training import probe
from modified_unet.train import Config, main
from tests import tiny


def test_what_is_timed_is_the_mean_after_the_first(monkeypatch) -> None:
    hands, counts = [0.0], []
    monkeypatch.setattr(probe, "clock", lambda device: hands[0])

    def work(count: int) -> None:
        hands[0] += 100.0 if not counts else 2.0 if count == 1 else 1.5 * count
        counts.append(count)

    device = probe.torch.device("cpu")
    assert probe._seconds_each(work, device, 10.0) == 1.5
    assert counts == [1, 1, 5]
    counts.clear()
    assert probe._seconds_each(work, device, 1.0) == 2.0  # one fills the time
    assert counts == [1, 1]


@pytest.fixture
def training(dataset: Path, store_folder: Path):
    """Calls a training's main at a size that takes seconds, with no --epochs of its own."""
    options = tiny.options(dataset, store_folder)
    del options["--epochs"]
    fixed = [str(word) for option in options.items() for word in option]
    return lambda *given: main([*fixed, *map(str, given)])


def test_a_run_of_so_many_minutes_equals_one_of_as_many_epochs(
    training, tmp_path: Path, monkeypatch, capsys
) -> None:
    """The probe trains, and leaves no trace: not in the weights, nor in config.json."""
    pieces = iter([(3, 0.5), (2, 4.0)])  # of steps, of validation: how many to do, seconds of one

    def seconds_each(work, device, budget) -> float:
        assert budget == pytest.approx(0.02 * 60 * 0.5)
        count, seconds = next(pieces)
        work(count)
        return seconds

    monkeypatch.setattr(probe, "_seconds_each", seconds_each)
    by_time, by_number = tmp_path / "minutes", tmp_path / "epochs"
    assert training("--out", by_time, "--minutes", 0.5) == 0
    config = json.loads((by_time / "config.json").read_text())
    steps, checks = (-(-config["data"]["images"][part] // 4) for part in ("train", "val"))
    steps -= config["data"]["images"]["train"] % 4 > 0  # the last one is not filled
    epochs = int(30 / (0.5 * steps + 4.0 * checks))
    assert epochs in (1, 2)
    assert f"--minutes 0.5: {epochs} epochs, each of {steps} steps of 0.5 s" in (
        capsys.readouterr().out
    )
    assert config["options"]["epochs"] == epochs
    assert "minutes" not in config["options"]
    assert training("--out", by_number, "--epochs", epochs) == 0
    other = json.loads((by_number / "config.json").read_text())
    del config["wandb_id"], other["wandb_id"], config["options"]["out"], other["options"]["out"]
    assert config == other
    tables = [pd.read_csv(run / "metrics.csv", dtype=str) for run in (by_time, by_number)]
    lasting = [c for c in tables[0] if not any(w in c for w in ("second", "wait", "memory"))]
    pd.testing.assert_frame_equal(tables[0][lasting], tables[1][lasting])
    assert (by_time / "best.pt").read_bytes() == (by_number / "best.pt").read_bytes()

    monkeypatch.setattr(probe, "epochs_within", lambda *_: pytest.fail("a resumed run is probed"))
    for resume in (("--resume", by_time), ("--out", by_time, "--resume", "auto")):
        assert training(*resume, "--minutes", 7) == 0
    assert json.loads((by_time / "config.json").read_text())["options"]["epochs"] == epochs


def test_where_not_one_epoch_fits_it_is_one(training, tmp_path: Path, capsys) -> None:
    assert training("--out", tmp_path / "run", "--minutes", 0.0001) == 0
    assert "--minutes 0.0001: 1 epochs, each of" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "run" / "metrics.csv")) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--minutes", "0"], "--minutes must be a positive number, got 0"),
        (["--minutes", "nan"], "--minutes must be a positive number"),
        (["--minutes", "5", "--epochs", "3"], "--minutes stands for --epochs"),
    ],
)
def test_impossible_times_are_refused(options: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(Config, options)
