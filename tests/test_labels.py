"""Data sets in Kaggle's layout: both table formats, and every way in which one can be broken."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import labels as labels_module
from common.labels import LabelError, fingerprint, inspect, is_fingerprint, load
from common.pixels import read_image

SHAPE = (6, 10)
NEW = "ImageId,ClassId,EncodedPixels\n"
OLD = "ImageId_ClassId,EncodedPixels\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images: two masks on a.jpg, one on b.png, none on c.bmp."""
    folder = tmp_path / "set" / "train_images"
    folder.mkdir(parents=True)
    for i, name in enumerate(("a.jpg", "b.png", "c.bmp")):
        cv2.imwrite(str(folder / name), np.full(SHAPE, i, np.uint8))
    table(folder.parent, NEW + "a.jpg,3,7 3\na.jpg,1,1 2\nb.png,2,60 1\n")
    return folder.parent


def table(root: Path, text: str, name: str = "train.csv") -> None:
    (root / name).write_text(text)


def test_the_index_is_the_folder_clean_images_included(root: Path) -> None:
    labels = load(root)
    assert labels.images == ("a.jpg", "b.png", "c.bmp")
    assert labels.rles == {"a.jpg": {3: "7 3", 1: "1 2"}, "b.png": {2: "60 1"}}
    assert [labels.classes(name) for name in labels.images] == [(1, 3), (2,), ()]
    assert labels.num_classes == 3
    assert labels.groups is None
    assert labels.path("a.jpg") == root / "train_images" / "a.jpg"


@pytest.mark.parametrize("nothing", ["", "nan", "NaN"])
def test_both_formats_give_the_same_labels(root: Path, nothing: str) -> None:
    masks = {("a.jpg", 3): "7 3", ("a.jpg", 1): "1 2", ("b.png", 2): "60 1"}
    before = load(root)
    rows = [
        f"{name}_{k},{masks.get((name, k), nothing)}\n"
        for name in ("a.jpg", "b.png", "c.bmp")
        for k in (1, 2, 3)
    ]
    table(root, OLD + "".join(rows))
    assert load(root) == before


@pytest.mark.parametrize(
    "text",
    [
        "EncodedPixels,ImageId,ClassId\n7 3,a.jpg,3\n1 2,a.jpg,1\n60 1,b.png,2\n",
        '"ImageId","ClassId","EncodedPixels"\n"a.jpg","3","7 3"\na.jpg,1,"1 2"\nb.png,2,60 1\n',
        "\ufeff" + NEW.replace("\n", "\r\n") + "a.jpg,3,7 3\r\n\r\na.jpg,1,1 2\r\nb.png,2,60 1",
        NEW + "a.jpg,3,7 3\na.jpg,1,1 2\nb.png,2,60 1\nc.bmp,2,\n",
    ],
    ids=["other order", "quotes", "Windows", "an empty mask"],
)
def test_harmless_differences_of_the_table(root: Path, text: str) -> None:
    before = load(root)
    (root / "train.csv").write_text(text, encoding="utf-8", newline="")
    assert load(root) == before


