"""Several trainings as processes: each once, whoever asks; stopped, resumed, failing.

The trainings are stand-ins that write what a run directory says of its epochs, in no time.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.config import PROJECT
from common.errors import Interrupted, UserError
from common.locks import hold
from common.training import jobs
from common.training.folder import LOCK
from common.training.jobs import Job, Reached, reached, time_left, train_all

CONFIG = {
    "variant": "modified_unet", "options": {"height": 8, "width": 8, "epochs": 3},
    "model": {"num_classes": 5}, "normalisation": [0.4, 0.2],
    "data": {"root": "", "fingerprint": ""}, "baselines": {}, "git_commit": None, "wandb_id": "",
}  # fmt: skip
HEADER = "epoch,train/loss,val/loss,val/dice_mean,epoch_seconds"
# Trains 3 epochs, or those that are missing; says which. Ends between two where it is asked to.
TRAINING = f"""
import json, os, signal, sys, time
from pathlib import Path
folder, rest = Path(sys.argv[1]), float(sys.argv[2])
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
folder.mkdir(exist_ok=True)
half = folder / "half"
half.write_text({json.dumps(CONFIG)!r}); os.replace(half, folder / "config.json")
table = folder / "metrics.csv"
rows = table.read_text().splitlines() if table.exists() else [{HEADER!r}]
for epoch in range(len(rows) - 1, 3):
    end = time.monotonic() + rest
    while time.monotonic() < end and not asked:
        time.sleep(0.01)
    if asked:
        print("saved"); sys.exit(143)
    rows.append(f"{{epoch}},1,1,0.5,2.0")
    half.write_text("\\n".join(rows) + "\\n"); os.replace(half, table)
    print(f"trained {{epoch}} with {{os.environ.get('CUDA_VISIBLE_DEVICES')}}", flush=True)
"""


def job(place: Path, name: str, rest: float = 0.0, program: str = TRAINING) -> Job:
    (place / "logs").mkdir(exist_ok=True)
    folder = place / name
    return Job(folder, "slim", (sys.executable, "-c", program, str(folder), str(rest)), epochs=3)


def said(one: Job) -> list[str]:
    return [line.split(" with")[0] for line in one.log.read_text().splitlines()]


EPOCHS = ["trained 0", "trained 1", "trained 2"]


def test_each_training_runs_once_and_a_second_time_nothing_does(tmp_path, capsys):
    queue = [job(tmp_path, name) for name in "abc"]
    train_all(queue, 2)
    assert [said(one) for one in queue] == [EPOCHS] * 3
    told = capsys.readouterr().out
    assert "3 trainings, 0 of them done" in told
    assert "trained, 3 of 3; 00:00 left" in told
    train_all(queue, 2)
    assert [said(one) for one in queue] == [EPOCHS] * 3
    assert capsys.readouterr().out == "3 trainings, 3 of them done\n"


def test_a_signal_stops_all_and_the_next_time_they_go_on(tmp_path):
    queue = [job(tmp_path, name, rest) for name, rest in (("a", 0), ("b", 1), ("c", 1))]

    def interrupt() -> None:
        while not all(one.log.exists() and said(one) for one in queue[:2]):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interrupted, match="saved") as stopped:
        train_all(queue, 2)
    assert stopped.value.exit_code == 128 + signal.SIGINT
    assert said(queue[0]) == EPOCHS
    assert said(queue[1])[-1] == "saved"
    assert not reached(queue[1]).finished
    train_all([job(tmp_path, one.name) for one in queue], 2)
    assert [[line for line in said(one) if line != "saved"] for one in queue] == [EPOCHS] * 3


def test_two_processes_take_different_trainings(tmp_path):
    """And both return when all are trained."""
    queue = [job(tmp_path, name) for name in "abcd"]
    program = (
        "import sys; from pathlib import Path; from tests.training import test_jobs as t; "
        "print('ready', flush=True); input(); "
        "t.train_all([t.job(Path(sys.argv[1]), name, 0.2) for name in 'abcd'], 1)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=PROJECT, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [said(one) for one in queue] == [EPOCHS] * 4
    begun = [{line[0] for line in text.splitlines() if "begins" in line} for text in told]
    assert all(begun)
    assert begun[0] | begun[1] == set("abcd")
    assert not begun[0] & begun[1]


def test_a_run_that_is_trained_elsewhere_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "LOOK_ELSEWHERE", 0.05)
    one = job(tmp_path, "a")
    one.folder.mkdir()
    asked = threading.Event()
    look = jobs._is_held

    def seen(lock: Path) -> bool:
        asked.set()
        return look(lock)

    monkeypatch.setattr(jobs, "_is_held", seen)

    def elsewhere() -> None:
        with hold(one.folder / LOCK):
            ready.set()
            asked.wait(60)
            subprocess.run(one.command, check=True, stdout=subprocess.DEVNULL)

    ready = threading.Event()
    other = threading.Thread(target=elsewhere)
    other.start()
    ready.wait(60)
    train_all([one], 1)
    other.join()
    assert not one.log.exists()
    assert reached(one) == Reached(3, 3, 6.0)


def test_a_failure_lets_the_others_go_on_and_is_told_at_the_end(tmp_path, capsys):
    fails = TRAINING.replace(
        "asked:\n        print", "True:\n        print('out of steel')\n        print"
    )
    queue = [job(tmp_path, "a", program=fails), job(tmp_path, "b")]
    with pytest.raises(UserError, match="1 of 2 trainings failed") as failed:
        train_all(queue, 1)
    assert str(queue[0].log) in str(failed.value)
    assert "a failed, the others go on:\nout of steel" in capsys.readouterr().out
    assert said(queue[1]) == EPOCHS


def test_one_that_cannot_begin_ends_all(tmp_path):
    queue = [job(tmp_path, "a", program="print('no such option'); raise SystemExit(2)")]
    queue += [job(tmp_path, "b", 60)]
    begun = time.monotonic()
    with pytest.raises(UserError, match="a cannot be trained:\nno such option"):
        train_all(queue, 2)
    assert time.monotonic() - begun < 60


def test_the_time_left_follows_from_epochs_of_the_same_kind(tmp_path):
    train_all([job(tmp_path, "a")], 1)  # 2 seconds an epoch, as it says
    queue = [job(tmp_path, "a"), job(tmp_path, "b"), job(tmp_path, "c")]
    assert time_left(queue, 1) == "00:12 left"
    assert time_left(queue, 2) == "00:06 left"
    large = Job(tmp_path / "d", "large", ("false",), 3)
    assert time_left([*queue, large], 1) == "at least 00:12 left"
    assert time_left([*queue, Job(tmp_path / "d", "slim", ("false",))], 1) == "at least 00:12 left"


@pytest.mark.parametrize(
    ("visible", "gpus", "at_once", "places"),
    [
        (None, 0, 1, [{}]),
        (None, 0, 3, [{"OMP_NUM_THREADS": "2"}] * 3),
        (None, 1, 2, [{}, {}]),
        (None, 2, 3, [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in "010"]),
        ("4,7", 2, 2, [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in "47"]),
    ],
)
def test_each_has_a_gpu_or_its_share_of_the_cores(monkeypatch, visible, gpus, at_once, places):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(jobs, "cores", lambda: 8)
    assert jobs._places(at_once) == places
