"""What `tests.fuzz` tries of other people's annotations: label maps, COCO's and LabelMe's JSON.

Only a UserError may escape, and what is made must be a data set that can be read.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from common import labels
from common.dataset.images import opened
from common.errors import UserError
from data import coco_masks, from_coco, from_labelme  # noqa: F401 - the first, else loaded late
from data.label_maps import classify, make_key

SHAPE = (6, 10)
KEYS = (
    make_key({}),
    make_key({"255": 1}),
    make_key({"#fa3253": 1, "#010101": 2}),
    make_key({}, threshold=128),
)
VALUES = np.arange(60, dtype=np.uint8).reshape(SHAPE) % 3


def fuzz_masks(root: Path, data: bytes) -> None:
    """A label map has the classes of its key; the first byte says which key."""
    path = root / "map"
    path.write_bytes(data[1:])
    key = KEYS[(data[0] if data else 0) % len(KEYS)]
    try:
        with opened(path) as picture:
            if picture.width * picture.height > 1 << 20:
                return  # slow, and no other code
            label_map, unknown = classify(path, picture, key)
    except UserError:
        return
    assert label_map.shape == (picture.height, picture.width)
    assert set(np.unique(label_map).tolist()) <= set(np.unique(key.classes).tolist())
    assert not any(key.known[value] for value in unknown)


def fuzz_coco(root: Path, data: bytes) -> None:
    (root / "annotations.json").write_bytes(data)
    images = _images(root)
    _convert(from_coco, from_coco.Config(root / "annotations.json", images, root / "made"))


def fuzz_labelme(root: Path, data: bytes) -> None:
    (root / "files").mkdir(exist_ok=True)
    (root / "files" / "a.json").write_bytes(data)
    images = _images(root)
    config = from_labelme.Config(root / "files", root / "made", images, missing_is_clean=True)
    _convert(from_labelme, config)


def _convert(command: Any, config: Any) -> None:
    try:
        command.convert(config)
    except UserError:
        return
    found = labels.load(config.out)
    for name in found.images:
        assert found.label_map(name, SHAPE).max() <= found.num_classes
    shutil.rmtree(config.out)


def _images(root: Path) -> Path:
    """Three real images, made once."""
    folder = root / "images"
    if not folder.exists():
        folder.mkdir()
        for name in ("a.png", "b.png", "c.bmp"):
            cv2.imwrite(str(folder / name), VALUES)
    return folder


def _picture(mode: str, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(VALUES).convert(mode).save(file, kind, **options)
    return file.getvalue()


def _coco(segmentation: Any) -> bytes:
    content = {
        "images": [
            {"id": 7, "file_name": "x/a.png", "height": 6, "width": 10},
            {"id": 8, "file_name": "b.png"},
        ],
        "categories": [{"id": 1, "name": "scratch"}, {"id": 0, "name": "patch"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "segmentation": segmentation}],
    }
    return json.dumps(content).encode()


def _labelme(kind: str, points: list, mask: str | None = None) -> bytes:
    shape = {"label": "scratch", "shape_type": kind, "points": points, "mask": mask}
    content = {"imagePath": "..\\x\\a.png", "imageHeight": 6, "imageWidth": 10, "shapes": [shape]}
    return json.dumps(content).encode()


TARGETS = {"masks": fuzz_masks, "coco": fuzz_coco, "labelme": fuzz_labelme}
SEEDS = {
    "masks": [
        *(b"\0" + _picture(mode, "PNG") for mode in ("1", "L", "P", "LA", "RGBA")),
        *(b"\1" + _picture(mode, "TIFF") for mode in ("L", "I", "F")),
        b"\2" + _picture("RGB", "BMP"),
        b"\3" + _picture("P", "TIFF", compression="tiff_lzw"),
        b"\3" + _picture("CMYK", "JPEG"),
    ],
    "coco": [
        _coco([[1, 1, 5, 1, 5, 4.5, 1, 4]]),
        _coco({"size": [6, 10], "counts": [3, 4, 53]}),
        _coco({"size": [6, 10], "counts": "34e1"}),
        _coco([]),
    ],
    "labelme": [
        _labelme("polygon", [[1, 1], [5, 1], [5, 4.5]]),
        _labelme("rectangle", [[1, 1], [5, 4]]),
        _labelme("circle", [[4, 3], [5, 4]]),
        _labelme("mask", [[1, 1], [2, 1]], "iVBORw0KGgo="),
        _labelme("line", [[1, 1], [5, 1]]),
    ],
}
JSON = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"NaN", b"1e999", b"-1", b"\\"]
TOKENS = {
    "masks": [b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"II*\0", b"MM\0*", b"BM", b"GIF89a"],
    "coco": [*JSON, b"counts", b"size", b"segmentation", b"supercategory", b"..", b"\\ud800"],
    "labelme": [*JSON, b"shapes", b"points", b"mask", b"shape_type", b"_background_", b"polygon"],
}
