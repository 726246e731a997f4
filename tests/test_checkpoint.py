"""Checkpoints: whole, plain, and refused with a reason."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common import checkpoint
from common.config import TrainConfig
from common.errors import UserError
from common.training import record
from common.training.state import Progress
from common.training.step import MuonAdamW


def test_round_trip(tmp_path: Path) -> None:
    state = {"model": {"w": torch.arange(3.0)}, "epoch": 2, "history": [{"loss": 0.5}]}
    checkpoint.save(tmp_path / "a.pt", state)
    loaded = checkpoint.load(tmp_path / "a.pt")
    assert torch.equal(loaded["model"]["w"], torch.tensor([0.0, 1.0, 2.0]))
    assert (loaded["epoch"], loaded["history"]) == (2, [{"loss": 0.5}])


class Payload:
    """What an attacker would put into a checkpoint: loading it calls a function."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_a_checkpoint_carrying_code_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"model": Payload(marker)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="could run code"):
        checkpoint.load(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(UserError, match="refused"):
        checkpoint.load(tmp_path / "b.pt")
    assert not marker.exists()


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"w": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=str(path)):
        checkpoint.load(path)


def test_a_missing_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has not finished an epoch"):
        checkpoint.load(tmp_path / "last.pt")


def test_another_shape_says_which_and_why(tmp_path: Path) -> None:
    weights = {"0.weight": torch.zeros(3, 2), "extra": torch.zeros(1)}
    with pytest.raises(UserError) as error:
        checkpoint.load_weights(nn.Sequential(nn.Linear(2, 4)), weights, Path("x.pt"))
    text = str(error.value)
    assert "0.bias is missing" in text
    assert "extra is not part of the network" in text
    assert "0.weight is (3, 2), the network has (4, 2)" in text
    assert "--base-channels" in text


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"epoch": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "publish", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.save(path, {"epoch": 2})
    assert checkpoint.load(path)["epoch"] == 1


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"state_dict": {}, "epoch": 3}, "it holds state_dict, epoch; expected model"),
        ([1, 2], "it holds a list; expected model"),
        ({"model": 3}, "it holds a int"),
        ({"model": {"w": 3}}, "in place of a network's weights by name it holds w"),
    ],
)
def test_a_checkpoint_of_another_make_is_said(tmp_path: Path, state: object, said: str) -> None:
    path = tmp_path / "best.pt"
    torch.save(state, path)
    with pytest.raises(UserError, match=said):
        checkpoint.load_weights(
            nn.Linear(2, 2), checkpoint.load(path, keys=("model",))["model"], path
        )


EMPTY = {"state": {}, "param_groups": []}
PROGRESS = {"epoch": 2, "best_epoch": 1, "step": 1, "history": [{"val/loss": 1.0}] * 2}


@pytest.mark.parametrize(
    "change",
    [
        *({"optimiser": value} for value in (EMPTY, {}, None, torch.ones(2))),
        *(
            {"optimiser": {"muon": value, "adamw": value}}
            for value in (EMPTY, None, 3, torch.ones(2))
        ),
        *({"progress": value} for value in ({"epochs_done": 3}, 3, {"epoch": 1}, {"epoch": "2"})),
        {"progress": PROGRESS | {"best_epoch": 2}},
        {"progress": PROGRESS | {"step": None}},
        {"progress": PROGRESS | {"step": -1}},
        {"progress": PROGRESS | {"history": [1, 2]}},
        {"progress": PROGRESS | {"history": None}},
        {"progress": PROGRESS | {"loss_sum": torch.ones(2)}},
    ],
)
def test_a_state_of_another_make_is_said(tmp_path: Path, change: dict) -> None:
    path, state, restore = _restorable(tmp_path)
    assert restore().best_epoch == 1
    checkpoint.save(path, state | change)
    with pytest.raises(UserError, match=r"last\.pt .*does not fit"):
        restore()


@pytest.mark.parametrize(
    ("part", "kept"), [("muon", "momentum"), ("adamw", "exp_avg"), ("adamw", "exp_avg_sq")]
)
def test_moments_of_another_size_are_said(tmp_path: Path, part: str, kept: str) -> None:
    path, state, restore = _restorable(tmp_path)
    state["optimiser"][part]["state"][0][kept] = torch.zeros(7)
    checkpoint.save(path, state)
    with pytest.raises(UserError, match=rf"{part} holds moments of another size"):
        restore()


def _restorable(tmp_path: Path) -> tuple[Path, dict, Callable[[], Progress]]:
    """A last.pt after a step, what it holds, and what reads it."""
    model = nn.Linear(2, 2)
    optimiser = MuonAdamW(model, TrainConfig())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step(torch.tensor(0.0))
    weights, path = model.state_dict(), tmp_path / "last.pt"
    state = {"model": weights, "average": weights, "optimiser": optimiser.state_dict()}
    state["progress"] = PROGRESS
    checkpoint.save(path, state)
    return path, state, lambda: record.restore(path, torch.device("cpu"), model, model, optimiser)


def test_a_file_of_which_pytorch_asserts_what_is_not_so_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02K\x05Q.")  # a storage that is called 5
        file.writestr("archive/version", b"3\n")
    with pytest.raises(UserError, match=r"cannot read the checkpoint .*must be a tuple, got int"):
        checkpoint.load(path)


def test_a_damaged_checkpoint_is_refused_or_read(tmp_path: Path) -> None:
    """Whatever bytes a disk or a transfer spoils: no other exception ever escapes."""
    path, random = tmp_path / "last.pt", np.random.default_rng(0)
    model = nn.Linear(2, 2)
    checkpoint.save(path, {"model": model.state_dict(), "progress": {"epoch": 3, "name": "a"}})
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(300):
        spoilt = whole.copy()
        start = random.integers(0, len(whole))
        end = start + random.integers(1, 40)
        spoilt[start:end] = random.integers(0, 256, len(spoilt[start:end]))
        path.write_bytes(spoilt.tobytes())
        try:
            checkpoint.load(path, keys=("model", "progress"))
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > 100
