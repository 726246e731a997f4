"""Run directories read back."""

import json
import shutil
from pathlib import Path

import pytest

from common import runs, summary
from common.errors import UserError


def test_a_run_says_what_it_is(trained_run: Path) -> None:
    run = runs.load(trained_run)
    assert run.variant == "modified_unet"
    assert run.size == (32, 200)
    assert len(run.metrics()) == 2
    assert run.data["images"].keys() == {"train", "val", "test"}
    assert run.baselines["empty"] == 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: shutil.rmtree(run), "no run directory"),
        (lambda run: (run / "config.json").unlink(), "no config.json"),
        (lambda run: (run / "config.json").write_text("{"), "damaged"),
        (lambda run: (run / "config.json").write_text('{"variant": "x"}'), "damaged"),
        (lambda run: (run / "metrics.csv").unlink(), "metrics.csv"),
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
