"""Files are whole or absent."""

import os
from pathlib import Path

import pytest

from common.files import publish, publish_json


def test_publishes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    publish(path, "old")
    publish_json(path, {"k": [1, 2]})
    assert path.read_text() == '{\n  "k": [\n    1,\n    2\n  ]\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failure_keeps_the_earlier_file_and_leaves_no_rest(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a"
    publish(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
