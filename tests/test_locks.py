"""Locks between processes; file systems without them."""

import errno
import fcntl
import signal
import subprocess
import sys
import threading

import pytest

from common import locks
from common.locks import hold

HOLDS = """
import sys, time
from pathlib import Path
from common.locks import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until it is killed."""
    command = [sys.executable, "-c", HOLDS, tmp_path / "lock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_is_one_process_s_until_that_dies(tmp_path, holder):
    with pytest.raises(BlockingIOError, match="another process"):
        hold(tmp_path / "lock", wait=False)
    threading.Timer(0.3, holder.send_signal, [signal.SIGKILL]).start()
    with hold(tmp_path / "lock"):  # waits
        assert holder.wait(timeout=60) == -signal.SIGKILL
        with pytest.raises(BlockingIOError):
            hold(tmp_path / "lock", wait=False)
    with hold(tmp_path / "lock", wait=False):
        pass


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_once_and_gone_without(
    tmp_path, monkeypatch, capsys, answer
):
    def refuses(*_):
        raise OSError(answer, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuses)
    locks._say_unlocked.cache_clear()
    for name in ("a.lock", "b.lock"):
        with hold(tmp_path / name, wait=False):
            pass
    assert capsys.readouterr().out.count(f"{tmp_path} knows no locks") == 1


def test_a_lock_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        hold(tmp_path / "file" / "lock")
