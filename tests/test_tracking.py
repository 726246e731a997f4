"""wandb gets what metrics.csv gets, and can fail without a training noticing."""

import json
from pathlib import Path

import pandas as pd
import pytest
import wandb
from wandb.sdk.mailbox import HandleAbandonedError

from common import tracking


class FakeRun:
    def __init__(self) -> None:
        self.logged: list[dict] = []
        self.finished = None

    def define_metric(self, *_: object, **__: object) -> None: ...

    def log(self, values: dict) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.finished = exit_code


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
    assert fake.finished == 0


@pytest.mark.parametrize("where", ["init", "log", "finish"])
@pytest.mark.parametrize("kind", [wandb.errors.CommError, HandleAbandonedError])
def test_a_failing_wandb_does_not_stop_a_training(
    train, tmp_path: Path, monkeypatch, capsys, where: str, kind: type[Exception]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise kind("unreachable")

    fake = FakeRun()
    setattr(fake, where, fails)
    monkeypatch.setattr(wandb, "init", fails if where == "init" else lambda **_: fake)
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--wandb", "online") == 0
    assert (out / "metrics.csv").exists()
    assert "unreachable" in capsys.readouterr().out


def test_without_a_server_the_run_is_recorded_offline(
    train, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(tracking, "PATIENCE", 2)
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--wandb", "online") == 0
    said = capsys.readouterr().out
    assert f"wandb sync {out}/wandb/offline-run-*" in said
    assert "off for the rest" not in said
    (record,) = out.glob("wandb/offline-run-*/*.wandb")
    run_id = json.loads((out / "config.json").read_text())["wandb_id"]
    assert record.name == f"run-{run_id}.wandb"
    assert b"val/dice_positive_macro" in record.read_bytes()


def test_the_user_s_environment_chooses_the_mode(monkeypatch) -> None:
    assert tracking.default_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert tracking.default_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracking.default_mode() == "disabled"


def test_wandb_is_not_waited_for_long() -> None:
    settings = tracking.settings()
    assert settings.init_timeout == settings.finish_timeout == 30


def test_a_key_is_looked_for_where_wandb_keeps_it(tmp_path: Path, monkeypatch) -> None:
    assert not tracking.has_key()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert tracking.has_key()
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert tracking.has_key()
