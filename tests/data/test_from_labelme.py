"""From LabelMe's files to a data set: every shape's pixels, every file that cannot be trusted."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from common.labels import load
from data.from_labelme import main

SHAPE = (24, 56)


def shape(label: str, points: list, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None} | more


def png(values: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


SQUARE = [[2.0, 3.0], [9.0, 3.0], [9.0, 7.0], [2.0, 7.0]]
BOX = [[30.4, 12.2], [20.6, 18.4]]
PATCH = np.array([[0, 1, 1], [1, 0, 1]], bool)
FILES = {
    "a": ("a.jpg", [shape("scratch", SQUARE), shape("patch", BOX, "rectangle")]),
    "b": ("..\\photographs\\b.png", [shape("scratch", [[40, 10], [43, 10]], "circle")]),
    "c": ("c.png", []),
    "line 2/d": ("d.png", [shape("rolled-in scale", [[5, 6], [7, 7]], "mask", mask=png(PATCH))]),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images, one in a subfolder, each with its file beside it."""
    folder = tmp_path / "photographs"
    (folder / "line 2").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "c.png", "line 2/d.png"):
        cv2.imwrite(str(folder / name), random.integers(0, 255, SHAPE, dtype=np.uint8))
    for name, (image, shapes) in FILES.items():
        write(folder / f"{name}.json", image, shapes)
    return folder


def write(path: Path, image: str, shapes: list, **more: Any) -> None:
    content = {"imagePath": image, "imageData": None, "shapes": shapes}
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    path.write_text(json.dumps(content | size | more))


def run(folder: Path, out: Path, *options: object) -> int:
    return main([*map(str, (folder, "--out", out, *options))])


def expected(*parts: tuple[int, slice, slice]) -> np.ndarray:
    result = np.zeros(SHAPE, np.uint8)
    for k, rows, columns in parts:
        result[rows, columns] = k
    return result


def test_shapes_have_the_pixels_that_labelme_gives_them(folder, tmp_path: Path, capsys) -> None:
    assert run(folder, tmp_path / "set") == 0
    assert (
        "4 images, class 1 (patch) on 1, class 2 (rolled-in scale) on 1, class 3 (scratch) on 2"
        in (capsys.readouterr().out)
    )
    labels = load(tmp_path / "set")
    assert labels.class_names == {1: "patch", 2: "rolled-in scale", 3: "scratch"}
    assert labels.images == ("a.jpg", "b.png", "c.png", "d.png")
    both = expected((3, slice(3, 8), slice(2, 10)), (1, slice(12, 19), slice(20, 31)))
    np.testing.assert_array_equal(labels.label_map("a.jpg", SHAPE), both)
    disc = labels.label_map("b.png", SHAPE)
    y, x = np.nonzero(disc)
    assert (y.min(), y.max(), x.min(), x.max()) == (7, 13, 37, 43)
    assert (np.hypot(y - 10, x - 40) < 3.7).all()
    assert set(disc[np.hypot(*(np.indices(SHAPE) - np.array([[[10]], [[40]]]))) <= 3]) == {3}
    assert labels.classes("c.png") == ()
    mask = expected()
    mask[6:8, 5:8] = 2 * PATCH
    np.testing.assert_array_equal(labels.label_map("d.png", SHAPE), mask)


def test_the_last_shape_counts_and_background_erases(folder: Path, tmp_path: Path) -> None:
    hole = [[4, 4], [6, 5]]
    shapes = [
        shape("scratch", SQUARE),
        shape("_background_", hole, "rectangle"),
        shape("patch", [[9, 7], [12, 8]], "rectangle"),
    ]
    write(folder / "a.json", "a.jpg", shapes)
    assert run(folder, tmp_path / "set", "--classes", "scratch", "patch", "rolled-in scale") == 0
    labels = load(tmp_path / "set")
    assert labels.class_names == {1: "scratch", 2: "patch", 3: "rolled-in scale"}
    square = expected(
        (1, slice(3, 8), slice(2, 10)),
        (0, slice(4, 6), slice(4, 7)),
        (2, slice(7, 9), slice(9, 13)),
    )
    np.testing.assert_array_equal(labels.label_map("a.jpg", SHAPE), square)


