"""How the masks of twins disagree: laid on each other, counted, the worst first."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from common.labels import Labels, load
from common.rle import encode
from data.check import main
from data.twins import Twins, compare, describe_twins, draw_twins


def texture(seed: int, shape: tuple[int, int] = (200, 200)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 60, shape)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 3 + 120, 0, 255).astype(np.uint8)


def box(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 1
    return mask


def make(root: Path, images: dict[str, tuple[np.ndarray, dict[int, np.ndarray]]]) -> Labels:
    """A data set of name -> image and masks by class."""
    (root / "train_images").mkdir(parents=True)
    rows = ["ImageId,ClassId,EncodedPixels"]
    for name, (image, masks) in images.items():
        cv2.imwrite(str(root / "train_images" / name), image)
        rows += [f"{name},{k},{encode(mask)}" for k, mask in masks.items()]
    (root / "train.csv").write_text("\n".join(rows) + "\n")
    return load(root)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_copy_s_masks_are_laid_on_the_first(tmp_path: Path, turn: int) -> None:
    """A box of 40x50 against one of 40x40 in it: 2 * 1600 / 3600. Class 3 is on one alone."""
    image = texture(0)
    wide, narrow = (box((200, 200), slice(20, 60), slice(30, end)) for end in (80, 70))
    other = box((200, 200), slice(150, 160), slice(5, 9))

    def turned(array: np.ndarray) -> np.ndarray:
        return np.rot90(array.T if turn > 3 else array, turn)

    second = {1: turned(narrow), 2: turned(other), 3: turned(other)}
    labels = make(
        tmp_path, {"a.png": (image, {1: wide, 2: other}), "b.png": (turned(image), second)}
    )
    (pair,) = compare(labels, [("a.png", "b.png")])
    assert pair.dice == {1: pytest.approx(3200 / 3600), 2: 1, 3: 0}
    assert (pair.down, pair.right) == (0, 0)
    assert pair.mean == pytest.approx((3200 / 3600 + 1) / 3)


@pytest.mark.parametrize(("down", "right"), [(0, 37), (-3, -90), (2, 6)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_that_overlap_are_compared_where_they_do(
    tmp_path: Path, down: int, right: int, mirrored: bool
) -> None:
    """Pixel (0, 0) of the second is pixel (down, right) of the first."""
    steel, marks = texture(1, (300, 1900)), box((300, 1900), slice(60, 90), slice(400, 1500))
    place, moved = (
        (slice(20, 276), slice(100, 1700)),
        (
            slice(20 + down, 276 + down),
            slice(100 + right, 1700 + right),
        ),
    )
    step = -1 if mirrored else 1
    first, second = (
        (steel[place], {1: marks[place]}),
        (steel[moved][:, ::step], {1: marks[moved][:, ::step]}),
    )
    labels = make(tmp_path, {"a.png": first, "b.png": second})
    (pair,) = compare(labels, [("a.png", "b.png")])
    assert pair == Twins("a.png", "b.png", int(mirrored), down, right, {1: 1.0})


def test_pictures_that_differ_in_part_or_size_are_left_out(tmp_path: Path) -> None:
    image, mask = texture(2), box((200, 200), slice(0, 9), slice(0, 9))
    pasted = image.copy()
    pasted[90:120, 90:120] = 250
    brighter = np.clip(image * 0.8 + 30, 0, 255).astype(np.uint8)
    larger = cv2.resize(image, (300, 300))
    labels = make(
        tmp_path,
        {
            name: (picture, {1: mask if picture.shape == mask.shape else mask[:1]})
            for name, picture in [
                ("a.png", image), ("b.png", pasted), ("c.png", brighter), ("d.png", larger)
            ]
        },
    )  # fmt: skip
    pairs = [("a.png", "b.png"), ("a.png", "c.png"), ("a.png", "d.png")]
    assert [(pair.first, pair.second) for pair in compare(labels, pairs)] == [("a.png", "c.png")]


def test_images_higher_than_wide(tmp_path: Path) -> None:
    image, mask = texture(3, (256, 800)), box((256, 800), slice(10, 30), slice(100, 300))
    first, second = (image, {2: mask}), (np.rot90(image), {2: np.rot90(mask)})
    (pair,) = compare(make(tmp_path, {"a.png": first, "b.png": second}), [("a.png", "b.png")])
    assert pair.dice == {2: 1}


def test_the_worst_come_first_and_are_drawn(tmp_path: Path) -> None:
    pairs, images = [], {}
    for i, end in enumerate((20, 16, 20, 18)):
        for name, edge in ((f"{i}a.png", 20), (f"{i}b.png", end)):
            mask = box((200, 200), slice(0, 10), slice(0, edge))
            images[name] = (texture(10 + i), {1: mask, 2: mask[::-1]} if i < 3 else {1: mask})
        pairs.append((f"{i}a.png", f"{i}b.png"))
    labels = make(tmp_path / "set", images)
    twins = compare(labels, pairs)
    assert [pair.first for pair in twins] == ["1a.png", "3a.png", "0a.png", "2a.png"]
    lines = list(describe_twins(labels, twins, 5))
    assert "twins: 4 of 5 pairs of near-duplicates show one picture" in lines[0]
    table = [line.split() for line in lines[1].splitlines()[2:]]
    assert [row[-4:] for row in table] == [
        ["4", f"{(2 + 320 / 360 + 360 / 380) / 4:.4f}", "2", f"{(320 / 360 + 360 / 380) / 2:.4f}"],
        ["3", f"{(2 + 320 / 360) / 3:.4f}", "2", f"{320 / 360:.4f}"],
    ]
    assert lines[2:] == [
        "  1a.png 1b.png: class 1 0.889, class 2 0.889",
        "  3a.png 3b.png: class 1 0.947",
    ]
    assert draw_twins(labels, twins, tmp_path / "pictures") == 2
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert drawn == ["001-1a-1b.png", "002-3a-3b.png"]
    picture = cv2.imread(str(tmp_path / "pictures" / drawn[0]))
    assert picture.shape == (200, 404, 3)
    assert (picture[:, 200:204] == 255).all()
    left, right = picture[:, :200], picture[:, 204:]
    assert (left[5, 17] != right[5, 17]).any()  # in the first mask alone
    assert (left[100] == right[100]).all()


def test_check_tells_and_draws(tmp_path: Path, capsys) -> None:
    image, mask = texture(4), box((200, 200), slice(0, 10), slice(0, 20))
    make(
        tmp_path / "set",
        {
            "a.png": (image, {1: mask}),
            "b.png": (image[::-1], {1: mask[::-1]}),
            "c.png": (np.rot90(image), {2: np.rot90(mask)}),
            "d.png": (texture(5), {1: mask}),
        },
    )
    assert main([str(tmp_path / "set"), "--overlays", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "twins: 3 of 3 pairs of near-duplicates show one picture" in said
    assert said.index("a.png c.png: class 1 0.000, class 2 0.000") < said.index(
        "b.png c.png: class"
    )
    assert f"2 pictures in {tmp_path / 'out' / 'twins'}" in said
    assert len(list((tmp_path / "out" / "twins").iterdir())) == 2


def test_a_mask_that_does_not_fit_leaves_its_pair_out(tmp_path: Path, capsys) -> None:
    image, mask = texture(6), box((200, 200), slice(0, 10), slice(0, 20))
    make(tmp_path, {"a.png": (image, {1: mask}), "b.png": (image, {1: np.ones((250, 250))})})
    assert main([str(tmp_path)]) == 2
    assert "twins: 0 of 1 pairs" in capsys.readouterr().out
