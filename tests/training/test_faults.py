"""What happens to long runs: losses that are not finite, full disks, images that vanish."""

import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
import torch

from common import checkpoint, files, labels
from common.losses import Loss
from common.training import loop as training


@pytest.fixture
def bad_at(monkeypatch: pytest.MonkeyPatch):
    """Makes the loss of the given training steps infinite, counted over the whole run."""

    def break_at(*steps: int) -> None:
        whole, count = Loss.forward, [0]

        def forward(self: Loss, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            loss = whole(self, logits, target)
            if not loss.requires_grad:  # validation
                return loss
            count[0] += 1
            return loss * torch.inf if count[0] - 1 in steps else loss

        monkeypatch.setattr(Loss, "forward", forward)

    return break_at


def weights(run: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    return torch.load(run / name, weights_only=True)["average"]


def steps_an_epoch(run: Path, batch: int = 4) -> int:
    return int((pd.read_csv(run / "split.csv")["split"] == "train").sum()) // batch


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_epoch(
    train, tmp_path: Path, bad_at, capsys
) -> None:
    plain = ("unet_64x400", "--crop", "none", "--sampling", "uniform")
    assert train(*plain, "--out", tmp_path / "good") == 0
    steps = steps_an_epoch(tmp_path / "good")
    bad_at(steps + 1)
    out = tmp_path / "run"
    assert train(*plain, "--out", out, "--epochs", 2) == 2
    said = capsys.readouterr().err
    assert "epoch 2, step 2" in said
    names = pd.read_csv(out / "split.csv").query("split == 'train'")["image"]
    assert sum(name in said for name in names) == 4
    assert "state after epoch 1 is kept" in said
    assert "Try a lower --lr" in said
    assert len(pd.read_csv(out / "metrics.csv")) == 1
    assert all(torch.isfinite(t).all() for t in weights(out).values())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_where_memory_runs_out_it_is_said_what_to_lower(
    train, tmp_path: Path, monkeypatch, capsys, error: Exception
) -> None:
    whole, epochs = training._train_epoch, []

    def second_fails(*arguments):
        epochs.append(1)
        if len(epochs) == 2:
            raise error
        return whole(*arguments)

    monkeypatch.setattr(training, "_train_epoch", second_fails)
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--epochs", 2) == 2
    said = capsys.readouterr().err
    step = "a step of 4 strips of 32x200 as crops of 100%x32% in fp32 (epoch 2)"
    assert f"does not hold {step}" in said
    assert f"The state after epoch 1 is kept in {out / 'last.pt'}" in said
    assert "lower --batch-size" in said
    assert f"--resume {out}" in said
    assert len(pd.read_csv(out / "metrics.csv")) == 1


def test_a_full_device_is_said_before_anything_is_written(
    train, tmp_path: Path, monkeypatch, capsys
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    monkeypatch.setattr(torch.nn.Module, "to", no_room)
    assert train("modified_unet", "--out", tmp_path / "run") == 2
    assert "the memory of cpu has no room for the network" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_step_larger_than_the_memory_ends_in_words(train, tmp_path: Path, capsys) -> None:
    """For real: the address space is a little larger than now."""
    resource = pytest.importorskip("resource")
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**30, before[1]))
    try:
        code = train("unet_64x400", "--out", tmp_path / "run", "--height", 256, "--width", 1600,
                     "--base-channels", 64, "--batch-size", 40, "--crop", "none")  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert code == 2
    said = capsys.readouterr().err
    assert "the memory of cpu does not hold a step of 40 strips of 256x1600 in fp32" in said
    assert "No epoch was finished before." in said
    assert "Traceback" not in said


def test_other_errors_keep_their_traceback(train, tmp_path: Path, monkeypatch) -> None:
    def fails(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(training, "_train_epoch", fails)
    with pytest.raises(RuntimeError, match="mat1"):
        train("modified_unet", "--out", tmp_path / "run")


def test_a_disk_that_fills_up_keeps_finished_epochs(
    train, tmp_path: Path, monkeypatch, capsys
) -> None:
    whole, saved = files.publish, []

    def fills_up(path: Path, content: bytes) -> None:
        if path.name == "last.pt":
            saved.append(path)
            if len(saved) == 2:
                raise OSError(28, "No space left on device")
        whole(path, content)

    monkeypatch.setattr(checkpoint, "publish", fills_up)
    out = tmp_path / "run"
    assert train("unet_64x400", "--out", out, "--epochs", 2) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "--resume" in said
    assert len(pd.read_csv(out / "metrics.csv")) == 1
    assert checkpoint.load(out / "last.pt")["progress"]["epoch"] == 1
    monkeypatch.undo()
    assert train("unet_64x400", "--out", out, "--epochs", 2, "--resume", "auto") == 0
    assert len(pd.read_csv(out / "metrics.csv")) == 2


def test_a_folder_that_becomes_read_only(train, small_disk, monkeypatch, capsys) -> None:
    disk = small_disk("64m")
    out, begin = disk / "run", training._run_epoch

    def epoch(state, *arguments: object) -> None:
        if state.progress.epoch == 1:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        begin(state, *arguments)

    monkeypatch.setattr(training, "_run_epoch", epoch)
    # A lock, which is a file open for writing, would keep the disk writable.
    monkeypatch.setattr("common.training.folder.hold", lambda *_, **__: nullcontext())
    assert train("unet_64x400", "--out", out, "--epochs", 2) == 2
    said = capsys.readouterr().err
    assert "Read-only file system" in said
    assert f"--resume {out}" in said
    monkeypatch.undo()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert train("unet_64x400", "--out", out, "--epochs", 2, "--resume", "auto") == 0
    assert len(pd.read_csv(out / "metrics.csv")) == 2


def test_a_folder_whose_place_a_file_takes(train, tmp_path: Path, monkeypatch, capsys) -> None:
    out, begin = tmp_path / "run", training._run_epoch

    def epoch(*arguments: object) -> None:
        shutil.rmtree(out)
        out.write_text("")
        begin(*arguments)

    monkeypatch.setattr(training, "_run_epoch", epoch)
    assert train("unet_64x400", "--out", out) == 2
    assert f"cannot write the checkpoint {out}" in capsys.readouterr().err


def test_an_image_that_vanished_is_said_before_training(
    train, dataset: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    root = tmp_path / "set"
    shutil.copytree(dataset, root)
    victim = sorted((root / "train_images").iterdir())[0]
    read = labels.read_image

    def vanishes(path: Path, bits: int):
        victim.unlink(missing_ok=True)
        return read(path, bits)

    monkeypatch.setattr("common.labels.read_image", vanishes)
    out = tmp_path / "run"
    options = ("--data", root, "--out", out, "--store", tmp_path / "store")
    assert train("unet_64x400", *options) == 2
    assert victim.name in capsys.readouterr().err
    assert not out.exists()


def test_the_data_may_vanish_once_training_has_begun(
    train, dataset: Path, tmp_path: Path, monkeypatch
) -> None:
    """The store is open by then: neither images nor the store's files are needed again."""
    root, store = tmp_path / "set", tmp_path / "store"
    shutil.copytree(dataset, root)
    begin = training._run_epoch

    def epoch(*arguments: object) -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(store, ignore_errors=True)
        begin(*arguments)

    monkeypatch.setattr(training, "_run_epoch", epoch)
    out = tmp_path / "run"
    assert train("unet_64x400", "--data", root, "--out", out, "--store", store) == 0
    assert len(pd.read_csv(out / "metrics.csv")) == 1


def test_a_batch_norm_over_one_value_is_refused_before_the_data_is_read(
    train, tmp_path: Path, capsys
) -> None:
    tiny = ("--out", tmp_path / "run", "--height", 16, "--width", 16, "--batch-size", 1)
    assert train("modified_unet", *tiny, "--data", tmp_path / "none") == 2
    said = capsys.readouterr().err
    assert "a batch of 1 x 16x16 leaves batch normalisation one value a channel" in said
    assert not (tmp_path / "run").exists()


def test_compiling_without_a_compiler_is_refused_early(
    train, tmp_path: Path, monkeypatch, capsys
) -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("\nNo working C++ compiler found in torch._inductor.config.cpp.cxx")

    monkeypatch.setattr(torch, "compile", lambda _: no_compiler)
    out = tmp_path / "run"
    assert train("modified_unet", "--out", out, "--compile", "--data", tmp_path / "none") == 2
    said = capsys.readouterr().err
    assert "--compile: torch.compile does not work on this machine: No working C++" in said
    assert not out.exists()


def test_half_a_launch_is_said(train, tmp_path: Path, monkeypatch, capsys) -> None:
    """As a cluster's manager leaves its variables to every command."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert train("modified_unet", "--out", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "MASTER_ADDR" in said
    assert "Start it with torchrun, or unset them" in said


def test_a_seed_beyond_64_bits_is_refused(train, tmp_path: Path, capsys) -> None:
    assert train("modified_unet", "--out", tmp_path / "run", "--seed", 2**64) == 2
    assert "--seed must be below 2**63" in capsys.readouterr().err
