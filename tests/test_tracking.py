"""wandb gets what metrics.csv gets, asks for no step's time, and can fail without harm."""

import json
import math
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
import wandb

from common import tracking
from common.config import TrainConfig
from common.tracking import Tracker, begin, choose_mode, default_mode
from common.training import loop
from unet_64x400.train import Config

KEY = "0" * 40


class FakeRun:
    def __init__(self) -> None:
        self.logged: list[dict] = []
        self.summary: dict = {}
        self.finished = None

    def define_metric(self, *_: object, **__: object) -> None: ...

    def log(self, values: dict) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.finished = exit_code


@pytest.fixture
def offered(monkeypatch) -> dict:
    """What `wandb.init` is called with; it gives a run that is none."""
    arguments = {}
    monkeypatch.setattr(wandb, "init", lambda **kwargs: arguments.update(kwargs) or FakeRun())
    return arguments


@pytest.fixture
def ended(monkeypatch) -> list[tuple[wandb.Run, dict]]:
    """The real runs that a test ends, each with its summary."""
    finish, found = wandb.Run.finish, []

    def end(run: wandb.Run, **how: object) -> None:
        found.append((run, dict(run.summary)))
        finish(run, **how)

    monkeypatch.setattr(wandb.Run, "finish", end)
    return found


