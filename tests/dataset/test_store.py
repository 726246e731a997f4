"""The pixel store: right pixels, rebuilt when anything changes, never half of one."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from common import labels as labels_module
from common import rle
from common.config import PROJECT
from common.dataset import store
from common.dataset.store import open_store
from common.errors import UserError
from common.labels import Labels, fingerprint
from common.pixels import read_image
from common.resize import resize_image, resize_labels


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    """Five grey images of two sizes; one has a class-2 square."""
    root = tmp_path / "set"
    (root / "train_images").mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(5):
        image = random.integers(0, 255, (16, 40 if i < 4 else 48), dtype=np.uint8)
        cv2.imwrite(str(root / "train_images" / f"{i}.png"), image)
    mask = np.zeros((16, 40), np.uint8)
    mask[4:12, 8:24] = 1
    (root / "train.csv").write_text(f"ImageId,ClassId,EncodedPixels\n1.png,2,{rle.encode(mask)}\n")
    return labels_module.load(root)


def build(labels: Labels, folder: Path, size: tuple[int, int] = (16, 40), **options):
    return open_store(labels, labels.images, size, folder, fingerprint(labels), **options)


def test_rows_hold_the_decoded_images_and_masks(labels: Labels, tmp_path: Path) -> None:
    opened = build(labels, tmp_path / "store")
    assert opened.names == labels.images
    for row, name in enumerate(labels.images[:4]):
        np.testing.assert_array_equal(opened.images[row], read_image(labels.path(name)))
    assert opened.labels[1, 4:12, 8:24].min() == 2
    assert opened.pixel_counts[1].tolist() == [16 * 40 - 8 * 16, 0, 8 * 16]
    assert opened.pixel_counts[0].tolist() == [16 * 40, 0, 0]


def test_masks_resize_without_new_classes_and_images_by_area() -> None:
    label_map = np.zeros((8, 8), np.uint8)
    label_map[:, 4:] = 4
    assert np.unique(resize_labels(label_map, (4, 4))).tolist() == [0, 4]
    np.testing.assert_array_equal(resize_labels(label_map, (4, 4))[:, 2:], 4)
    image = np.array([[0, 100], [100, 200]], np.uint8)
    assert resize_image(image, (1, 1)).item() == 100


def test_enlarged_images_are_interpolated_exactly_and_halves_go_up() -> None:
    image = np.array([[0, 100], [101, 255]], np.uint8)
    # Pixel centres of the new grid lie 0, 1/4, 3/4 and 1 of the way between the old ones.
    expected = [[0, 25, 75, 100], [25, 54, 110, 139], [76, 111, 181, 216], [101, 140, 217, 255]]
    assert resize_image(image, (4, 4)).tolist() == expected
    assert resize_image(image, (1, 4)).dtype == np.uint8


def test_shrinking_is_opencvs_by_area() -> None:
    image = np.random.default_rng(0).integers(0, 256, (97, 331)).astype(np.uint8)
    for height, width in ((32, 96), (97, 100), (1, 1)):
        expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(resize_image(image, (height, width)), expected)


def test_a_second_opening_decodes_nothing(labels: Labels, tmp_path: Path, monkeypatch) -> None:
    first = build(labels, tmp_path / "store")
    monkeypatch.setattr(labels_module, "read_image", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(build(labels, tmp_path / "store").images, first.images)


def test_changed_pixels_masks_or_size_lead_to_another_store(labels: Labels, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    before = build(labels, folder).images[0].copy()
    path = labels.path("0.png")
    stamp = path.stat()
    cv2.imwrite(str(path), 255 - before)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # a copy that keeps the time
    np.testing.assert_array_equal(build(labels, folder).images[0], 255 - before)
    assert build(labels, folder, (8, 20)).images.shape == (5, 8, 20)
    csv = labels.root / "train.csv"
    csv.write_text(csv.read_text() + "3.png,1,1 5\n")
    assert build(labels_module.load(labels.root), folder).labels[3, :5, 0].tolist() == [1] * 5


def test_an_interrupted_build_goes_on_where_it_was(
    labels: Labels, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "store"
    decoded = []

    def fails_late(path: Path, bits: int) -> np.ndarray:
        decoded.append(path.name)
        if path.name == "3.png":
            raise KeyboardInterrupt
        return read_image(path, bits)

    monkeypatch.setattr(labels_module, "read_image", fails_late)
    with pytest.raises(KeyboardInterrupt):
        build(labels, folder, workers=1)
    assert not [p for p in folder.iterdir() if p.is_dir() and p.suffix != ".partial"]

    def counts(path: Path, bits: int) -> np.ndarray:
        decoded.append("+" + path.name)
        return read_image(path, bits)

    monkeypatch.setattr(labels_module, "read_image", counts)
    opened = build(labels, folder, workers=1)
    assert not {"+0.png", "+1.png", "+2.png"} & set(decoded)
    assert "+3.png" in decoded
    monkeypatch.undo()
    shutil.rmtree(folder)
    np.testing.assert_array_equal(opened.images, build(labels, folder).images)


def test_a_row_damaged_in_an_interrupted_build_is_made_again(
    labels: Labels, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "store"
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(labels, folder)
    monkeypatch.undo()
    (partial,) = folder.glob("*.partial")
    for name, row in (("images", 2), ("pixel_counts", 3)):
        array = np.load(partial / f"{name}.npy", mmap_mode="r+")
        array[row] = 0
        array.flush()
    whole = build(labels, folder)
    np.testing.assert_array_equal(whole.images[2], read_image(labels.path("2.png")))
    assert (whole.pixel_counts.sum(axis=1) == whole.labels[0].size).all()


def test_a_whole_store_needs_no_lock(labels: Labels, tmp_path: Path, monkeypatch) -> None:
    """It may lie where the user can only read."""
    build(labels, tmp_path / "store")
    monkeypatch.setattr(store, "hold", lambda path: pytest.fail("locked"))
    build(labels, tmp_path / "store")


def flip(path: Path, at: int) -> None:
    """Changes one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["images", "labels", "pixel_counts", "checksums"])
