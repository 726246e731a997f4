"""From a folder of images and PNG label maps to a data set, a trained network and a comparison."""

import json
import re
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common import compare, predict, runs
from common.dataset.images import opened
from common.labels import load
from common.pixels import read_image
from common.rle import encode, encode_classes
from data.from_masks import main
from data.label_maps import BAND, classify, make_key

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
    for name, expected in (("1.png", 1), ("2.jpg", 2), ("5.png", 5)):
        assert_mask(tmp_path / "set", name, label_map(expected, SHAPE))
    assert_mask(tmp_path / "set", "3.png", label_map(3, SHAPE) > 0)


def test_values_are_renumbered(folders, tmp_path: Path) -> None:
    save_as(folders[1], lambda values: (values > 0) * np.uint8(255))
    assert run(folders, tmp_path / "set", "--map", 255, 1) == 0
    assert load(tmp_path / "set").num_classes == 1
    assert_mask(tmp_path / "set", "1.png", label_map(1, SHAPE) > 0)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (("--map", 1, 2, 2, 1, 3, 0), (0, 2, 1, 0)),  # swapped and dropped
        (("--map", 1, 2, 2, 1, "--keep"), (0, 2, 1, 3)),
        (("--map", 3, 0), (0, 1, 2, 0)),  # names no class: others stay
    ],
)
def test_values_may_be_swapped_dropped_and_kept(folders, tmp_path: Path, options, meant) -> None:
    assert run(folders, tmp_path / "set", *options) == 0
    assert load(tmp_path / "set").num_classes == max(meant)
    for i in (1, 3, 5):
        assert_mask(tmp_path / "set", f"{i}.png", np.array(meant)[label_map(i, SHAPE)])


def test_classes_that_do_not_occur_count_when_said(folders, tmp_path: Path) -> None:
    assert run(folders, tmp_path / "set", "--classes", 7) == 0
    labels = load(tmp_path / "set")
    assert labels.num_classes == 7
    assert labels.classes("0.jpg") == (1, 2)