def test_other_files_and_empty_tables_are_no_harm(root: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._a.jpg", "labels.csv"):
        (root / "train_images" / name).write_bytes(b"x")
    table(root, NEW)
    (root / "train_images" / "d.PNG").touch()
    labels = load(root)
    assert labels.images == ("a.jpg", "b.png", "c.bmp", "d.PNG")
    assert labels.num_classes == 4
    assert labels.rles == {}


@pytest.mark.parametrize("row", ["c.bmp,7,\n", "c.bmp_7,\n"])
def test_a_class_without_a_mask_counts(root: Path, row: str) -> None:
    table(root, (NEW if row.count(",") == 2 else OLD) + row)
    assert load(root).num_classes == 7
    assert load(root).rles == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"train\.csv has the columns ''; expected ImageId,ClassId,EncodedPixels or ImageId_C"),
        ("image,mask\na.jpg,1 2\n", r"has the columns 'image,mask'"),
        (NEW + "z.jpg,1,1 2\n", r"line 2 \(z\.jpg, class 1\): there is no such image"),
        (OLD + "z.jpg_1,1 2\n", r"line 2 \(z\.jpg, class 1\): there is no such image"),
        (OLD + "a.jpg,1 2\n", r"line 2"),
        (NEW + "a.jpg,0,1 2\n", r"line 2 \(a\.jpg, class 0\): ClassId must be a whole number"),
        (NEW + "a.jpg,-1,1 2\n", r"class -1\): ClassId must be"),
        (NEW + "a.jpg,1.5,1 2\n", r"class 1\.5\): ClassId must be"),
        (NEW + "a.jpg,256,1 2\n", r"class 256\): ClassId must be a whole number from 1 to 255"),
        (NEW + f"a.jpg,{'9' * 5000},1 2\n", r"ClassId must be"),
        (NEW + "a.jpg,٣,1 2\n", r"ClassId must be"),
        (NEW + "a.jpg,,1 2\n", r"ClassId must be"),
        (NEW + "a.jpg,1,1 2 3\n", r"line 2 \(a\.jpg, class 1\): malformed .* odd count"),
        (NEW + "\na.jpg,1,5 1 3 1\n", r"line 3 \(a\.jpg, class 1\): malformed .* pair 2 \(3 1\)"),
        (OLD + "a.jpg_1,1 x\n", r"line 2 \(a\.jpg, class 1\): malformed .* 'x'"),
        (NEW + "a.jpg,1,1 2\na.jpg,2,\na.jpg,1,2 2\n", r"line 4 .* duplicate.* line 2: pair 2 \(2"),
        (NEW + "a.jpg,1,1 2\na.jpg,1,1 2\n", r"line 3 .* a duplicate, or masks that overlap"),
        (NEW + "a.jpeg,1,1 2\n", r"there is no such image in train_images/: it holds a\.jpg"),
        (NEW + "train_images\\a.jpg,1,1 2\n", r"no such image in train_images/: it holds a\.jpg"),
        (NEW + "a,1,1 2\n", r"there is no such image in train_images/: it holds a\.jpg"),
        ("ImageId,ImageId,ClassId,EncodedPixels\n", r"has the column 'imageid' twice"),
        (NEW + "a.jpg,1\n", r"line 2 \(a\.jpg\): 2 fields instead of 3"),
        (NEW + "a.jpg,1,1 2,3 4\n", r"line 2 \(a\.jpg\): 4 fields instead of 3"),
        (NEW + 'a.jpg,1,"1 2\n', r"malformed"),
    ],
)
def test_a_bad_table_is_refused_with_line_image_and_class(root: Path, text: str, said: str) -> None:
    table(root, text)
    with pytest.raises(LabelError, match=said):
        load(root)


def test_all_bad_rows_are_found_and_the_good_ones_kept(root: Path) -> None:
    table(root, NEW + "a.jpg,1,1 2\na.jpg,x,1 2\nz.jpg,1,1 2\nb.png,1,2 1 1\nb.png,2,3 1\nc\n")
    labels, problems = inspect(root)
    assert sorted(int(text.split("line ")[1].split()[0]) for text in problems) == [3, 4, 5, 7]
    assert labels.rles == {"a.jpg": {1: "1 2"}, "b.png": {2: "3 1"}}
    with pytest.raises(LabelError, match=r"(?s)and 3 more.*python -m data\.check"):
        load(root)


def test_a_missing_or_half_empty_folder_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"(?s)no data set .*nowhere.*data\.download"):
        load(tmp_path / "nowhere")
    with pytest.raises(LabelError, match="no folder train_images"):
        load(tmp_path)
    (root / "train.csv").unlink()
    with pytest.raises(LabelError, match=r"train\.csv is missing"):
        load(root)
    for path in (root / "train_images").iterdir():
        path.unlink()
    with pytest.raises(LabelError, match=r"train_images holds no images \(.*\.jpg"):
        load(root)


def test_a_table_that_is_no_text_is_said(root: Path) -> None:
    for content in (b"\xff\x00\x01", b"\xff\xfe\x00", "ImageId;Bl\xe4ch".encode("latin-1")):
        (root / "train.csv").write_bytes(content)
        with pytest.raises(LabelError, match=r"(?s)cannot read .*train\.csv as a table.*in UTF-8"):
            load(root)


MEANT = NEW + "a.jpg,3,7 3\na.jpg,1,1 2\nb.png,2,60 1\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (",ImageId,ClassId,EncodedPixels\n0,a.jpg,3,7 3\n1,a.jpg,1,1 2\n2,b.png,2,60 1\n", "utf-8"),
        (MEANT.replace("\n", ",x\n"), "utf-8"),
        (MEANT.replace(",", ", "), "utf-8"),
        (MEANT.replace(",", ";"), "utf-8"),
        (MEANT.replace(",", "\t"), "utf-16"),
        (MEANT.replace("7 3", '"7 3"').replace(",", ", "), "utf-8"),
        (MEANT.lower(), "utf-8"),
        (MEANT.replace("a.jpg", "A.JPG ").replace(",3,", ",3.0,"), "utf-8"),
        (NEW + "a.jpg,3,7 1\na.jpg,1,1 2\nb.png,2,60 1\na.jpg,3,8 2\n", "utf-8"),
        (MEANT.replace("\n", "\r"), "utf-8"),
        *((MEANT + f"b.png,3,{none}\nc.bmp,{k},{none}\n", "utf-8")
          for none, k in (("-1", "1"), ("1 0", "1"), ("None", "nan"), ("  ", ""), ("<NA>", "-1"))),
    ],
)  # fmt: skip
def test_tables_as_people_have_them_mean_the_same(root: Path, text: str, encoding: str) -> None:
    def pixels() -> dict:
        found = load(root)
        return {name: found.label_map(name, SHAPE).tolist() for name in found.images}

    before, known = pixels(), fingerprint(load(root))
    (root / "train.csv").write_bytes(text.encode(encoding))
    assert pixels() == before
    if "8 2" not in text:  # two rows for one mask are other runs of the same pixels
        assert fingerprint(load(root)) == known


