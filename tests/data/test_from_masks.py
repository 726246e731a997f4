"""From a folder of images and PNG label maps to a data set, a trained network and a comparison."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common import compare, predict, runs
from common.labels import load, read_image
from data.from_masks import main

SHAPE = (24, 56)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Six images of two kinds and two sizes with label maps of classes 1 to 3; 4.jpg is clean."""
    images, masks = tmp_path / "photographs", tmp_path / "annotations"
    images.mkdir()
    masks.mkdir()
    random = np.random.default_rng(0)
    for i in range(6):
        shape = SHAPE if i else (30, 40)
        name = f"{i}.png" if i % 2 else f"{i}.jpg"
        cv2.imwrite(str(images / name), random.integers(0, 255, shape, dtype=np.uint8))
        cv2.imwrite(str(masks / f"{i}.png"), label_map(i, shape))
    (images / "notes.txt").write_text("")
    return images, masks


def label_map(index: int, shape: tuple[int, int]) -> np.ndarray:
    result = np.zeros(shape, np.uint8)
    if index != 4:
        result[2:9, 5:20] = 1 + index % 3
        result[15:20, 30:38] = 1 + (index + 1) % 3
    return result


def run(folders: tuple[Path, Path], out: Path, *options: object) -> int:
    return main([*map(str, (*folders, "--out", out, *options))])


def test_the_data_set_holds_the_same_images_and_masks(folders, tmp_path: Path, capsys) -> None:
    out = tmp_path / "data" / "set"
    assert run(folders, out) == 0
    labels = load(out)
    assert labels.images == ("0.jpg", "1.png", "2.jpg", "3.png", "4.jpg", "5.png")
    assert labels.num_classes == 3
    for i, name in enumerate(labels.images):
        assert labels.path(name).read_bytes() == (folders[0] / name).read_bytes()
        shape = read_image(labels.path(name)).shape
        np.testing.assert_array_equal(labels.label_map(name, shape), label_map(i, shape))
    said = capsys.readouterr().out
    assert "6 images, class 1 on 4, class 2 on 3, class 3 on 3" in said
    assert f"python -m data.check {out}" in said
    assert sorted(p.name for p in out.parent.iterdir()) == ["set"]


def test_palette_bilevel_and_grey_as_colour_are_read_by_value(folders, tmp_path: Path) -> None:
    _, masks = folders
    palette = Image.fromarray(label_map(1, SHAPE)).convert("P")
    palette.putpalette([0, 0, 0, 220, 20, 60, 0, 128, 0, 9, 9, 9] + [7] * 756)
    palette.save(masks / "1.png")
    Image.fromarray(label_map(3, SHAPE) > 0).save(masks / "3.png")
    Image.fromarray(np.dstack([label_map(5, SHAPE)] * 3)).save(masks / "5.png")
    cv2.imwrite(str(masks / "2.png"), label_map(2, SHAPE).astype(np.uint16))
    assert run(folders, tmp_path / "set") == 0
    labels = load(tmp_path / "set")
    for name, expected in (("1.png", 1), ("2.jpg", 2), ("5.png", 5)):
        np.testing.assert_array_equal(labels.label_map(name, SHAPE), label_map(expected, SHAPE))
    np.testing.assert_array_equal(labels.label_map("3.png", SHAPE), label_map(3, SHAPE) > 0)


def test_values_are_renumbered(folders, tmp_path: Path) -> None:
    _, masks = folders
    for i in range(6):
        shape = SHAPE if i else (30, 40)
        cv2.imwrite(str(masks / f"{i}.png"), (label_map(i, shape) > 0) * np.uint8(255))
    assert run(folders, tmp_path / "set", "--map", 255, 1) == 0
    labels = load(tmp_path / "set")
    assert labels.num_classes == 1
    np.testing.assert_array_equal(labels.label_map("1.png", SHAPE), label_map(1, SHAPE) > 0)


def test_renumbering_may_swap_and_drop(folders, tmp_path: Path) -> None:
    assert run(folders, tmp_path / "set", "--map", 1, 2, 2, 1, 3, 0) == 0
    labels = load(tmp_path / "set")
    for i in (1, 3):
        swapped = np.array([0, 2, 1, 0], np.uint8)[label_map(i, SHAPE)]
        np.testing.assert_array_equal(labels.label_map(f"{i}.png", SHAPE), swapped)


def test_classes_that_do_not_occur_count_when_said(folders, tmp_path: Path) -> None:
    assert run(folders, tmp_path / "set", "--classes", 7) == 0
    labels = load(tmp_path / "set")
    assert labels.num_classes == 7
    assert labels.classes("0.jpg") == (1, 2)


@pytest.fixture
def refused(folders, tmp_path: Path, capsys):
    """Asserts exit code 2, a message that matches, and that nothing is left behind."""

    def check(said: str, *options: object) -> None:
        assert run(folders, tmp_path / "new" / "set", *options) == 2
        assert re.search(said, capsys.readouterr().err, re.DOTALL)
        assert not (tmp_path / "new").exists()

    return check


