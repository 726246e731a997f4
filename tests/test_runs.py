"""Run directories read back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from common import runs, summary, thresholds
from common.comparison.results import _thresholds_curve
from common.errors import UserError
from common.thresholds import CURVE_FILE


def test_a_run_says_what_it_is(trained_run: Path) -> None:
    run = runs.load(trained_run)
    assert run.variant == "modified_unet"
    assert run.size == (32, 200)
    assert len(run.metrics()) == 2
    assert run.data["images"].keys() == {"train", "val", "test"}
    assert run.baselines["empty"] == 0


def cut_table(path: Path, rows: int, value: str = "0") -> None:
    """The table with so many rows, each of them `value`s."""
    head = path.read_text().splitlines()[0]
    row = ",".join(value for _ in head.split(","))
    path.write_text("\n".join([head, *[row] * rows]) + "\n")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: shutil.rmtree(run), "no run directory"),
        (lambda run: (run / "config.json").write_text("{"), "damaged"),
        (lambda run: (run / "config.json").unlink(), "is no run directory: it has no config.json"),
        (
            lambda run: [(run / name).unlink() for name in ("config.json", "last.pt")],
            "no run directory yet: its training is being prepared",
        ),
        (lambda run: (run / "config.json").write_text('{"variant": "x"}'), "damaged"),
        (lambda run: (run / "config.json").write_bytes(b"\xff{}"), "damaged"),
        (lambda run: (run / "metrics.csv").unlink(), "metrics.csv"),
        (
            lambda run: [(run / "metrics.csv").unlink(), (run / "metrics.csv").mkdir()],
            r"metrics.csv: Is a directory$",
        ),
        (lambda run: (run / "metrics.csv").write_text(""), "metrics.csv"),
        (lambda run: (run / "metrics.csv").write_text("epoch,loss\n0,1\n"), "no column train/loss"),
        (lambda run: cut_table(run / "metrics.csv", rows=0), "it has no row"),
        (lambda run: cut_table(run / "metrics.csv", rows=1, value="high"), "Resuming writes it"),
        (lambda run: (run / "best.pt").unlink(), "best.pt"),
    ],
)
def test_a_damaged_run_is_refused(trained_run: Path, tmp_path: Path, damage, words: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained_run, copy)
    damage(copy)

    def read() -> None:
        run = runs.load(copy)
        run.metrics()
        run.build_model()

    with pytest.raises(UserError, match=words):
        read()


def test_an_unknown_variant_is_said(trained_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained_run, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"variant": "no_such_variant"}))
    with pytest.raises(UserError, match="no_such_variant"):
        runs.load(copy).build_model()


def test_summary_prints_runs_beside_baselines(trained_run: Path, capsys) -> None:
    assert summary.main([str(trained_run)]) == 0
    said = capsys.readouterr().out
    assert "32x200" in said
    assert "one class" in said


def test_summary_of_no_run_is_refused(capsys) -> None:
    assert summary.main([]) == 2
    assert "name at least one run directory" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "class,probability\n1,2,3\n", "\0"])
def test_a_damaged_curve_of_thresholds_is_said(tmp_path: Path, trained_run: Path, content: str):
    run = replace(runs.load(trained_run), path=tmp_path)
    assert _thresholds_curve(run) == []
    (tmp_path / CURVE_FILE).write_text(content)
    with pytest.raises(UserError, match=rf"{CURVE_FILE} is damaged"):
        _thresholds_curve(run)


@pytest.mark.parametrize("name", ["config.json", thresholds.FILE, CURVE_FILE])
def test_a_file_that_cannot_be_read_is_not_called_damaged(trained_run: Path, tmp_path: Path, name):
    """As one without permission is; a folder in its place stops the superuser too."""
    copy = tmp_path / "run"
    shutil.copytree(trained_run, copy)
    run = runs.load(copy)
    (copy / name).unlink(missing_ok=True)
    (copy / name).mkdir()

    def read() -> None:
        runs.load(copy)
        thresholds.load(copy)
        _thresholds_curve(run)

    with pytest.raises(UserError, match=f"cannot read .*{name}: Is a directory"):
        read()


MISSING = object()


@pytest.mark.parametrize("name", runs.PARTS)
@pytest.mark.parametrize("value", [MISSING, None, [], {"a": []}, -1, "\N{GREEK SMALL LETTER PI}"])
def test_a_part_of_another_kind_is_named(trained_run: Path, tmp_path: Path, name: str, value):
    """Or is no damage, where it may be so: nothing but a UserError ever comes of reading it."""
    config = json.loads((trained_run / "config.json").read_text())
    *path, key = name.split(".")
    holder = config
    for step in path:
        holder = holder[step]
    holder.pop(key)
    if value is not MISSING:
        holder[key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    allowed = not runs.PARTS[name].needed if value is MISSING else runs.PARTS[name].fits(value)
    if allowed:
        run = runs.load(tmp_path)
        assert len(run.class_titles) == run.num_classes - 1
        return
    with pytest.raises(UserError) as error:
        runs.load(tmp_path)
    said = str(error.value)
    assert str(tmp_path / "config.json") in said
    assert f"its part {name}" in said
    assert "Bring it back" in said


def test_the_parts_are_what_a_training_writes(trained_run: Path) -> None:
    saved = json.loads((trained_run / "config.json").read_text())
    for name, part in runs.PARTS.items():
        part.check(saved, name)
    assert {name.split(".")[0] for name in runs.PARTS} == set(saved)


def test_a_baseline_may_be_undefined(trained_run: Path, tmp_path: Path) -> None:
    saved = json.loads((trained_run / "config.json").read_text())
    for value in (None, float("nan")):
        (tmp_path / "config.json").write_text(json.dumps(saved | {"baselines": {"empty": value}}))
        assert "empty" in runs.load(tmp_path).baselines


def test_parts_of_a_later_version_are_left_alone(trained_run: Path, tmp_path: Path) -> None:
    saved = json.loads((trained_run / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(saved | {"later": 1}))
    assert runs.load(tmp_path).data == runs.load(trained_run).data
    (tmp_path / "config.json").write_text(json.dumps(saved | {"model": saved["model"] | {"x": 1}}))
    with pytest.raises(UserError, match=r"cannot be built again.*'x'"):
        runs.load(tmp_path).build_model()
