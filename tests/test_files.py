"""Files are whole or absent."""

import json
import math
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


def test_json_knows_no_nan(tmp_path: Path) -> None:
    publish_json(tmp_path / "x.json", {"a": [1.5, math.nan], "b": {"c": -math.inf, "d": "nan"}})
    saved = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert saved == {"a": [1.5, None], "b": {"c": None, "d": "nan"}}


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
