"""A study: its plan, its commands, and from the data to the page."""

import importlib
import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from common import labels, study
from common.cli import parse
from common.config import PROJECT
from common.dataset import splits
from common.errors import UserError
from common.study import Config, plan
from tests import tiny

SMALL = [
    "--batch-size", "4", "--base-channels", "4", "--device", "cpu", "--precision", "fp32",
    "--wandb", "disabled",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny.make_data(folder / "data")
    return folder


def words(place: Path, out: str, *options: object) -> list[str]:
    where = ["--data", place / "data", "--out", place / out]
    variants = ["--variants", "modified_unet@16x80"]
    own = ["--store", place / "store"]
    return list(map(str, (*where, *variants, *options, "--", *SMALL, *own)))


def test_the_plan_is_every_variant_share_fold_and_seed_once():
    options = "--data D --out O --variants unet_64x400 modified_unet@64x512 --seeds 3 4 --folds 3"
    config = parse(Config, shlex.split(f"{options} --shares .5 1 --epochs 7 -- --lr 0.01"))
    planned = plan(config)
    assert len(planned) == len({one.folder for one in planned}) == 2 * 2 * 3 * 2
    # What is compared first is trained first.
    assert [one.folder.name for one in planned[:5]] == [
        "unet_64x400-share0.5-fold0of3-seed3",
        "modified_unet@64x512-share0.5-fold0of3-seed3",
        "unet_64x400-fold0of3-seed3",
        "modified_unet@64x512-fold0of3-seed3",
        "unet_64x400-share0.5-fold1of3-seed3",
    ]
    for one in planned:
        command = one.job(7).command
        assert command[:2] == (sys.executable, "-m")
        module = importlib.import_module(command[2])
        options = parse(module.Config, command[3:])
        parts = [one.variant] + [f"share{options.share}"] * (options.share < 1)
        parts += [f"fold{options.fold}of{options.folds}", f"seed{options.seed}"]
        assert one.folder == options.out == Path("O") / "-".join(parts)
        size = f"{options.height}x{options.width}"
        assert size == {"unet_64x400": "64x400"}.get(one.variant, "64x512")
        assert (options.epochs, options.lr, options.resume) == (7, 0.01, "auto")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--variants unet_3x3", "there is no variant 'unet_3x3'"),
        ("--variants common@8x8", "there is no variant 'common'"),
        ("--variants unet_64x400@64", "unet_64x400@ must be HxW"),
        ("--variants unet_64x400 unet_64x400", "none of them twice"),
        ("--variants", "at least one value"),
        ("--variants unet_64x400 --seeds 0 -1", "--seeds must be at least 0"),
        ("--variants unet_64x400 --shares .5 1.5", "--shares must be above 0 and at most 1"),
        ("--variants unet_64x400 --folds 2", "--folds must be at least 3"),
        ("--variants unet_64x400 --jobs 0", "--jobs must be at least 1"),
        ("--variants unet_64x400 --minutes 0", "--minutes must be a positive number"),
        ("--variants unet_64x400 --minutes 1 --epochs 2", "--epochs or --minutes"),
        ("--variants unet_64x400 --folds 3 --split s.csv", "--folds or --split"),
        ("--variants unet_64x400 -- --seed=3 --lr 1", "--seed behind --"),
    ],
)
def test_impossible_studies_are_refused(options, problem):
    with pytest.raises(UserError) as refused:
        plan(parse(Config, shlex.split(f"--data D --out O {options}")))
    assert problem in " ".join(str(refused.value).replace("│", "").split())  # out of tyro's box


def test_from_data_to_page_by_a_scheduler_and_by_itself(place, capsys, monkeypatch):
    """One training is run by its printed command, the other by the study, which compares both."""
    monkeypatch.chdir(PROJECT)
    options = words(place, "flow", "--seeds", 0, 1, "--shares", 0.5, "--minutes", 0.0001)
    assert study.main(["--print", *options]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("modified_unet@16x80 share 0.5: how many epochs fit")
    commands = [shlex.split(line) for line in said.out.splitlines()]
    assert [command[-2:] for command in commands] == [["--epochs", "1"]] * 2  # less than one fits
    assert importlib.import_module(commands[0][2]).main(commands[0][3:]) == 0
    monkeypatch.setattr(study, "_probe", lambda *_: pytest.fail("what was found is kept"))
    assert study.main(["--print", *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1:] == [shlex.join(commands[1])]

    assert study.main(options) == 0
    said = capsys.readouterr().out
    assert "modified_unet@16x80-share0.5-seed1 is trained, 2 of 2" in said
    assert "modified_unet@16x80-share0.5-seed0 begins" not in said
    results = json.loads((place / "flow" / "report" / "results.json").read_text())
    (variant,) = results["variants"]
    folders = [place / "flow" / f"modified_unet@16x80-share0.5-seed{seed}" for seed in (0, 1)]
    assert variant["runs"] == [str(folder) for folder in folders]
    data = labels.load(place / "data")
    trained_on = splits.share(splits.make_split(data), 0.5, data)
    assert (variant["share"], variant["train_images"]) == (0.5, len(trained_on))
    assert (place / "flow" / "report" / "index.html").stat().st_size > 10_000
    for seed, folder in enumerate(folders):
        options_of = json.loads((folder / "config.json").read_text())["options"]
        assert (options_of["seed"], options_of["epochs"]) == (seed, 1)
        assert options_of["wandb"] == "disabled"

    assert study.main(["--print", *options]) == 0
    assert capsys.readouterr().out == ""
    assert study.main(words(place, "flow", "--minutes", 3)) == 2
    assert "holds a study with --minutes 0.0001, not 3.0" in capsys.readouterr().err


def test_a_wrong_option_ends_the_study_with_what_the_training_said(place, capsys, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert study.main([*words(place, "wrong"), "--lr", "-1"]) == 2
    said = capsys.readouterr().err
    assert "modified_unet@16x80-seed0 cannot be trained" in said
    assert "--lr must be a positive number" in said


def test_the_comparison_takes_device_and_wandb_of_the_trainings():
    train = ["--lr", "1", "--device", "cpu", "--wandb=offline", "--compile"]
    assert study._for_both(train) == ["--device", "cpu", "--wandb=offline"]


def test_who_waited_for_the_comparison_does_not_repeat_it(tmp_path, monkeypatch, capsys):
    """Another process of the study writes the report while this one asks for the lock."""
    config = Config(tmp_path, tmp_path, ("unet_64x400",))
    jobs = [one.job(1) for one in plan(config)]
    (tmp_path / "logs").mkdir()
    (tmp_path / "report").mkdir()
    results = tmp_path / "report" / "results.json"
    compared = []
    monkeypatch.setattr(study.compare, "main", lambda argv: compared.append(argv) or 0)
    results.touch()
    os.utime(results, (1, 1))  # an earlier report
    assert study._report(config, jobs) == 0
    assert [argv[0] for argv in compared] == [str(jobs[0].folder)]
    later = time.time() + 60
    os.utime(results, (later, later))
    assert study._report(config, jobs) == 0
    assert len(compared) == 1
    assert "report: " in capsys.readouterr().out