def assert_mask(root: Path, name: str, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(load(root).label_map(name, SHAPE), expected)


@pytest.fixture
def refused(folders, leaves_nothing):
    return lambda said, *options: leaves_nothing(lambda out: run(folders, out, *options), said)


@pytest.mark.parametrize(
    ("value", "options", "said"),
    [
        (
            255,
            (),
            r"error: .* values: 255 \(1 pixels of 1 maps, such as 2\.png\); .*: 1, 2, 3\.",
        ),
        (255, (), r"--map 255 1 \(0: background\), or how many classes"),
        (9, ("--classes", 5), r"unexpected values: 9 .*there are 5 classes"),
        (5, (), r"unexpected values: 5 "),
        (300, (), r"that are no class: 300 \(1 pixels of 1 maps, such as 2\.png\)"),
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


def save_as(folder: Path, change) -> None:
    """Writes every label map anew: `change` of its values, an array or a PIL picture."""
    for path in folder.glob("*.png"):
        changed = change(np.asarray(Image.open(path)))
        (Image.fromarray(changed) if isinstance(changed, np.ndarray) else changed).save(path)


def smoothed(values: np.ndarray) -> np.ndarray:
    """White masks whose edges were smoothed, as the public magnetic-tile set has them."""
    return cv2.GaussianBlur((values > 0) * np.uint8(255), (0, 0), 1)


def test_once_a_class_is_named_other_values_are_refused_with_their_counts(folders, refused) -> None:
    save_as(folders[1], lambda values: (values > 0) * np.uint8(255))
    strange = np.asarray(Image.open(folders[1] / "1.png")).copy()
    strange[0, :3], strange[1, 0] = 254, 7
    cv2.imwrite(str(folders[1] / "1.png"), strange)
    refused(
        r"values that are no class: 254 \(3 pixels of 1 maps, such as 1\.png\), 7 \(1 pixels of.*"
        r"--map .*--keep.*--threshold 128",
        "--map", 255, 1,
    )  # fmt: skip
    assert run(folders, folders[0].parent / "kept", "--map", 255, 1, 254, 2, 7, 3, "--keep") == 0
    assert run(folders, folders[0].parent / "named", "--map", 255, 1, 254, 0, 7, 0) == 0
    assert load(folders[0].parent / "named").num_classes == 1


def test_smoothed_masks_become_one_class_by_a_threshold(folders, tmp_path: Path, refused) -> None:
    save_as(folders[1], smoothed)
    refused(r"no class: .* and \d+ more", "--map", 255, 1)
    assert run(folders, tmp_path / "set", "--threshold", 128) == 0
    assert load(tmp_path / "set").num_classes == 1
    for name in ("1.png", "2.jpg", "4.jpg"):
        assert_mask(tmp_path / "set", name, smoothed(label_map(int(name[0]), SHAPE)) >= 128)


def test_hundreds_of_classes_are_not_taken_for_such_without_a_word(folders, refused) -> None:
    gradient = np.arange(24 * 56).reshape(SHAPE) % 255
    cv2.imwrite(str(folders[1] / "1.png"), gradient.astype(np.uint8))
    refused(r"unexpected values: 254 \(5 pixels of 1 maps.*; 254 in all.*--threshold 128")
    assert run(folders, folders[0].parent / "said", "--classes", 254) == 0


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "LA", "I", "F", "I;16"])
def test_a_threshold_looks_at_brightness_in_every_kind_of_picture(
    folders, tmp_path: Path, mode: str
) -> None:
    def draw(values: np.ndarray) -> Image.Image:
        grey = Image.fromarray((values > 0) * np.uint8(255 if mode == "1" else 200))
        if mode == "P":  # bright is index 1
            picture = Image.fromarray((values > 0).astype(np.uint8)).convert("P")
            picture.putpalette([0, 0, 0, 200, 200, 200])
            return picture
        return grey.convert("I").convert(mode) if mode == "I;16" else grey.convert(mode)

    for path in list(folders[1].glob("*.png")):
        picture = draw(np.asarray(Image.open(path)))
        path.unlink()
        picture.save(path.with_suffix(".tif"))
    assert run(folders, tmp_path / "set", "--threshold", 128) == 0
    assert_mask(tmp_path / "set", "1.png", label_map(1, SHAPE) > 0)


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("colour", [False, True])
def test_classes_in_the_alpha_channel_are_found(folders, tmp_path, grey: int, colour: bool) -> None:
    save_as(
        folders[1],
        lambda values: np.dstack([np.full_like(values, grey)] * (3 if colour else 1) + [values]),
    )
    assert run(folders, tmp_path / "set") == 0
    for i in (1, 3, 5):
        assert_mask(tmp_path / "set", f"{i}.png", label_map(i, SHAPE))


def test_transparency_is_no_class_of_its_own(folders, tmp_path: Path, refused) -> None:
    """Cut out along the masks it changes nothing; where it contradicts them nobody can tell."""
    save_as(folders[1], lambda values: np.dstack([values, (values > 0) * np.uint8(255)]))
    assert run(folders, tmp_path / "set") == 0
    assert_mask(tmp_path / "set", "5.png", label_map(5, SHAPE))
    save_as(folders[1], lambda values: np.dstack([values[..., 0], 255 - values[..., 1]]))
    refused(r"1\.png has transparent pixels that are not background")


def test_colours_mean_what_map_says(folders, tmp_path: Path, refused) -> None:
    colours = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255], [250, 50, 84]], np.uint8)
    save_as(folders[1], lambda values: colours[values])
    named = ("--map", "#fa3253", 2, "#33DDFF", 1)
    refused(r"in colour: say what the colours mean with --map")
    refused(r"colours that are no class: #fa3254 \(\d+ pixels of 3 maps, such as 1\.png\)", *named)
    Image.open(folders[1] / "2.png").quantize(8).save(folders[1] / "2.png")  # by its palette
    Image.open(folders[1] / "3.png").convert("RGBA").save(folders[1] / "3.png")
    assert run(folders, tmp_path / "set", *named, "#fa3254", 3) == 0
    labels = load(tmp_path / "set")
    for i, name in enumerate(labels.images[1:], start=1):
        expected = np.array([0, 2, 1, 3])[label_map(i, SHAPE)]
        np.testing.assert_array_equal(labels.label_map(name, SHAPE), expected)