@pytest.mark.parametrize(
    ("damage", "most"),
    [
        (lambda path: path.unlink(), 5),
        (lambda path: path.write_bytes(b""), 5),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), 1),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\0\x76\0{'descr'" + b"(" * 200), 5),
        (lambda path: np.save(path, np.zeros((5, 16, 41), np.uint8)), 5),
        (lambda path: flip(path, 8), 5),  # in the header
        (lambda path: flip(path, -1), 1),  # in the last row
    ],
)
def test_what_was_damaged_is_decoded_anew_and_said(
    labels: Labels, tmp_path: Path, monkeypatch, capsys, name: str, damage, most: int
) -> None:
    whole = build(labels, tmp_path / "store")
    expected = [np.array(whole.images), np.array(whole.labels), whole.pixel_counts]
    del whole
    capsys.readouterr()
    (home,) = tmp_path.glob("store/*/")
    damage(home / f"{name}.npy")
    decoded = []
    monkeypatch.setattr(
        labels_module,
        "read_image",
        lambda path, bits: decoded.append(path) or read_image(path, bits),
    )
    mended = build(labels, tmp_path / "store")
    found = mended.images, mended.labels, mended.pixel_counts
    for now, before in zip(found, expected, strict=True):
        np.testing.assert_array_equal(now, before)
    # Zeros in the place of labels that were lost are what clean images have.
    assert (len(decoded) == most) or (name != "images" and len(decoded) < most)
    assert capsys.readouterr().out.count(f"{home} was damaged") == 1
    decoded.clear()
    assert build(labels, tmp_path / "store").names == mended.names
    assert decoded == []


@pytest.mark.parametrize("times", [1, 3])
def test_deleting_the_store_mid_build(
    labels: Labels, tmp_path: Path, monkeypatch, times: int
) -> None:
    folder, left = tmp_path / "store", [times]

    def deletes(path: Path, bits: int) -> np.ndarray:
        if path.name == "4.png" and left[0]:
            left[0] -= 1
            shutil.rmtree(next(folder.glob("*.partial")))
        return read_image(path, bits)

    monkeypatch.setattr(labels_module, "read_image", deletes)
    if times == 1:
        np.testing.assert_array_equal(
            build(labels, folder, workers=1).images[0], read_image(labels.path("0.png"))
        )
    else:
        with pytest.raises(UserError, match="deleted 3 times"):
            build(labels, folder, workers=1)


def test_a_bad_image_or_mask_stops_the_build(labels: Labels, tmp_path: Path) -> None:
    path = labels.path("2.png")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"2\.png"):
        build(labels, tmp_path / "store")
    path.write_bytes(whole)
    csv = labels.root / "train.csv"
    csv.write_text(csv.read_text() + f"3.png,1,{16 * 40} 9\n")
    with pytest.raises(UserError, match=r"3\.png"):
        build(labels_module.load(labels.root), tmp_path / "store")
    assert not [p for p in (tmp_path / "store").iterdir() if p.suffix == ""]


def test_too_small_a_disk_is_said_before_writing(
    labels: Labels, tmp_path: Path, monkeypatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="--store"):
        build(labels, tmp_path / "store", size=(512, 4096))


FILLS_UP = """
import shutil, sys
from pathlib import Path
from common import labels
from common.dataset import store
from common.errors import UserError

usage = shutil.disk_usage
shutil.disk_usage = lambda path: usage(path)._replace(free=10**9)  # others took it since
data = labels.load(Path(sys.argv[1]))
try:
    store.open_store(data, data.images, (64, 512), Path(sys.argv[2]), "fingerprint")
except UserError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_fills_up_during_the_build(labels: Labels, small_disk) -> None:
    """In a process of its own: writing to a map on a full disk is a SIGBUS."""
    command = [sys.executable, "-c", FILLS_UP, labels.root, small_disk("256k")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "No space left on device" in done.stderr
    assert "--store" in done.stderr


def test_a_file_in_the_folder_s_place_is_said(labels: Labels, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(UserError, match="--store"):
        build(labels, tmp_path / "store")


def test_subset_of_names(labels: Labels, tmp_path: Path) -> None:
    some = replace(labels)
    opened = open_store(some, ["1.png", "3.png"], (16, 40), tmp_path / "s", fingerprint(some))
    np.testing.assert_array_equal(opened.images[1], read_image(labels.path("3.png")))