def test_images_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    files = tmp_path / "annotations"
    (files / "line 2").mkdir(parents=True)
    for path in folder.rglob("*.json"):
        path.rename(files / path.relative_to(folder))
    assert run(files, tmp_path / "set", "--images", folder) == 0
    assert len(load(tmp_path / "set").rles) == 3


def test_images_without_a_file_are_clean_where_that_is_said(folder, tmp_path, capsys) -> None:
    (folder / "c.json").unlink()
    assert run(folder, tmp_path / "none") == 2
    assert "c.png has no JSON file (--missing-is-clean" in capsys.readouterr().err
    assert run(folder, tmp_path / "set", "--missing-is-clean") == 0
    assert load(tmp_path / "set").images == ("a.jpg", "b.png", "c.png", "d.png")


@pytest.fixture
def refused(folder: Path, leaves_nothing):
    return lambda said, *options: leaves_nothing(lambda out: run(folder, out, *options), said)


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (
            shape("scratch", [[1, 2], [3, 4]], "line"),
            r"shape 1 \(scratch\) is a line, which has no",
        ),
        (shape("scratch", [[1, 2]], "point"), "is a point, which has no area; draw a polygon"),
        (shape("scratch", [[1, 2], [3, 4]]), "is a polygon of 2 points"),
        (shape("scratch", [[1, 2]], "circle"), "is a circle of 1 points"),
        (shape("scratch", [[1, 2], [3, 4], [5]]), "5. is no point in or near the image"),
        (shape("scratch", [[1, 2], [3, 4], [5, "6"]]), "is no point in"),
        (shape("scratch", [[1, 2], [3, 4], [5, float("inf")]]), "is no point in"),
        (shape("scratch", [[1, 2], [3, 4], [5, 1000]]), "is no point in or near"),
        (shape("scratch", [[-9, 2], [-3, 4], [-5, 9]]), "lies outside the image"),
        (shape("  ", SQUARE), "a.json, shape 1 has no label"),
        (shape("scratch", [[5, 6], [7, 7]], "mask"), "its mask cannot be read"),
        (shape("scratch", [[5, 6], [7, 7]], "mask", mask="AAAA"), "its mask cannot be read"),
        (shape("scratch", [[5, 6], [8, 7]], "mask", mask=png(PATCH)), "does not fit its points"),
        ({"points": SQUARE}, "a.json, shape 1: 'label' is missing"),
        ({"label": "scratch"}, "shape 1: 'points' is missing"),
        ("scratch", "shape 1: 'label' is missing"),
    ],
)
def test_what_is_no_area_is_refused(folder: Path, refused, drawn: Any, said: str) -> None:
    write(folder / "a.json", "a.jpg", [drawn])
    refused(said)


def test_damaged_files_are_refused(folder: Path, refused) -> None:
    write(folder / "a.json", "e.jpg", [])
    (folder / "b.json").write_text("{")
    (folder / "c.json").write_text('{"version": "5.0.1", "flags": {}}')
    refused(
        r"a\.json: there is no image 'e\.jpg'.*b\.json is not JSON.*c\.json: 'imagePath' is missing"
    )


def test_images_that_do_not_fit_are_refused(folder: Path, refused) -> None:
    write(folder / "a.json", "a.jpg", [], imageWidth=57)
    (folder / "b.png").write_bytes(b"")
    refused(r"a\.jpg is 24x56, in its JSON file 24x57.*b\.png is not an image")
    write(folder / "a.json", "b.png", [])
    refused(r"a\.jpg has no JSON file")
    refused(r"b\.png is listed twice", "--missing-is-clean")


def test_missing_folders(folder: Path, tmp_path: Path, refused, capsys) -> None:
    assert run(tmp_path / "none", tmp_path / "set") == 2
    assert "there is no folder" in capsys.readouterr().err
    for path in folder.rglob("*.json"):
        path.unlink()
    refused("holds no JSON files")