def test_the_labelmap_of_cvat_gives_colours_classes_and_names(folders, tmp_path, refused, capsys):
    colours = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255], [0, 0, 9]], np.uint8)
    save_as(folders[1], lambda values: colours[values])
    table = tmp_path / "labelmap.txt"
    table.write_text(
        "# label:color_rgb:parts:actions\nscratch:51,221,255::\nbackground:0,0,0::\n"
        "rolled-in scale:250,50,83::\nnever drawn:1,2,3::\n"
    )
    options = ("--labelmap", table)
    refused(r"colours that are no class: #000009", *options)
    assert run(folders, tmp_path / "set", *options, "--map", "#000009", 0) == 0
    assert "class 1 (scratch) on 3, class 2 (rolled-in scale) on 4" in capsys.readouterr().out
    labels = load(tmp_path / "set")
    assert labels.class_names == {1: "scratch", 2: "rolled-in scale", 3: "never drawn"}
    assert_mask(tmp_path / "set", "1.png", np.array([0, 2, 1, 0])[label_map(1, SHAPE)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no label"),
        ("scratch:1,2\n", r"labelmap\.txt, line 1: expected label:r,g,b"),
        ("a:1,2,3::\nb:1,2,3::\n", "line 2: a second label of the colour #010203"),
        (None, "cannot read .*labelmap"),
    ],
)
def test_bad_labelmaps(tmp_path: Path, refused, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "labelmap.txt").write_text(text)
    refused(said, "--labelmap", tmp_path / "labelmap.txt")


def test_what_would_lose_classes_is_refused(folders, refused) -> None:
    values = label_map(1, SHAPE)
    cv2.imwrite(str(folders[1] / "1.png"), np.dstack([values.astype(np.uint16)] * 3))
    pages = [Image.fromarray(values), Image.fromarray(values)]
    (folders[1] / "3.png").unlink()
    pages[0].save(folders[1] / "3.tif", save_all=True, append_images=pages[1:])
    (folders[1] / "5.png").unlink()
    Image.fromarray(values / np.float32(2)).save(folders[1] / "5.tif")
    refused(r"1\.png has 16 bits a colour.*3\.tif holds 2 pictures.*5\.tif holds fractions")


@pytest.mark.parametrize("ending", [".tif", ".TIFF", ".bmp"])
def test_other_lossless_endings(folders, tmp_path: Path, ending: str) -> None:
    for path in list(folders[1].glob("*.png")):
        kind = {"format": "TIFF"} if "T" in ending else {}
        Image.open(path).save(path.with_suffix(ending), **kind)
        path.unlink()
    assert run(folders, tmp_path / "set") == 0
    assert_mask(tmp_path / "set", "1.png", label_map(1, SHAPE))


@pytest.mark.parametrize("suffix", ["_mask", "_mask.png", "-Label.v2"])
def test_suffixes(folders, tmp_path: Path, refused, suffix: str) -> None:
    for path in list(folders[1].glob("*.png")):
        path.rename(path.with_name(f"{path.stem}{suffix.removesuffix('.png')}.png"))
    (folders[1] / "0_overlay.png").write_bytes(b"no concern of ours")
    refused(r"0\.jpg has no label map.*There is 0.*--suffix [_-]")
    assert run(folders, tmp_path / "set", f"--suffix={suffix}") == 0
    assert len(load(tmp_path / "set").rles) == 5


def test_the_images_whole_name_may_stand_before_the_ending(folders, tmp_path: Path) -> None:
    (folders[1] / "2.png").rename(folders[1] / "2.jpg.png")
    assert run(folders, tmp_path / "set") == 0
    assert_mask(tmp_path / "set", "2.jpg", label_map(2, SHAPE))


