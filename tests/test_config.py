"""The options of a training: what stands for what, and what is refused."""

import dataclasses
import itertools
import json
import shlex
from pathlib import Path

import pytest
import yaml

from common.cli import parse
from common.config import completed, parse_size
from common.errors import UserError
from common.training.folder import claimed
from unet_64x400.train import Config

TRAIN_PAGE = Path(__file__).parents[1] / "docs" / "train.md"


@pytest.mark.parametrize(
    "options", ["--size 128x800", "--size=128x800", "--height 128 --width 800"]
)
def test_size_is_height_and_width(options: str) -> None:
    config = parse(Config, shlex.split(options))
    assert (config.height, config.width) == (128, 800)
    assert config.given_options() == {"height", "width"}
    assert "size" not in config.to_json()
    kept = Config.from_json(json.loads(json.dumps(config.to_json())))
    assert kept == dataclasses.replace(config, crop="100%x32%")  # the default, said
    assert dataclasses.replace(config, epochs=3).height == 128


def test_without_size_it_is_the_variant_s_own() -> None:
    config = parse(Config, [])
    assert (config.height, config.width) == (64, 400)
    assert config.given_options() == set()


@pytest.mark.parametrize("other", ["--height 128", "--width=800", "--height 64 --width 400"])
def test_size_beside_height_or_width_is_refused(other: str) -> None:
    with pytest.raises(UserError, match="--size stands for --height and --width"):
        parse(Config, ["--size", "128x800", *shlex.split(other)])


@pytest.mark.parametrize("text", ["128", "128x", "x800", "128x800x3", "-8x8", "8.5x8", "128×800"])
def test_another_form_of_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--size must be HxW, such as 128x800"):
        parse(Config, [f"--size={text}"])


def test_a_size_too_small_is_refused_by_the_name_of_its_side() -> None:
    with pytest.raises(UserError, match="--width must be at least 8, got 4"):
        parse(Config, ["--size", "64x4"])


def test_parse_size_names_its_option() -> None:
    assert parse_size("--crop", "256x512") == (256, 512)
    with pytest.raises(ValueError, match=r"--crop must be HxW, such as 128x800, got '256'"):
        parse_size("--crop", "256")


@pytest.mark.parametrize(
    ("crop", "size", "expected"),
    [
        ("256x512", (256, 1600), (256, 512)),
        ("100%x32%", (256, 1600), (256, 512)),
        ("100%x32%", (64, 400), (64, 128)),
        ("50%x128", (32, 200), (16, 128)),
        ("100%x100%", (100, 200), (96, 200)),  # what 8 divides
        ("1%x1%", (64, 400), (8, 8)),
    ],
)
def test_a_crop_in_pixels_or_as_a_share_of_the_input(
    crop: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert Config(height=size[0], width=size[1], crop=crop).crop_size == expected


@pytest.mark.parametrize(
    ("crop", "size", "expected"),
    [
        (None, (256, 1600), (256, 512)),
        (None, (64, 512), (64, 160)),
        (None, (64, 256), (64, 80)),
        (None, (64, 255), None),  # no strip: not four times as wide as high
        (None, (200, 200), None),
        ("none", (256, 1600), None),
    ],
)
def test_strips_are_trained_on_as_crops_unless_told_otherwise(
    crop: str | None, size: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    config = Config(height=size[0], width=size[1], crop=crop)
    assert config.crop_size == expected
    kept = config.to_json()
    assert kept["crop"] == ("none" if expected is None else "100%x32%")
    assert Config.from_json(kept).crop_size == expected


@pytest.mark.parametrize("options", [{}, {"crop": None}])
def test_a_run_from_before_crops_and_sampling_was_trained_without(options: dict) -> None:
    old = {"height": 256, "width": 1600, **options}
    config = Config.from_json(old)
    assert (config.crop_size, config.sampling) == (None, "uniform")
    then = completed(old)
    assert (then["crop"], then["sampling"], then["share"]) == ("none", "uniform", 1.0)


@pytest.mark.parametrize("crop", ["101%x32%", "32%", "-5%x32%", "3.5%x32%"])
def test_an_impossible_share_for_a_crop_is_refused(crop: str) -> None:
    with pytest.raises(ValueError, match="--crop"):
        Config(height=64, width=400, crop=crop)


def test_a_resumed_run_keeps_its_size(tmp_path: Path) -> None:
    saved = Config(height=32, width=200).to_json()
    config = {
        "variant": "unet_64x400", "options": saved, "model": {"num_classes": 5},
        "normalisation": [0.5, 0.2], "data": {"root": "", "fingerprint": ""}, "baselines": {},
        "git_commit": None, "wandb_id": "",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "split.csv").touch()
    resume = ["--resume", str(tmp_path)]
    with claimed(parse(Config, [*resume, "--size", "32x200"])) as (merged, _, _):
        assert (merged.height, merged.width) == (32, 200)
    with (
        pytest.raises(UserError, match=r"--height 64 \(the run has 32\)"),
        claimed(parse(Config, [*resume, "--size", "64x400"])),
    ):
        pytest.fail("it is refused")


def test_the_sweep_of_the_docs_is_accepted() -> None:
    """As wandb's agent passes it: an option `--name=value` for each parameter."""
    text = TRAIN_PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    sweep = yaml.safe_load(text)
    assert sweep["program"] == "unet_64x400/train.py"
    choices = [
        [f"--{name}={value}" for value in said.get("values", [said.get("value")])]
        for name, said in sweep["parameters"].items()
    ]
    seen = [parse(Config, argv) for argv in itertools.product(*choices)]
    assert {(config.height, config.width) for config in seen} == {(64, 400), (128, 800)}
    assert {config.seed for config in seen} == {0, 1, 2}
    assert len(seen) == 6
