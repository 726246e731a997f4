"""Files are whole or absent."""

import json
import math
import os
import stat
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import publish, publish_json, publishing, spare


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


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "a"
    target.write_text("old")
    (tmp_path / "link").symlink_to("real/a")
    (tmp_path / "dangling").symlink_to("real/b")
    publish(tmp_path / "link", "new")
    publish(tmp_path / "dangling", "first")
    assert (tmp_path / "link").is_symlink()
    assert (target.read_text(), (tmp_path / "real" / "b").read_text()) == ("new", "first")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        publish(tmp_path / "loop", "nothing")


def test_devices_and_pipes_are_written_to_and_stay(tmp_path: Path) -> None:
    null, pipe = tmp_path / "null", tmp_path / "pipe"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        null = Path(os.devnull)
    publish(null, "gone")
    assert stat.S_ISCHR(null.stat().st_mode)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with publishing(pipe, "w") as file:
        file.write("read me")
    assert os.read(reader, 100) == b"read me"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_disk_and_a_folder_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), publishing(tmp_path):
        pytest.fail("opened")
    disk = tmp_path / "disk"
    try:
        os.mknod(disk, 0o600 | stat.S_IFBLK, os.makedev(259, 4000))
    except PermissionError:
        pytest.skip("needs to make a device")
    with pytest.raises(OSError, match="disk"), publishing(disk):
        pytest.fail("opened")


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_a_new_file_has_the_rights_of_any_new_file(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        publish(tmp_path / "a", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_an_earlier_file_s_rights_are_kept_where_the_file_system_knows_any(
    tmp_path: Path, monkeypatch
) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    publish(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuses)
    publish(path, "newer")
    assert path.read_text() == "newer"


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "ü" * 125 + ".csv"])
def test_the_longest_name_can_be_published(tmp_path: Path, name: str) -> None:
    publish(tmp_path / name, "whole")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "whole")]


def test_inputs_are_spared_by_whatever_name(tmp_path: Path) -> None:
    table, absent = tmp_path / "train.csv", tmp_path / "groups.csv"
    table.write_text("truth")
    (tmp_path / "link").symlink_to("train.csv")
    os.link(table, tmp_path / "hard")
    for out in (table, tmp_path / "link", tmp_path / "hard", tmp_path / "." / "train.csv"):
        with pytest.raises(UserError, match=r"would overwrite .*train\.csv"):
            spare([absent, table], out)
    for out in (absent, tmp_path / "new.csv"):
        spare([absent, table], out)