def test_names_are_found_in_any_unicode_form_but_never_guessed(root: Path) -> None:
    (root / "train_images" / "Bl\u00e4ch.png").touch()
    table(root, NEW + "Bla\u0308ch.png,1,1 2\n")
    assert load(root).rles == {"Bl\u00e4ch.png": {1: "1 2"}}
    (root / "train_images" / "A.jpg").touch()
    table(root, NEW + "a.jpg,1,1 2\nA.jpg,2,1 2\n")
    assert load(root).rles == {"a.jpg": {1: "1 2"}, "A.jpg": {2: "1 2"}}
    table(root, NEW + "A.JPG,1,1 2\n")
    with pytest.raises(LabelError, match=r"no such image"):
        load(root)


@pytest.mark.parametrize("name", ["Bl\udce4ch.png", "two\nlines.png", "two\rlines.png"])
def test_names_that_no_table_can_hold_are_refused(root: Path, name: str) -> None:
    (root / "train_images" / name).touch()
    with pytest.raises(LabelError, match=r"(?s)holds 1 images whose names no table can hold.*\\"):
        load(root)


def test_many_equal_problems_are_one_line(root: Path) -> None:
    table(root, NEW + "a.jpg,0,1 2\n" + "".join(f"{i}.jpg,1,1 2\n" for i in range(500)))
    _, problems = inspect(root)
    assert len(problems) == 2
    assert problems[1].endswith("no such image in train_images/ (and 499 more rows like it)")


def test_groups(root: Path) -> None:
    table(root, "image,group\na.jpg,coil 7\nc.bmp,coil 7\n", "groups.csv")
    assert load(root).groups == {"a.jpg": "coil 7", "c.bmp": "coil 7"}


def test_label_maps_run_down_the_columns(root: Path) -> None:
    label_map = load(root).label_map("a.jpg", SHAPE)
    expected = np.zeros(SHAPE, np.uint8)
    expected[0:2, 0] = 1
    expected[0:3, 1] = 3
    np.testing.assert_array_equal(label_map, expected)
    assert label_map.dtype == np.uint8
    assert label_map.flags.c_contiguous
    assert not load(root).label_map("c.bmp", SHAPE).any()


def test_where_masks_overlap_the_larger_class_wins(root: Path) -> None:
    table(root, NEW + "a.jpg,12,1 4\na.jpg,2,3 4\n")
    assert load(root).label_map("a.jpg", SHAPE)[:, 0].tolist() == [12, 12, 12, 12, 2, 2]


def test_a_mask_that_does_not_fit_its_image_is_said(root: Path) -> None:
    with pytest.raises(LabelError, match=r"b\.png, class 2\): pair 1 \(60 1\) .* 5x10"):
        load(root).label_map("b.png", (5, 10))


def test_the_fingerprint_follows_the_content_not_the_place(root: Path) -> None:
    first = fingerprint(load(root))
    moved = root.rename(root.parent / "elsewhere")
    assert fingerprint(load(moved)) == first
    image = moved / "train_images" / "b.png"
    seen = {first}
    for change in (
        lambda: table(moved, NEW + "a.jpg,3,7 3\n"),
        lambda: table(moved, "image,group\na.jpg,1\n", "groups.csv"),
        lambda: image.write_bytes(image.read_bytes() + b"\0"),
        lambda: image.rename(image.with_name("bb.png")),
    ):
        change()
        seen.add(fingerprint(load(moved)))
    assert len(seen) == 5


def test_a_run_keeps_its_data_whatever_its_fingerprint_was_made_of(root: Path) -> None:
    """Names and bytes of images and tables, hashed as older versions did."""
    table(root, "image,group\na.jpg,1\n", "groups.csv")
    labels = load(root)
    old = hashlib.blake2b(digest_size=8)
    for path in [*map(labels.path, labels.images), root / "train.csv", root / "groups.csv"]:
        content = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        old.update(path.name.encode() + b"\0" + content)
    assert is_fingerprint(old.hexdigest(), labels, fingerprint(labels))
    assert is_fingerprint(fingerprint(labels), labels, fingerprint(labels))
    assert not is_fingerprint("0" * 16, labels, fingerprint(labels))


