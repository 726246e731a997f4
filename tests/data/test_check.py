"""data.check: right counts, every problem named, exit code 2 where there is one."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.rle import encode
from data.check import main

SHAPE = (64, 400)
HEADER = "ImageId,ClassId,EncodedPixels\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five images: 0 and 1 defective, 2 clean, 3 a brighter copy of 2, 4 half black and smaller."""
    folder = tmp_path / "set" / "train_images"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    images = [random.integers(60, 140, SHAPE, dtype=np.uint8) for _ in range(3)]
    smaller = random.integers(60, 140, (32, 200), dtype=np.uint8)
    smaller[:, 100:] = 0
    for i, image in enumerate([*images, images[2] + 20, smaller]):
        cv2.imwrite(str(folder / f"{i}.png"), image)
    write(folder.parent, f"0.png,1,{box(0, 10)}\n0.png,3,{box(20, 40)}\n1.png,3,{box(0, 40)}\n")
    return folder.parent


def box(left: int, right: int) -> str:
    """A mask as high as the image."""
    mask = np.zeros(SHAPE, bool)
    mask[:, left:right] = True
    return encode(mask)


def write(root: Path, rows: str) -> None:
    (root / "train.csv").write_text(HEADER + rows)


def test_a_sound_set_is_described(root: Path, capsys) -> None:
    (root / "groups.csv").write_text("image,group\n0.png,a\n1.png,a\n2.png,b\n")
    assert main([str(root)]) == 0
    said = capsys.readouterr().out
    assert "5 images; of 5 readable ones 2 with defects, 3 clean" in said
    assert "sizes: 64x400 (4), 32x200 (1)" in said
    table = [line.split() for line in said.splitlines() if re.match(r"^\d ", line)]
    pixels = 4 * 64 * 400 + 32 * 200
    assert table == [
        ["1", "1", "20.000", f"{100 * 640 / pixels:.3f}", "640"],
        ["2", "0", "0.000", "0.000", "0"],
        ["3", "2", "40.000", f"{100 * (1280 + 2560) / pixels:.3f}", "1920"],
    ]
    assert "classes together: 1 and 3 (1), 3 (1)" in said
    assert "groups.csv: 2 groups of 3 images" in said
    assert "near-duplicates: 2 images in 1 groups" in said
    assert "\n  2.png 3.png\n" in said
    black = float(re.search(r"black share 0\.000 to (\S+)", said).group(1))
    assert 0.4 < black <= 0.5
    assert "overlapping" not in said
    assert said.endswith("nothing is wrong\n")


def test_every_problem_is_named(root: Path, capsys) -> None:
    write(
        root,
        f"0.png,1,{box(0, 10)}\n0.png,1,{box(0, 10)}\n1.png,3,5 2 4\n9.png,1,1 2\n"
        f"1.png,zero,1 2\n2.png\n4.png,1,{box(390, 400)}\n4.png,2,{box(390, 400)}\n",
    )
    image = root / "train_images" / "3.png"
    image.write_bytes(image.read_bytes()[:-100])
    (root / "train_images" / "5.jpg").write_bytes(b"")
    assert main([str(root)]) == 2
    said = capsys.readouterr().out
    problems = [line for line in said.splitlines() if line.startswith("problem: ")]
    for pattern in (
        r"line 3 \(0\.png, class 1\): a duplicate, or masks that overlap: with line 2",
        r"line 4 \(1\.png, class 3\): malformed",
        r"line 5 \(9\.png, class 1\): there is no such image",
        r"line 6 \(1\.png, class zero\): ClassId",
        r"line 7 \(2\.png\): 1 fields instead of 3",
        r"\(4\.png, class 1\): pair 1 .* past the end of a 32x200 image",
        r"\(4\.png, class 2\): pair 1 .* past the end",
        r"3\.png is truncated",
        r"5\.jpg is not an image",
    ):
        assert sum(bool(re.search(pattern, line)) for line in problems) == 1
    assert len(problems) == 9
    assert said.count("Was the image made smaller, or turned, after labelling?") == 1
    assert said.endswith("9 problems\n")
    assert "6 images; of 4 readable ones 1 with defects, 3 clean" in said


def test_overlaps_are_noted(root: Path, capsys) -> None:
    write(root, f"0.png,1,{box(0, 10)}\n0.png,3,{box(9, 40)}\n1.png,1,{box(0, 4)}\n")
    assert main([str(root)]) == 0
    said = capsys.readouterr().out
    assert "overlapping masks: 1 images, such as 0.png; there the larger class counts" in said


def test_long_lists_of_copies_are_cut(root: Path, capsys) -> None:
    random = np.random.default_rng(1)
    for i in range(12):
        image = random.integers(60, 140, SHAPE, dtype=np.uint8)
        for copy in range(9 if i == 0 else 2):
            cv2.imwrite(str(root / "train_images" / f"x{i:02d}{copy}.png"), image)
    assert main([str(root)]) == 0
    said = capsys.readouterr().out
    assert "near-duplicates: 33 images in 13 groups" in said
    assert "  x000.png x001.png x002.png x003.png x004.png x005.png and 3 more\n" in said
    assert "  and 3 more groups\n" in said


def test_where_there_is_no_data_set(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main([]) == 2
    assert main([str(tmp_path), "--bogus"]) == 2


def test_no_readable_image_at_all(root: Path, capsys) -> None:
    for path in (root / "train_images").iterdir():
        path.write_bytes(b"x")
    assert main([str(root)]) == 2
    assert "of 0 readable ones" in capsys.readouterr().out


def test_images_unlike_a_run_s_training_images_are_warned_of(
    trained_run: Path, dataset: Path, tmp_path: Path, capsys
) -> None:
    assert main([str(dataset), "--run", str(trained_run)]) == 0
    assert "differ from the training data" not in capsys.readouterr().out
    bright = tmp_path / "bright" / "train_images"
    bright.mkdir(parents=True)
    (bright.parent / "train.csv").write_text(HEADER)
    cv2.imwrite(str(bright / "a.png"), np.full((256, 1600), 250, np.uint8))
    assert main([str(bright.parent), "--run", str(trained_run)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"warning: .*differ from the training data: brightness 0\.980", said)
    known = json.loads((trained_run / "config.json").read_text())["data"]["drift"]
    assert f"{known['brightness'][1]:.3f}" in said
    assert main([str(dataset), "--run", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("name", "copies"), [("severstal_sample", "0 images"), ("neu_strips", "4 images in 2 groups")]
)  # of neu_strips, which holds turned copies, groups.csv tells too
def test_real_sets_are_sound(real_data: Path, name: str, copies: str, capsys) -> None:
    assert main([str(real_data / name)]) == 0
    said = capsys.readouterr().out
    assert f"near-duplicates: {copies}" in said
    assert "worth a look" not in said
