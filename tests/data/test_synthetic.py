import csv
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from common import labels, rle
from common.dataset import splits
from common.errors import UserError
from data import strips, synthetic, textures
from tests.documents import PROJECT

SHAPE = (256, 1600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic.generate(tmp_path_factory.mktemp("made") / "strips", 40, seed=3)


@pytest.fixture(scope="module")
def areas():
    """Mask pixels (N, 5) of 1,500 strips, from their layouts alone."""
    maps = (synthetic.lay_out(0, i, SHAPE).label_map for i in range(1_500))
    return np.array([np.bincount(m.ravel(), minlength=5) for m in maps])


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_images_are_what_kaggle_has(folder):
    paths = sorted((folder / "train_images").iterdir())
    assert len(paths) == 40
    for path in paths:
        assert re.fullmatch(r"[0-9a-f]{9}\.jpg", path.name)
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image.shape == (256, 1600, 3)
        assert (image == image[..., :1]).all()


def test_csv_holds_the_masks_of_the_strips(folder):
    loaded = labels.load(folder)
    assert loaded.num_classes == 4
    for index in range(40):
        name = synthetic.name(3, index)
        _, expected = synthetic.strip(3, index, SHAPE)
        np.testing.assert_array_equal(loaded.label_map(name, SHAPE), expected)


def test_new_format_lists_defective_images_only(folder):
    with (folder / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["ImageId", "ClassId", "EncodedPixels"]
    assert all(row["EncodedPixels"] for row in rows)
    assert len({row["ImageId"] for row in rows}) < 40


def test_old_format_has_four_rows_an_image_and_the_same_masks(tmp_path):
    size = {"height": 64, "width": 96}
    new = synthetic.generate(tmp_path / "new", 30, **size)
    old = synthetic.generate(tmp_path / "old", 30, format="old", **size)
    with (old / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ImageId_ClassId"][-2:] for row in rows] == ["_1", "_2", "_3", "_4"] * 30
    assert sum(not row["EncodedPixels"] for row in rows) > 60
    assert labels.load(old).rles == labels.load(new).rles


def test_classes_occur_as_in_severstal(areas):
    shown = areas[:, 1:] > 0
    presence = np.array([897, 247, 5_150, 801]) / 12_568
    np.testing.assert_allclose(shown.mean(axis=0), presence, atol=0.003)
    counts = np.bincount(shown.sum(axis=1), minlength=4)[:4] / len(areas)
    np.testing.assert_allclose(counts, np.array([5_902, 6_239, 425, 2]) / 12_568, atol=0.004)


def test_areas_are_as_in_severstal(areas):
    shares, medians = (0.00076, 0.00016, 0.0255, 0.00535), (3_326, 2_944, 11_954, 25_357)
    for defect, share, median in zip(range(1, 5), shares, medians, strict=True):
        found = areas[:, defect][areas[:, defect] > 0]
        # Tolerances: three standard errors of these log-normal areas with 30 to 615 masks.
        error = 3 / np.sqrt(len(found)) * strips.AREAS[defect][1]
        assert np.median(found) == pytest.approx(median, rel=0.05 + 1.25 * error)
        assert found.sum() / areas.sum() == pytest.approx(share, rel=0.05 + 1.6 * error)


def test_the_table_of_class_sets_adds_up_to_severstal():
    table = synthetic.CLASS_SETS
    per_class = [sum(n for s, n in table.items() if k in s) for k in range(1, 5)]
    per_size = [sum(n for s, n in table.items() if len(s) == k) for k in range(4)]
    assert per_class == [897, 247, 5_150, 801]
    assert per_size == [5_902, 6_239, 425, 2]


def test_24_strips_show_every_class():
    for seed in range(1_000):
        assert {1, 2, 3, 4} <= {c for i in range(24) for c in synthetic.class_set(seed, i)}


@pytest.mark.parametrize("shape", [SHAPE, (64, 64), (64, 400), (300, 200)])
def test_every_planned_class_is_laid_out_on_steel_without_overlap(shape):
    for index in range(150):
        layout = synthetic.lay_out(1, index, shape)
        planned = synthetic.class_set(1, index)
        assert set(np.unique(layout.label_map)) - {0} == set(planned)
        assert sum(part.mask.sum() for part in layout.parts) == (layout.label_map > 0).sum()
        first, last = layout.steel
        assert not layout.label_map[:, :first].any()
        assert not layout.label_map[:, last:].any()


@pytest.mark.parametrize("shape", [(64, 64), (65, 333), (300, 200)])
def test_any_size_can_be_drawn(shape):
    for index in range(60):
        image, label_map = synthetic.strip(5, index, shape)
        assert image.shape == label_map.shape == shape
        assert image.dtype == label_map.dtype == np.uint8


def test_file_names_are_unique_and_in_no_order():
    names = [synthetic.name(0, index) for index in range(20_000)]
    assert len(set(names)) == len(names)
    order = np.argsort(np.argsort(names))
    assert abs(np.corrcoef(order, np.arange(len(names)))[0, 1]) < 0.05
    defective = np.array([bool(synthetic.class_set(0, i)) for i in range(2_000)])
    assert abs(np.corrcoef(order[:2_000], defective)[0, 1]) < 0.1


def test_strips_depend_on_seed_and_index_alone(tmp_path, folder):
    few = synthetic.generate(tmp_path / "few", 7, seed=3)
    kept = digest(folder)
    for name, content in digest(few / "train_images").items():
        assert kept[f"train_images/{name}"] == content
    other = {synthetic.name(4, i) for i in range(40)}
    assert not other & {synthetic.name(3, i) for i in range(40)}


def test_repeats_are_near_duplicates():
    repeats = [i for i in range(320) if synthetic.source(0, i) != i]
    assert len(repeats) == 10
    for index in repeats[:4]:
        image, label_map = synthetic.strip(0, index, SHAPE)
        first_image, first_map = synthetic.strip(0, synthetic.source(0, index), SHAPE)
        assert not (image == first_image).all()
        small, first_small = (
            cv2.resize(a, (100, 16), interpolation=cv2.INTER_AREA) for a in (image, first_image)
        )
        assert np.corrcoef(small.ravel(), first_small.ravel())[0, 1] > 0.97
        moves = [
            (np.roll(first_map, (y, x), (0, 1)) == label_map)[3:-3, 3:-3].all()
            for y in (-2, -1, 1, 2)
            for x in (-2, -1, 1, 2)
        ]
        assert any(moves)


def test_a_split_by_near_duplicates_finds_the_repeat(folder):
    group = splits.make_split(labels.load(folder)).set_index("image")["group"]
    repeat, first = (synthetic.name(3, i) for i in (31, synthetic.source(3, 31)))
    assert group[repeat] == group[first]
    assert group.nunique() > 35  # mostly black strips may agree by chance


def with_and_without(defect, index, monkeypatch):
    """A layout, and its strip with and without the defects, float32 (H, W)."""
    monkeypatch.setattr(textures, "chequer", lambda rng, image: None)  # only on defect-free strips
    layout = strips.lay_out(np.random.default_rng(index), (defect,), SHAPE)
    layout = strips.Layout(layout.label_map, layout.parts, (0, SHAPE[1]))
    bare = strips.Layout(layout.label_map, [], layout.steel)
    # The same generator draws the same surface, so that the defects are the whole difference.
    strip, steel = (
        strips.photograph(np.random.default_rng([index, 1]), which).astype(np.float32)
        for which in (layout, bare)
    )
    return layout, strip, steel


@pytest.mark.parametrize("defect", [1, 2, 3, 4])
def test_marks_stay_in_their_masks_and_show_there(defect, monkeypatch):
    for index in range(6):
        layout, strip, steel = with_and_without(defect, index, monkeypatch)
        marks = np.abs(strip - steel)
        assert not marks[layout.label_map == 0].any()
        assert marks[layout.label_map > 0].max() > 8


def detectability(part, marks, steel, shrink):
    """Matched-filter d' of one part at 1/shrink of the size: energy over the filter's noise.

    Both are freed of what is coarser than 24 pixels of the full size, as a detector would.
    """
    size = SHAPE[1] // shrink, SHAPE[0] // shrink
    fine = []
    for image in (marks, steel):
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        fine.append(small - cv2.blur(small, (24 // shrink, 24 // shrink)))
    height, width = (max(2, side // shrink) for side in part.mask.shape)
    top, left = part.top // shrink, part.left // shrink
    template = np.ascontiguousarray(fine[0][top : top + height, left : left + width])
    return (template**2).sum() / cv2.matchTemplate(fine[1], template, cv2.TM_CCORR).std()


@pytest.mark.parametrize(
    ("defect", "least", "most"), [(1, 1.6, 4), (2, 1.6, 4), (3, 1, 2), (4, 1, 1.5)]
)
def test_small_and_thin_defects_need_the_resolution(defect, least, most, monkeypatch):
    """d' at 256x1600 over d' at 64x400: pits and cracks lose half of it, large patches little."""
    gains = []
    for index in range(12):
        layout, strip, steel = with_and_without(defect, index, monkeypatch)
        for part in layout.parts:
            full, quarter = (detectability(part, strip - steel, steel, k) for k in (1, 4))
            gains.append(full / quarter)
    assert least < np.median(gains) < most


def test_the_same_call_finds_its_strips_again(tmp_path, capsys):
    options = {"images": 3, "height": 64, "width": 64}
    out = synthetic.generate(tmp_path / "a", **options)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    capsys.readouterr()
    assert synthetic.generate(out, **options, workers=2) == out
    assert "there already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_empty_folder_is_filled(tmp_path, small_disk, monkeypatch):
    """Also where it is the working folder, a link, or a disk of its own."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".synthetic.killed").mkdir()
    (tmp_path / "link").symlink_to("b")
    monkeypatch.chdir(tmp_path / "a")
    expected = digest(synthetic.generate(tmp_path / "new", 2, height=64, width=64))
    for out in (Path(), tmp_path / "link", small_disk("1m")):
        for _ in range(2):  # the second time it is there
            synthetic.generate(out, 2, height=64, width=64)
        assert digest(out) == expected
        assert len(labels.load(out).images) == 2
    assert (tmp_path / "link").is_symlink()


def test_other_strips_are_not_overwritten(tmp_path):
    out = synthetic.generate(tmp_path / "a", 3, height=64, width=64)
    before = digest(out)
    with pytest.raises(UserError, match=r"holds other strips.*'seed': 1"):
        synthetic.generate(out, 3, seed=1, height=64, width=64)
    assert digest(out) == before


def test_lost_files_are_noticed(tmp_path):
    out = synthetic.generate(tmp_path / "a", 3, height=64, width=64)
    next((out / "train_images").iterdir()).unlink()
    with pytest.raises(UserError, match="lost files"):
        synthetic.generate(out, 3, height=64, width=64)


@pytest.mark.parametrize("content", [None, "{", json.dumps({"seed": 0})])
def test_foreign_folders_are_refused(tmp_path, content):
    (tmp_path / "mine.txt").write_text("precious")
    if content is not None:
        (tmp_path / "synthetic.json").write_text(content)
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path))} holds (something|other)"):
        synthetic.generate(tmp_path, 2)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(label_map):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "encode_classes", full)
    with pytest.raises(UserError, match=r"cannot write.*No space left"):
        synthetic.generate(tmp_path / "a", 3, height=64, width=64)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        synthetic.generate(tmp_path / "file" / "a", 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--images", "0"], "--images must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--height", "63"], "--height must be at least 64"),
        (["--width", "0"], "--width must be at least 64"),
        (["--workers", "-2"], "--workers must be at least 0"),
        (["--format", "coco"], "coco"),
        (["--nonsense", "1"], "nonsense"),
        (["--images", "many"], "many"),
    ],
)
def test_impossible_options_exit_with_2(tmp_path, capsys, options, said):
    assert synthetic.main(["--out", str(tmp_path / "a"), *options]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


def test_impossible_format_in_a_call(tmp_path):
    with pytest.raises(UserError, match="--format must be new or old"):
        synthetic.generate(tmp_path / "a", 1, format="coco")


def test_command_with_processes(tmp_path, folder):
    command = [sys.executable, "-m", "data.synthetic", "--out", str(tmp_path / "a"), "--images"]
    command += ["40", "--seed", "3", "--workers", "2"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert f"40 strips in {tmp_path / 'a'}" in done.stdout
    assert done.stderr == ""  # no bar where nobody watches
    assert digest(tmp_path / "a") == digest(folder)


def test_masks_are_valid_kaggle_strings(folder):
    for masks in labels.load(folder).rles.values():
        for encoded in masks.values():
            assert rle.encode(rle.decode(encoded, SHAPE)) == encoded