def netrc(monkeypatch, path: Path, machine: str) -> None:
    path.write_text(f"machine {machine} login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(path))


def test_wandb_gets_the_rows_of_metrics_csv(train, tmp_path: Path, monkeypatch) -> None:
    fake, arguments = FakeRun(), {}
    monkeypatch.setattr(wandb, "init", lambda **kwargs: arguments.update(kwargs) or fake)
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--epochs", 2, "--wandb", "offline") == 0
    table = pd.read_csv(out / "metrics.csv")
    epochs = [row for row in fake.logged if "train/loss" in row]
    assert [list(row) for row in epochs] == [list(table.columns)] * 2
    assert [row["val/loss"] for row in epochs] == pytest.approx(table["val/loss"].tolist())
    steps = [row["step"] for row in fake.logged if "train/step_loss" in row]
    assert steps == list(range(len(steps)))
    pictures = next(row["samples"] for row in fake.logged if "samples" in row)
    assert set(pictures[0]._masks) == {"truth", "prediction"}
    assert arguments["mode"] == "offline"
    assert arguments["config"]["variant"] == "modified_unet"
    assert arguments["config"]["data"]["fingerprint"]
    assert arguments["config"]["size"] == "32x200"
    assert fake.finished == 0


def test_the_summary_holds_the_row_of_the_best_epoch(
    train, tmp_path: Path, monkeypatch, ended
) -> None:
    validate, scores = loop.validate, iter([0.1, 0.5, 0.3])
    monkeypatch.setattr(loop, "validate", lambda *t: validate(*t) | {"val/dice_mean": next(scores)})
    out = tmp_path / "run"
    options = ("--epochs", 3, "--seed", 7, "--folds", 3, "--fold", 1, "--wandb", "offline")
    assert train("modified_unet", "--out", out, *options) == 0
    kept = torch.load(out / "best.pt", weights_only=True)
    assert kept["epoch"] == 1
    ((_, summary),) = ended
    for name, value in kept["metrics"].items():
        if math.isfinite(value):
            assert summary[name] == pytest.approx(value), name
    parameters = sum(v.numel() for k, v in kept["model"].items() if k.endswith(("weight", "bias")))
    columns = [summary[name] for name in ("size", "parameters", "seed", "fold")]
    assert columns == ["32x200", parameters, 7, 1]


def test_no_step_waits_for_a_server(train, tmp_path: Path, monkeypatch) -> None:
    """wandb's init returns only after the first epoch has been trained."""
    fake, trained, in_time = FakeRun(), threading.Event(), []

    def slow(**_: object) -> FakeRun:
        in_time.append(trained.wait(60))
        return fake

    validate = loop.validate
    monkeypatch.setattr(wandb, "init", slow)
    monkeypatch.setattr(loop, "validate", lambda *t: trained.set() or validate(*t))
    assert train("modified_unet", "--out", tmp_path / "run", "--wandb", "offline") == 0
    assert in_time == [True]
    assert any("val/loss" in row for row in fake.logged)
    assert fake.finished == 0


class Surprise(Exception):
    """Nothing that wandb documents."""


@pytest.mark.parametrize("where", ["init", "log", "finish"])
@pytest.mark.parametrize("kind", [wandb.errors.CommError, Surprise])
def test_a_failing_wandb_does_not_stop_a_training(
    train, tmp_path: Path, monkeypatch, capsys, where: str, kind: type[Exception]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise kind("unreachable")

    fake = FakeRun()
    setattr(fake, where, fails)
    monkeypatch.setattr(wandb, "init", fails if where == "init" else lambda **_: fake)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--wandb", "online") == 0
    assert (out / "metrics.csv").exists()
    assert "unreachable" in capsys.readouterr().out


def test_a_service_that_dies_is_said_and_passed_over(tmp_path: Path, capsys) -> None:
    tracker = Tracker(Config(wandb="offline"), tmp_path, "abcdef", 1, {})
    tracker.log_step(0, 1.0, 1.0)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("wandb/offline-run-*/*.wandb")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (service,) = [p for p in psutil.Process().children(recursive=True) if "wandb-core" in p.name()]
    service.kill()
    service.wait()
    for step in range(1, 1000):
        tracker.log_step(step, 1.0, 1.0)
    tracker.finish()
    assert "off for the rest of this run" in capsys.readouterr().out
    assert wandb.run is None  # or the next training in this process would find no login
    with pytest.raises(ConnectionError):
        wandb.teardown()  # of the dead


def test_without_a_server_the_run_is_recorded_offline(
    train, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--wandb", "online") == 0
    said = capsys.readouterr().out
    assert "wandb: online (logged in to http://127.0.0.1:9)" in said
    assert f"wandb sync {out}/wandb/offline-run-*" in said
    assert "off for the rest" not in said
    wandb.teardown()  # waits for its service, which writes the file
    (record,) = out.glob("wandb/offline-run-*/*.wandb")
    run_id = json.loads((out / "config.json").read_text())["wandb_id"]
    assert record.name == f"run-{run_id}.wandb"
    assert b"val/dice_positive_macro" in record.read_bytes()


def test_a_login_is_found_where_wandb_puts_it(tmp_path: Path, monkeypatch) -> None:
    assert default_mode() == "offline"
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.login(key=KEY, verify=False)
    wandb.teardown()  # as in a new process
    assert default_mode() == "online"


def test_a_login_counts_for_its_own_server(tmp_path: Path, monkeypatch) -> None:
    netrc(monkeypatch, tmp_path / "netrc", "wandb.plant.example:8080")
    mode, why = choose_mode(None)
    assert mode == "offline"
    assert why.startswith("no login to https://")
    wandb.teardown()
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.plant.example:8080")
    assert choose_mode(None) == ("online", "logged in to http://wandb.plant.example:8080")


def test_wandb_s_settings_file_is_heard(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    file = tmp_path / "settings"
    file.write_text(f"[default]\napi_key = {KEY}\nbase_url = http://localhost:8080\n")
    assert choose_mode(None) == ("online", "logged in to http://localhost:8080")
    wandb.teardown()
    file.write_text(f"[default]\napi_key = {KEY}\nmode = offline\nproject = plant\n")
    assert default_mode() == "offline"


def test_the_environment_chooses_the_mode_and_an_option_beats_it(monkeypatch) -> None:
    assert default_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert default_mode() == "online"
    for mode in ("disabled", "offline"):
        wandb.teardown()
        monkeypatch.setenv("WANDB_MODE", mode)
        assert default_mode() == mode
    assert choose_mode("online")[0] == "online"
    assert choose_mode("disabled") == ("disabled", "--wandb")


@pytest.mark.parametrize("asked", [None, "online"])
def test_without_a_usable_key_nobody_is_asked_for_one(asked, monkeypatch) -> None:
    mode, why = choose_mode(asked)
    assert mode == "offline"
    assert "`wandb login`" in why
    monkeypatch.setenv("WANDB_API_KEY", "short")
    mode, why = choose_mode(asked)
    assert mode == "offline"
    assert "WANDB_API_KEY invalid" in why


def test_the_mode_is_one_line_of_the_console(tmp_path: Path, offered, capsys) -> None:
    begin(None, tmp_path, None, None, "train")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("wandb: offline (no login to https://")
    assert begin("disabled", tmp_path, None, None, "train") is None
    assert capsys.readouterr().out == "wandb: disabled (--wandb)\n"


def test_options_beat_wandb_s_variables_and_those_beat_our_defaults(
    tmp_path: Path, monkeypatch, offered
) -> None:
    names = ("project", "group", "name", "job_type", "dir")
    begin(None, tmp_path, None, None, "train")
    assert [offered[name] for name in names] == [
        "steel-defects", "steel-defects", tmp_path.name, "train", tmp_path,
    ]  # fmt: skip
    wandb.teardown()
    for name, value in {
        "PROJECT": "mill", "RUN_GROUP": "coils", "NAME": "first", "JOB_TYPE": "night",
        "DIR": str(tmp_path / "scratch"), "FINISH_TIMEOUT": "600",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"WANDB_{name}", value)
    begin(None, tmp_path, None, None, "train")
    assert [offered[name] for name in names] == [
        "mill", "coils", "first", "night", tmp_path / "scratch",
    ]  # fmt: skip
    assert wandb.setup(offered["settings"]).settings.finish_timeout == 600
    begin(None, tmp_path, "ours", "mine", "train")
    assert (offered["project"], offered["group"]) == ("ours", "mine")


def test_a_run_of_a_sweep_has_the_agent_s_id(train, tmp_path: Path, monkeypatch, ended) -> None:
    """The variables are those that wandb's agent sets."""
    values = tmp_path / "config.yaml"
    values.write_text("size: {value: 32x200}\nseed: {value: 0}\n")
    for name, value in {
        "SWEEP_ID": "s1", "RUN_ID": "agents-own", "PROJECT": "swept", "DIR": str(tmp_path),
        "SWEEP_PARAM_PATH": str(values),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"WANDB_{name}", value)
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--wandb", "offline") == 0
    assert json.loads((out / "config.json").read_text())["wandb_id"] == "agents-own"
    ((run, summary),) = ended
    assert (run.id, run.project, run.sweep_id) == ("agents-own", "swept", "s1")
    assert (run.config["size"], run.config["seed"]) == ("32x200", 0)
    assert (summary["size"], summary["epoch"]) == ("32x200", 0)


def test_wandb_is_not_waited_for_long() -> None:
    settings = tracking.settings()
    assert settings.init_timeout == settings.finish_timeout == 30


def test_project_and_group_are_options() -> None:
    assert (TrainConfig().wandb_project, TrainConfig().wandb_group) == (None, None)