@pytest.mark.parametrize(
    ("value", "options", "said"),
    [
        (255, (), r"error: .* unexpected values: 255 \(2\.png\).* of which there are: 1, 2, 3"),
        (255, (), r"--map 255 1 \(0: background\), or how many classes"),
        (9, ("--classes", 5), r"unexpected values: 9 .*there are 5 classes"),
        (5, (), r"unexpected values: 5 "),
        (300, (), r"2\.png holds the value 300; classes go to 255"),
    ],
)
def test_values_that_are_no_class(folders, refused, value: int, options, said: str) -> None:
    strange = label_map(2, SHAPE).astype(np.uint16)
    strange[0, 0] = value
    cv2.imwrite(str(folders[1] / "2.png"), strange)
    refused(said, *options)


def test_smoothed_label_maps(folders, refused) -> None:
    """Grey edges, as resizing leaves them, are no classes."""
    blurred = cv2.GaussianBlur(label_map(2, SHAPE) * 80, (0, 0), 2)
    cv2.imwrite(str(folders[1] / "2.png"), blurred)
    refused(r"unexpected values: .* and \d+ more")


def test_every_missing_map_is_named(folders, refused) -> None:
    for i in (1, 4):
        (folders[1] / f"{i}.png").unlink()
    refused(r"1\.png has no label map .*4\.jpg has no label map .*4\.png \(clean: all zeros\)")


def test_long_lists_are_cut(folders, refused) -> None:
    for path in folders[1].iterdir():
        path.unlink()
    for i in range(20):
        (folders[0] / f"more{i}.jpg").touch()
    refused(r"\.\.\. and 16 more")


def test_a_map_of_another_size(folders, refused) -> None:
    cv2.imwrite(str(folders[1] / "3.png"), np.zeros((24, 55), np.uint8))
    refused(r"3\.png is 24x55, its image 24x56")


def test_bad_files(folders, refused) -> None:
    (folders[1] / "3.png").write_bytes(b"no picture")
    cv2.imwrite(str(folders[1] / "5.png"), np.random.default_rng(0).integers(0, 9, (*SHAPE, 3)))
    (folders[0] / "1.png").write_bytes(b"")
    refused(r"1\.png is not an image.*3\.png cannot be read.*5\.png is in colour")


def test_two_images_of_one_name(folders, refused) -> None:
    (folders[0] / "2.bmp").write_bytes((folders[0] / "2.jpg").read_bytes())
    refused(r"2\.jpg and 2\.bmp would share one label map")


def test_empty_and_missing_folders(tmp_path: Path, folders, capsys) -> None:
    assert run((tmp_path / "none", folders[1]), tmp_path / "set") == 2
    assert "there is no folder" in capsys.readouterr().err
    assert run((folders[1].parent, folders[1]), tmp_path / "set") == 2
    assert "holds no images" in capsys.readouterr().err


def test_an_existing_data_set_is_not_touched(folders, tmp_path: Path, capsys) -> None:
    (tmp_path / "set").mkdir()
    assert run(folders, tmp_path / "set") == 2
    assert "is there already" in capsys.readouterr().err
    assert not list((tmp_path / "set").iterdir())


@pytest.mark.parametrize("options", [("--map", 255, 256), ("--map", -1, 1), ("--classes", 0)])
def test_impossible_options(folders, refused, options) -> None:
    refused("^error: .*--(map|classes)", *options)


def test_a_full_disk_leaves_nothing(folders, tmp_path: Path, monkeypatch, capsys) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    assert run(folders, tmp_path / "new" / "set") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "new").iterdir())


def test_the_data_set_trains_a_network_that_segments_the_images_and_is_compared(
    folders, tmp_path: Path, train, capsys
) -> None:
    data, out = tmp_path / "set", tmp_path / "run"
    assert run(folders, data) == 0
    (data / "classes.csv").write_text("class,name\n2,scratch\n")
    assert train("modified_unet", "--data", data, "--out", out) == 0
    table = tmp_path / "submission.csv"
    options = ["--out", str(table)]
    assert predict.main([str(out), str(folders[0]), "--report", *options, "--device", "cpu"]) == 0
    assert table.read_text().startswith("ImageId,ClassId,EncodedPixels\n")
    assert re.search(r"\n2 \(scratch\) +\d+ +\d+ +\d+ ", capsys.readouterr().out)
    report = tmp_path / "report"
    options = ["--repeats", "1", "--resamples", "100", "--device", "cpu", "--wandb", "disabled"]
    assert compare.main([str(out), "--out", str(report), *options]) == 0
    assert (report / "index.html").exists()
    found = json.loads((report / "results.json").read_text())
    assert found["data"]["classes"] == [1, 2, 3]
    assert found["data"]["class_titles"] == ["1", "2 (scratch)", "3"]
    assert found["metrics"]["iou_class_2"]["title"].endswith("class 2 (scratch)")
    assert "| 2 (scratch) |" in (report / "results.md").read_text()
    assert runs.load(out).class_titles == ("1", "2 (scratch)", "3")