def test_an_image_that_vanishes_is_said_by_the_fingerprint(root: Path) -> None:
    labels = load(root)
    labels.path("b.png").unlink()
    with pytest.raises(LabelError, match=r"cannot read .*b\.png"):
        fingerprint(labels)


FIELD = st.text(max_size=6) | st.sampled_from(["a.jpg", "b.png", "1", "2", "1 2", "", '"', "a_1"])
LINE = st.lists(FIELD, min_size=1, max_size=4).map(",".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(header=st.sampled_from([NEW, OLD, "image,group\n", ""]), lines=st.lists(LINE, max_size=5))
def test_any_text_is_either_labels_or_a_label_error(root: Path, header: str, lines) -> None:
    text = (header + "\n".join(lines)).encode("utf-8", "surrogatepass")
    for name in ("train.csv", "groups.csv"):
        (root / name).write_bytes(text if header or name == "train.csv" else b"image,group\n")
    try:
        labels = load(root)
    except LabelError:
        return
    for name in labels.images:
        assert all(1 <= k <= labels.num_classes for k in labels.classes(name))


def test_the_full_sets_size_is_no_trouble(root: Path, monkeypatch) -> None:
    """Each row is looked at once: as many checks as rows, whatever the number of images."""
    checked = []
    runs = labels_module.rle.runs
    monkeypatch.setattr(labels_module.rle, "runs", lambda text: checked.append(text) or runs(text))
    for i in range(500):
        (root / "train_images" / f"{i}.png").touch()
    rows = [f"{i}.png_{k},{'1 2' if k == 3 else ''}\n" for i in range(500) for k in (1, 2, 3, 4)]
    table(root, OLD + "".join(rows))
    labels = load(root)
    assert len(labels.images) == 503
    assert len(labels.rles) == 500
    assert len(checked) == 2000


def test_real_sets(real_data: Path) -> None:
    severstal = load(real_data / "severstal_sample")
    assert len(severstal.images) == 58
    assert len(severstal.rles) == 33
    for name in severstal.images:
        image = read_image(severstal.path(name))
        assert image.shape == (256, 1600)
        areas = np.bincount(severstal.label_map(name, image.shape).ravel(), minlength=5)
        masks = severstal.rles.get(name, {})
        assert areas[1:].tolist() == [
            sum(map(int, masks.get(k, "").split()[1::2])) for k in (1, 2, 3, 4)
        ]
    neu = load(real_data / "neu_strips")
    assert neu.num_classes == 3
    assert len(set(neu.groups.values())) == 86


def test_classes_have_names_where_classes_csv_gives_them(root: Path) -> None:
    assert load(root).class_titles == ("1", "2", "3")
    table(root, "name,class\nscratch,3\n rolled-in scale ,1\n", "classes.csv")
    labels = load(root)
    assert labels.class_names == {1: "rolled-in scale", 3: "scratch"}
    assert labels.class_titles == ("1 (rolled-in scale)", "2", "3 (scratch)")


@pytest.mark.parametrize("rows", ["a.jpg,1,1 2\n", ""])
def test_a_named_class_counts_without_a_mask(root: Path, rows: str) -> None:
    table(root, NEW + rows)
    table(root, "class,name\n1,crack\n2,scratch\n", "classes.csv")
    assert load(root).num_classes == 2
    before = fingerprint(load(root))
    table(root, "class,name\n1,cracks\n2,scratch\n", "classes.csv")
    assert fingerprint(load(root)) == before  # names change no pixel


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("groups", "name,coil\na.jpg,1\n", r"has the columns 'name,coil'; expected image,group"),
        ("groups", "image,group\nz.jpg,1\n", r"line 2 \(z\.jpg\): there is no such image"),
        ("groups", "image,group\na.jpg,\n", r"line 2 \(a\.jpg\): the group is empty"),
        ("groups", "image,group\na.jpg,1\na.jpg,2\n", r"line 3 \(a\.jpg\): a second group"),
        ("groups", "image,group\na.jpg\n", r"line 2 \(a\.jpg\): 1 fields instead of 2"),
        ("classes", "id,name\n1,crack\n", r"has the columns 'id,name'; expected class,name"),
        ("classes", "class,name\n0,crack\n", r"line 2 \(0, crack\): class must be a whole number"),
        ("classes", "class,name\n1,  \n", r"line 2 .*: the name is empty"),
        ("classes", "class,name\n1,crack\n1,scratch\n", r"line 3 \(1, scratch\): a second name"),
        ("classes", "class,name\n1,crack\n2,crack\n", r"line 3 \(2, crack\): a second name"),
        ("classes", "class,name\n1,crack,2\n", r"line 2 .*3 fields instead of 2"),
    ],
)
def test_other_bad_tables_are_refused(root: Path, file: str, text: str, said: str) -> None:
    table(root, text, f"{file}.csv")
    with pytest.raises(LabelError, match=rf"{file}\.csv.*{said}"):
        load(root)
