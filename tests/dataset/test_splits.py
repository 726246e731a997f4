"""Splits: by group, stratified, leak-free, the same again, and safely read back."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from common.dataset import splits
from common.dataset.splits import (
    PARTS,
    Leak,
    find_leak,
    group_images,
    leak,
    leak_line,
    limit,
    make_split,
    read,
    write,
)
from common.errors import UserError
from common.labels import Labels, fingerprint, load
from common.pixels import read_image
from tests import tiny

NO_PAIRS = np.empty((0, 2), np.int64)


def no_images(classes: list[tuple[int, ...]], groups: list[str] | None = None) -> Labels:
    """Labels of images that are on no disk."""
    names = tuple(f"{i:04d}.jpg" for i in range(len(classes)))
    rles = {name: dict.fromkeys(ks, "1 1") for name, ks in zip(names, classes, strict=True) if ks}
    by_name = dict(zip(names, groups, strict=True)) if groups else None
    return Labels(Path("nowhere"), Path("nowhere"), names, rles, by_name, 4)


def unlike(monkeypatch: pytest.MonkeyPatch, pairs: np.ndarray = NO_PAIRS) -> None:
    """Lets `pairs` alone be near-duplicates, and looks at no image."""
    monkeypatch.setattr(splits, "near_duplicate_pairs", lambda *_: pairs)


@pytest.fixture
def labels(monkeypatch) -> Labels:
    """200 images in 120 groups: 40 of three and 80 alone."""
    unlike(monkeypatch)
    kinds = [(), (), (3,), (1,), (3, 4), (2,)]
    random = np.random.default_rng(0)
    classes = [kinds[min(5, int(random.exponential(2)))] for _ in range(200)]
    return no_images(classes, [f"coil {i // 3 if i < 120 else i}" for i in range(200)])


def parts_of(split: pd.DataFrame) -> dict[str, int]:
    return split["split"].value_counts().to_dict()


def test_the_form_of_a_split(labels: Labels) -> None:
    split = make_split(labels)
    assert split.columns.tolist() == ["image", "split", "group"]
    assert split["image"].tolist() == list(labels.images)
    assert set(split["split"]) == set(PARTS)
    assert (split.groupby("group")["image"].min() == sorted(set(split["group"]))).all()


def test_groups_stay_whole_and_parts_have_their_size(labels: Labels) -> None:
    split = make_split(labels)
    assert (split.groupby("group")["split"].nunique() == 1).all()
    given = split["image"].map(labels.groups)
    assert (split.groupby(given)["split"].nunique() == 1).all()
    assert parts_of(split)["train"] == pytest.approx(140, abs=3)
    assert parts_of(split)["val"] == pytest.approx(30, abs=3)
    halves = parts_of(make_split(labels, fractions=(0.5, 0.25, 0.25)))
    assert halves["train"] == pytest.approx(100, abs=3)


def test_each_class_is_in_every_part(labels: Labels) -> None:
    split = make_split(labels).set_index("image")["split"]
    for k in (1, 2, 3, 4):
        counts = Counter(split[name] for name in labels.images if k in labels.classes(name))
        total = sum(counts.values())
        assert counts["train"] == pytest.approx(0.7 * total, abs=3)
        assert min(counts[part] for part in PARTS) >= 1


def test_the_seed_and_nothing_else_changes_the_split(labels: Labels) -> None:
    first = make_split(labels)
    pd.testing.assert_frame_equal(first, make_split(labels))
    assert not first.equals(make_split(labels, seed=1))
    assert "".join(part[1] for part in first["split"].iloc[:40]) == (
        "rrrrrreeerrrrrrrrrrrrrrreeerrrrrreeerrrr"
    )


def test_near_duplicates_and_given_groups_are_joined(monkeypatch) -> None:
    labels = no_images([()] * 8, [*"aabbcdef"])
    groups = group_images(labels, np.array([[1, 2], [6, 7]]))
    numbers = [int(name[:4]) for name in groups]
    assert numbers == [0, 0, 0, 0, 4, 5, 6, 6]
    assert group_images(no_images([()] * 3), NO_PAIRS) == ["0000.jpg", "0001.jpg", "0002.jpg"]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 1, 1, 1), (50, 1, 1), (1, 30, 30), (9, 9, 1, 1)])
def test_three_groups_are_enough(monkeypatch, sizes: tuple[int, ...]) -> None:
    unlike(monkeypatch)
    groups = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    split = make_split(no_images([()] * len(groups), groups))
    assert set(split["split"]) == set(PARTS)


def test_two_groups_are_not(monkeypatch) -> None:
    unlike(monkeypatch)
    with pytest.raises(
        UserError, match=r"(?s)9 images in 2 groups .* needs a group for each.*--split FILE"
    ):
        make_split(no_images([()] * 9, ["a"] * 8 + ["b"]))


@pytest.mark.parametrize("count", [3, 10, 25, 100, 200, 1000])
def test_a_limit_takes_whole_groups_of_every_part(labels: Labels, count: int) -> None:
    split = make_split(labels)
    some = limit(split, count, labels)
    assert set(some["split"]) == set(PARTS)
    whole = split[split["group"].isin(some["group"])]
    pd.testing.assert_frame_equal(some, whole.reset_index(drop=True))
    assert abs(len(some) - min(count, 200)) <= 6
    pd.testing.assert_frame_equal(some, limit(split, count, labels))
    if count >= 10:
        train = some.loc[some["split"] == "train", "image"]
        assert {k for name in train for k in labels.classes(name)} == {1, 2, 3, 4}


def test_the_leak_is_what_random_splits_show(labels: Labels) -> None:
    split = make_split(labels)
    random = np.random.default_rng(0)
    group = split["group"].to_numpy()
    held_out = (split["split"] != "train").to_numpy()
    leaked = []
    for _ in range(2000):
        shuffled = random.permutation(held_out)
        leaked.append(np.isin(group[shuffled], group[~shuffled]).sum())
    assert leak(split) == pytest.approx(np.mean(leaked), abs=0.3)
    assert f"leaked {leak(split):.0f} of {held_out.sum()}" in leak_line(split)
    assert "120 near-duplicate groups" in leak_line(split)


def test_without_groups_nothing_leaks(monkeypatch) -> None:
    unlike(monkeypatch)
    assert leak(make_split(no_images([()] * 9))) == 0
    together = pd.DataFrame({"image": list("abc"), "split": PARTS, "group": ["x"] * 3})
    assert leak(together) == 2


def test_a_split_comes_back_from_its_file(labels: Labels, tmp_path: Path) -> None:
    for split in (make_split(labels), limit(make_split(labels), 20, labels)):
        write(split, tmp_path / "split.csv")
        pd.testing.assert_frame_equal(read(tmp_path / "split.csv", labels), split)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,part\n", r"has the columns 'image,part'; expected image,split,group"),
        ("", r"expected image,split,group"),
        ("image,split,group\n", r"the train and the val and the test part would be empty"),
        ("image,split,group\nzebra.jpg,train,z\n", r"names 1 images .* such as zebra\.jpg"),
        ("image,split,group\n0130.jpg,trian,z\n", r"has the part 'trian'; expected train, val"),
        ("image,split,group\n0130.jpg,train,z\n0130.jpg,train,z\n", r"0130\.jpg more than once"),
        ("image,split,group\n0130.jpg,train\n", r"line 2 \(0130\.jpg\): 2 fields instead of 3"),
        (
            "image,split,group\n0130.jpg,train,z\n0131.jpg,val,z\n0132.jpg,test,y\n",
            r"group z lies in more than one part; that leaks",
        ),
        (
            "image,split,group\n0000.jpg,train,z\n0001.jpg,val,x\n0132.jpg,test,y\n",
            r"group coil 0 lies in more than one part",
        ),
    ],
)
def test_a_bad_split_file_is_refused(labels: Labels, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read(tmp_path / "split.csv", labels)


def test_a_missing_split_file_is_said(labels: Labels, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split\.csv is missing"):
        read(tmp_path / "split.csv", labels)


@pytest.fixture
def few_images(tmp_path: Path) -> Labels:
    """Six noise images; the last is a brighter copy of the first."""
    folder = tmp_path / "set" / "train_images"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    images = [random.integers(60, 160, (64, 400), dtype=np.uint8) for _ in range(5)]
    for i, image in enumerate([*images, images[0] + 30]):
        cv2.imwrite(str(folder / f"{i}.png"), image)
    (folder.parent / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n1.png,1,1 9\n")
    return load(folder.parent)


def test_copies_on_disk_share_a_part(few_images: Labels, tmp_path: Path) -> None:
    split = make_split(few_images).set_index("image")
    assert split.loc["0.png"].tolist() == split.loc["5.png"].tolist()
    assert split["group"].nunique() == 5


def test_near_duplicates_are_looked_for_once(
    few_images: Labels, tmp_path: Path, monkeypatch
) -> None:
    cache = tmp_path / "cache"
    first = make_split(few_images, cache=cache)
    monkeypatch.setattr(Labels, "read", lambda *_: pytest.fail("decoded again"))
    pd.testing.assert_frame_equal(make_split(few_images, cache=cache), first)
    (kept,) = cache.iterdir()
    assert fingerprint(few_images) in kept.name
    monkeypatch.undo()
    image = few_images.path("5.png")
    image.write_bytes(few_images.path("2.png").read_bytes())
    changed = make_split(few_images, cache=cache).set_index("image")["group"]
    assert changed["5.png"] == "2.png"


def test_what_a_split_leaks_is_counted(monkeypatch) -> None:
    """Test images are counted by group: 3 is a copy of 1, and 1 of 0 in train."""
    labels = no_images([()] * 8)
    unlike(monkeypatch, np.array([[0, 1], [1, 3], [2, 4], [5, 6]]))
    parts = ["train", "val", "val", "test", "test", "test", "train", "test"]
    split = pd.DataFrame({"image": labels.images, "split": parts, "group": labels.images})
    found = find_leak(split, labels)
    assert [[int(name[:4]) for name in pair] for pair in found.pairs] == [
        [0, 1], [1, 3], [2, 4], [5, 6]
    ]  # fmt: skip
    assert found.tested == 2
    clean = split.assign(split=["train", "train", "val", "train", "val", "test", "test", "test"])
    assert find_leak(clean, labels) == Leak([], 0)


def test_an_interrupted_search_keeps_nothing(
    few_images: Labels, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_split(few_images, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_bad_image_and_a_bad_cache_are_said(few_images: Labels, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"(?s)cannot write .*--store"):
        make_split(few_images, cache=tmp_path / "file" / "cache")
    few_images.path("3.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"3\.png is not an image"):
        make_split(few_images)


def test_neu_strips_never_straddle(real_data: Path) -> None:
    labels = load(real_data / "neu_strips")
    split = make_split(labels)
    given = split["image"].map(labels.groups)
    assert (split.groupby(given)["split"].nunique() == 1).all()
    assert given.nunique() == split["group"].nunique() == 86
    assert leak(split) == pytest.approx(101, abs=1)
    for k in (1, 2, 3):
        shares = [
            np.mean([k in labels.classes(name) for name in split["image"][split["split"] == part]])
            for part in PARTS
        ]
        assert max(shares) - min(shares) < 0.12


def test_mirrored_and_turned_copies_share_a_part(real_data: Path) -> None:
    """Of 150 patches of NEU-Seg, all that correlate under some map with thumbnails of 25x25."""
    labels = load(real_data / "neu_seg")
    images = [read_image(labels.path(name)).astype(np.float32) for name in labels.images]
    small = np.stack([cv2.resize(i, (25, 25), interpolation=cv2.INTER_AREA) for i in images])
    small -= small.mean(axis=(1, 2), keepdims=True)
    small /= np.linalg.norm(small, axis=(1, 2), keepdims=True)
    turns = [np.rot90(s, k, (1, 2)) for s in (small, small.swapaxes(1, 2)) for k in range(4)]
    flat = small.reshape(len(small), -1)
    alike = np.max([flat[::30] @ turn.reshape(len(flat), -1).T for turn in turns], axis=0) > 0.995
    some = replace(labels, images=tuple(np.array(labels.images)[alike.any(axis=0)]))
    assert len(some.images) > 300
    part = make_split(some).set_index("image")["split"]
    for copies in alike:
        assert part[np.array(labels.images)[copies]].nunique() == 1


def test_folds_test_every_image_once_and_the_next_one_validates(dataset):
    data = load(dataset)
    tables = [splits.make_fold(data, 5, fold) for fold in range(5)]
    tested = [set(table.loc[table["split"] == "test", "image"]) for table in tables]
    assert sorted(image for part in tested for image in part) == sorted(data.images)
    for fold, table in enumerate(tables):
        assert set(table.loc[table["split"] == "val", "image"]) == tested[(fold + 1) % 5]
        assert (table.groupby("group")["split"].nunique() == 1).all()
        assert table[["image", "group"]].equals(tables[0][["image", "group"]])
    assert max(map(len, tested)) - min(map(len, tested)) <= 4


def test_folds_share_the_classes(dataset):
    data = load(dataset)
    table = splits.make_fold(data, 3, 1)
    for k in range(1, data.num_classes + 1):
        having = table["image"].map(lambda image, k=k: k in data.classes(image))
        counts = table[having].groupby("split").size()
        if having.sum() >= 3:
            assert set(counts.index) == set(splits.PARTS)


def test_more_folds_than_groups_are_refused(tmp_path):
    root = tiny.make_data(tmp_path / "data", images=4)
    with pytest.raises(UserError, match=r"4 images in 4 groups .* 5 parts"):
        splits.make_fold(load(root), 5, 0)


def test_shares_of_the_train_part_are_nested_whole_groups_that_show_every_class(dataset):
    data = load(dataset)
    split = splits.make_split(data)
    train = split[split["split"] == "train"]
    before: set[str] = set()
    for fraction in (0.1, 0.25, 0.5, 0.9, 1.0):
        some = set(splits.share(split, fraction, data))
        assert before <= some <= set(train["image"])
        assert abs(len(some) - fraction * len(train)) <= train.groupby("group").size().max()
        assert set(train.loc[~train["image"].isin(some), "group"]).isdisjoint(
            train.loc[train["image"].isin(some), "group"]
        )
        before = some
    assert before == set(train["image"])
    shown = {k for image in splits.share(split, 0.1, data) for k in data.classes(image)}
    assert shown == {k for image in train["image"] for k in data.classes(image)}


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "past the end"])
def test_near_duplicates_that_were_kept_damaged_are_looked_for_anew(tmp_path, capsys, damage):
    data = load(tiny.make_data(tmp_path / "data", images=6))
    shutil.copy(data.path(data.images[0]), data.image_dir / "copy.jpg")
    data = load(data.root)
    pairs = splits.near_duplicate_pairs(data, tmp_path / "store")
    assert len(pairs) == 1
    (kept,) = (tmp_path / "store").glob("near-duplicates-*.npy")
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[:-5])
    elif damage == "empty":
        kept.write_bytes(b"")
    else:
        np.save(kept, np.array([[0.5]] if damage == "other" else [[0, 7]]))
    again = splits.near_duplicate_pairs(data, tmp_path / "store")
    np.testing.assert_array_equal(again, pairs)
    assert "looked for anew" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(kept), pairs)