def test_images_and_maps_in_one_folder(folders, tmp_path: Path, capsys) -> None:
    images, masks = folders
    both = tmp_path / "both"
    both.mkdir()
    for i in (0, 2, 4):
        (both / f"{i}.jpg").write_bytes((images / f"{i}.jpg").read_bytes())
        (both / f"{i}.png").write_bytes((masks / f"{i}.png").read_bytes())
    assert run((both, both), tmp_path / "set") == 0
    assert load(tmp_path / "set").images == ("0.jpg", "2.jpg", "4.jpg")
    assert_mask(tmp_path / "set", "2.jpg", label_map(2, SHAPE))
    for i in (1, 3):
        (both / f"{i}.png").write_bytes((images / f"{i}.png").read_bytes())
        (both / f"{i}_mask.png").write_bytes((masks / f"{i}.png").read_bytes())
    assert run((both, both), tmp_path / "none", "--missing-is-clean") == 2
    assert "1.png may be an image or a label map" in capsys.readouterr().err
    for i in (0, 2, 4):
        (both / f"{i}.png").rename(both / f"{i}_mask.png")
    assert run((both, both), tmp_path / "named", "--suffix", "_mask") == 0
    assert load(tmp_path / "named").images == ("0.jpg", "1.png", "2.jpg", "3.png", "4.jpg")
    assert_mask(tmp_path / "named", "3.png", label_map(3, SHAPE))


def test_images_without_a_map_are_clean_where_that_is_said(folders, tmp_path, refused) -> None:
    _, masks = folders
    (masks / "4.png").unlink()
    refused("4.jpg has no label map .*--missing-is-clean")
    assert run(folders, tmp_path / "set", "--missing-is-clean") == 0
    assert load(tmp_path / "set").classes("4.jpg") == ()
    (masks / "3.png").rename(masks / "03.png")  # its image would pass for a clean one
    refused("holds 1 label maps without an image, such as 03.png", "--missing-is-clean")
    for path in masks.iterdir():
        path.unlink()
    refused("has no label map", "--missing-is-clean")


def test_maps_that_differ_in_case_are_several(folders, refused) -> None:
    (folders[1] / "1.PNG").write_bytes((folders[1] / "2.png").read_bytes())
    (folders[0] / "S1.jpg").write_bytes((folders[0] / "2.jpg").read_bytes())
    (folders[0] / "s1.jpg").write_bytes((folders[0] / "2.jpg").read_bytes())
    refused(r"1\.png has several label maps: 1\.PNG, 1\.png.*s1\.jpg and S1\.jpg would share one")


def test_names_match_in_any_case_and_unicode_form(folders, tmp_path: Path) -> None:
    (folders[0] / "1.png").rename(folders[0] / "Bl\u00e4ch.PNG")
    (folders[1] / "1.png").rename(folders[1] / "bla\u0308ch.png")
    assert run(folders, tmp_path / "set") == 0
    assert_mask(tmp_path / "set", "Bl\u00e4ch.PNG", label_map(1, SHAPE))


@pytest.mark.parametrize("name", ["Bl\udce4ch", "two\nlines"])
def test_names_that_no_table_can_hold(folders, refused, name: str) -> None:
    (folders[0] / "1.png").rename(folders[0] / f"{name}.png")
    (folders[1] / "1.png").rename(folders[1] / f"{name}.png")
    refused(r"(Bl\\udce4ch|two\\nlines)\.png' cannot stand in a table: rename the image")


def test_large_pictures_take_little_more_memory_than_their_classes(tmp_path: Path) -> None:
    """The bands' own memory left out, which does not grow with the picture."""
    path, width = tmp_path / "wide.png", 60_000
    values = np.zeros((200, width), np.uint8)
    values[50:60, ::100] = 255
    Image.fromarray(values).save(path)
    with opened(path) as picture:
        picture.load()  # PIL's own byte a pixel is not traced
        tracemalloc.start()
        columns, unknown = classify(path, picture, make_key({"255": 1}))
        texts = encode_classes(columns)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_array_equal(columns, values > 0)
    assert texts == {1: encode(values > 0)}
    assert not unknown
    assert peak < 2 * values.size + 12 * BAND


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


@pytest.mark.parametrize(
    "options",
    [
        ("--map", 255, 256), ("--map", -1, 1), ("--map", 65536, 1), ("--map", "#12345", 1),
        ("--map", "#123456", 1, 255, 2), ("--map", "#123456", 1, "--keep"),
        ("--threshold", 0), ("--threshold", 128, "--map", 255, 1), ("--classes", 0),
    ],
)  # fmt: skip
def test_impossible_options(folders, refused, options) -> None:
    refused("^error: .*--(map|classes|threshold)", *options)


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
