"""From a COCO file to a data set: pycocotools' own masks, and every file that cannot be trusted."""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco
from pycocotools.coco import COCO

from common.labels import load
from common.rle import decode
from data import coco_masks
from data.from_coco import main

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # in pycocotools
SHAPE = (24, 56)
SQUARE = [2, 3, 9, 3, 9, 7, 2, 7]
# What pycocotools draws of SQUARE: a pixel belongs to it where its centre does.
SQUARE_PIXELS = (slice(3, 7), slice(2, 9))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images, one in a subfolder."""
    folder = tmp_path / "photographs"
    (folder / "line 2").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "line 2/c.png", "d.png"):
        cv2.imwrite(str(folder / name), random.integers(0, 255, SHAPE, dtype=np.uint8))
    return folder


def content() -> dict[str, Any]:
    """Polygons, both encodings and a crowd; b.png is clean, d.png not listed; ids are arbitrary."""
    blob = np.zeros(SHAPE, np.uint8)
    blob[10:20, 30:50] = 1
    blob[12, 40] = 0
    text = coco.encode(np.asfortranarray(blob))["counts"].decode()
    counts = [24 * 5 + 1, 3, 24 * 51 - 4]  # three pixels of column 5, from row 1 on
    listed = enumerate(("images/a.jpg", "D:\\work\\b.png", "line 2/c.png"), start=70)
    size = {"height": SHAPE[0], "width": SHAPE[1]}
    shapes = [
        (70, 9, [SQUARE]),
        (70, 9, [[20.4, 1.2, 33.3, 5.1, 24.8, 12.6], [40, 2, 50, 2, 50, 12.5, 44, 20]]),
        (70, 4, {"size": list(SHAPE), "counts": counts}),
        (72, 9, {"size": list(SHAPE), "counts": text}),
    ]
    return {
        "info": {},
        "images": [{"id": key, "file_name": name, **size} for key, name in listed],
        "categories": [
            {"id": 9, "name": "scratch", "supercategory": "steel"},
            {"id": 4, "name": "rolled-in  scale", "supercategory": "steel"},
            {"id": 0, "name": "steel", "supercategory": "none"},  # a heading, as Roboflow has it
            {"id": 12, "name": "patch"},
        ],
        "annotations": [
            {"id": i, "image_id": image, "category_id": k, "segmentation": shape, "iscrowd": 0}
            for i, (image, k, shape) in enumerate(shapes)
        ],
    }


def run(images: Path, value: Any, out: Path, *options: object) -> int:
    path = images.parent / "annotations.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return main([*map(str, (path, images, "--out", out, *options))])


def test_masks_are_those_of_pycocotools_and_categories_become_named_classes(
    images: Path, tmp_path: Path, capsys
) -> None:
    assert run(images, content(), tmp_path / "set") == 0
    said = capsys.readouterr().out
    assert "3 images, class 1 (rolled-in scale) on 1, class 2 (scratch) on 2, class 3 (p" in said
    assert "1 images that it does not list are left out" in said
    labels = load(tmp_path / "set")
    assert labels.images == ("a.jpg", "b.png", "c.png")
    assert labels.class_names == {1: "rolled-in scale", 2: "scratch", 3: "patch"}
    assert labels.classes("b.png") == ()
    assert labels.rles["a.jpg"][1] == "122 3"
    with redirect_stdout(io.StringIO()):
        reference = COCO(str(images.parent / "annotations.json"))
    for image, name in ((70, "a.jpg"), (72, "c.png")):
        for category, k in ((4, 1), (9, 2)):
            own = reference.loadAnns(reference.getAnnIds([image], [category]))
            masks = [reference.annToMask(one) for one in own]
            expected = np.maximum.reduce([np.zeros(SHAPE, np.uint8), *masks])
            mask = decode(labels.rles[name].get(k), SHAPE)
            np.testing.assert_array_equal(mask, expected)


def test_a_square_has_the_pixels_that_it_should(images: Path, tmp_path: Path) -> None:
    value = content()
    value["annotations"] = value["annotations"][:1]
    assert run(images, value, tmp_path / "set") == 0
    expected = np.zeros(SHAPE, np.uint8)
    expected[SQUARE_PIXELS] = 2
    np.testing.assert_array_equal(load(tmp_path / "set").label_map("a.jpg", SHAPE), expected)


def test_the_order_of_classes_may_be_given(images: Path, tmp_path: Path, capsys) -> None:
    names = ("--classes", "patch", "scratch", "steel", "rolled-in scale")
    assert run(images, content(), tmp_path / "set", *names) == 0
    labels = load(tmp_path / "set")
    assert labels.class_names[3] == "steel"
    assert labels.classes("a.jpg") == (2, 4)
    assert run(images, content(), tmp_path / "few", *names[:3]) == 2
    assert "--classes lacks rolled-in scale" in capsys.readouterr().err
    assert run(images, content(), tmp_path / "twice", *names, "patch") == 2
    assert "patch more than once" in capsys.readouterr().err


def test_annotations_that_cover_nothing_are_said(images: Path, tmp_path: Path, capsys) -> None:
    value = content()
    value["annotations"][0]["segmentation"] = [[1, 1, 2, 2], [-9, -9, -5, -9, -5, -5]]
    assert run(images, value, tmp_path / "set") == 0
    assert "1 annotations cover no pixel, such as annotation 0 of a.jpg" in capsys.readouterr().out


@pytest.fixture
def refused(images: Path, leaves_nothing):
    return lambda value, said: leaves_nothing(lambda out: run(images, value, out), said)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([], "annotation 0 of a.jpg: it has no mask, a box at most"),
        (None, "it has no mask"),
        ([1, 2, 3, 4, 5, 6], "a polygon is a list"),
        ([[1, 2, 3, 4, 5]], "a polygon is a list"),
        ([[1, 2, 3, 4, 5, "6"]], "6 is no coordinate"),
        ([[1, 2, 3, 4, 5, float("nan")]], "nan is no coordinate"),
        ([[1, 2, 3, 4, 5, 10**400]], "is no coordinate in or near the 24x56 image"),
        ([[1, 2, 1e9, 4, 5, 6]], "1000000000.0 is no coordinate in or near"),
        # pycocotools fills up a mask that ends early with whatever lies in memory
        ({"size": [24, 56], "counts": [10, 4]}, "its mask of size .24, 56. and 14 pixels does not"),
        ({"size": [24, 56], "counts": "04"}, "its mask of size .24, 56. and 4 pixels does not fit"),
        ({"size": [24, 56], "counts": [0, 9999]}, "9999 pixels does not fit the 24x56 image"),
        ({"size": [56, 24], "counts": [0, 24 * 56]}, "size .56, 24. and 1344 pixels does not fit"),
        ({"counts": [0, 24 * 56]}, "size None"),
        ({"size": [24, 56], "counts": [-4, 1348]}, "no list of lengths"),
        ({"size": [24, 56], "counts": [0.5, 1]}, "no list of lengths"),
        ({"size": [24, 56], "counts": "zz\x00"}, "no run-length text of COCO"),
        ({"size": [24, 56], "counts": "o" * 99}, "no run-length text of COCO"),
        ({"size": [24, 56], "counts": "P"}, "no run-length text of COCO"),
    ],
)
def test_what_is_no_mask_is_refused(refused, segmentation: Any, said: str) -> None:
    value = content()
    value["annotations"][0]["segmentation"] = segmentation
    refused(value, said)


@pytest.mark.parametrize(
    ("path", "replacement", "said"),
    [
        (["images"], None, "'images' is missing"),
        (["categories"], {}, "'categories' is missing or is not"),
        (["annotations"], "x", "'annotations' is missing or"),
        (["images"], [], "lists no images"),
        (["images", 0, "file_name"], "e.jpg", "there is no image 'e.jpg'"),
        (["images", 0, "file_name"], 5, "image 70: 'file_name' is missing"),
        (["images", 0], 7, "image 0: 'id' is missing"),
        (["images", 0, "id"], True, "'id' is missing or"),
        (["images", 0, "id"], 71, "two images have the id 71"),
        (["images", 0, "file_name"], "b.png", "b.png is listed twice"),
        (["images", 1, "width"], 55, r"b\.png is 24x56, listed as 24x55"),
        (["categories", 0, "name"], "", "or one has no name"),
        (["categories", 0, "name"], "\ud800", r"class name '.ud800' cannot stand in a table"),
        (["categories", 0, "id"], 4, "two categories have the id 4"),
        (["categories", 0], [], "category 0: 'id' is missing"),
        (["annotations", 0, "image_id"], 99, "annotation 0 is of image 99 and category 9, of"),
        (["annotations", 0, "category_id"], 99, "of image 70 and category 99, of which"),
        (["annotations", 0, "category_id"], [9], "annotation 0: 'category_id' is missing or"),
        ([], [], "'images' is missing"),
    ],
)
def test_a_damaged_file_is_refused(refused, path: list, replacement: Any, said: str) -> None:
    value: Any = content()
    place = value
    for key in path[:-1]:
        place = place[key]
    if path:
        place[path[-1]] = replacement
    refused(value if path else replacement, said)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"images": [' + "9" * 5000 + "]}"])
def test_what_is_no_json_is_refused(refused, text: str) -> None:
    refused(text, "annotations.json is not JSON")


def test_problems_of_several_images_are_listed(images: Path, refused) -> None:
    value = content()
    for i in (0, 3):
        value["annotations"][i]["segmentation"] = []
    (images / "b.png").write_bytes(b"")
    refused(value, r"annotation 0 of a\.jpg.*b\.png is not an image.*annotation 3 of c\.png")


def test_one_name_in_two_folders(images: Path, refused) -> None:
    (images / "line 3").mkdir()
    (images / "line 3" / "c.png").write_bytes((images / "line 2" / "c.png").read_bytes())
    value = content()
    value["images"].append(value["images"][2] | {"id": 1, "file_name": "line 3/c.png"})
    refused(value, r"line 3/c\.png and .*line 2/c\.png cannot lie in one folder")
    value["images"][2]["file_name"] = "c.png"
    refused(value, r"c\.png may be .*line 2/c\.png or .*line 3/c\.png")


def test_missing_files_and_folders(images: Path, tmp_path: Path, capsys) -> None:
    assert main([str(images / "none.json"), str(images), "--out", str(tmp_path / "set")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert run(images, content(), images) == 2
    assert "is there already" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    path = str(tmp_path / "annotations.json")
    assert main([path, str(tmp_path / "empty"), "--out", str(tmp_path / "set")]) == 2
    assert "holds no images" in capsys.readouterr().err
    assert main([path, str(tmp_path / "none"), "--out", str(tmp_path / "set")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_without_pycocotools_it_says_how_to_get_it(images, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.delitem(sys.modules, "data.coco_masks")
    monkeypatch.delattr("data.coco_masks")
    assert run(images, content(), tmp_path / "set") == 2
    said = capsys.readouterr().err
    assert said.endswith("pycocotools: pip install 'steel-defect-segmentation[coco]'\n")
    assert not (tmp_path / "set").exists()


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_every_text_of_counts_is_read_as_pycocotools_writes_it(mask: np.ndarray) -> None:
    text = coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    for counts in (text, coco_masks._decompressed(text)):
        parts = coco_masks.parts({"size": list(mask.shape), "counts": counts}, *mask.shape)
        np.testing.assert_array_equal(coco_masks.union(parts), mask)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_any_text_is_a_mask_or_a_value_error(text: str) -> None:
    try:
        parts = coco_masks.parts({"size": [4, 5], "counts": text}, 4, 5)
    except ValueError:
        return
    assert coco_masks.union(parts).sum() == coco_masks.area(parts)
