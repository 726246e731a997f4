"""What a process may use and has used, by what the system itself says."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from common import machine
from common.config import PROJECT

MIB = 2**20


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot bind a process to a core")
def test_cores_are_those_that_the_process_is_bound_to(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert machine.cores() <= len(before)


def test_nobody_counts_the_machine_s_cores():
    """Also not a pool of threads that is not told how many it may have."""
    folders = {path.parent for path in PROJECT.glob("*/__init__.py")} - {PROJECT / "tests"}
    sources = {path: path.read_text() for folder in folders for path in folder.rglob("*.py")}
    assert len(sources) > 60
    counting = [p.name for p, s in sources.items() if "cpu_count" in s or "PoolExecutor()" in s]
    assert counting == ["machine.py"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 8), ("350000 100000", 4), ("1600000 100000", 8), ("5000 100000", 1), ("", 8)],
)
def test_a_container_s_share_of_time_counts(tmp_path, monkeypatch, limit: str, expected: int):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "cpu.max")
    assert machine.cores() == 8
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert machine.cores() == expected


GROWS = """
import numpy as np
from common.machine import peak_memory
before = peak_memory()
np.ones(200 * 2**20, np.uint8)
print(before, peak_memory())
"""


def test_peak_memory_remembers_what_was_given_back():
    parent = np.ones(400 * MIB, np.uint8)  # which is not the child's
    done = subprocess.run([sys.executable, "-c", GROWS], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < parent.nbytes
    assert 190 * MIB < after - before < 220 * MIB


def test_versions_are_the_imported_libraries_own():
    found = machine.versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert (found["cuda"] is None) == (torch.version.cuda is None)
    assert all(re.match(r"\d+\.\d+", found[name]) for name in ("torchvision", "opencv"))
