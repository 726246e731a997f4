import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from common import inference, labels, predict, rle, runs, thresholds
from common.dataset import images
from common.dataset.stream import batches
from common.deployment import trained
from common.pixels import read_image
from common.thresholds import Thresholds, decide, drawn_probability, keep

THRESHOLDS = Thresholds(
    (0.22, 0.3, 0.25, 0.2), (5, 0, 9, 3), (0.4, 0.3, 0.45, 0.3), "balanced", (20, 0, 60, 10**6)
)


@pytest.fixture
def photos(root, tmp_path):
    """Five images of three sizes and two file types."""
    folder = tmp_path / "photos"
    folder.mkdir()
    strips = [read_image(path) for path in sorted((root / "train_images").iterdir())[:5]]
    for name, strip in zip(["a.jpg", "b.png", "c.jpg"], strips, strict=False):
        cv2.imwrite(str(folder / name), strip)
    cv2.imwrite(str(folder / "d.png"), strips[3][:50, :131])
    cv2.imwrite(str(folder / "e.jpg"), cv2.resize(strips[4], (96, 32)))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"no image either")
    return folder


def call(run, *arguments, out, **options):
    """Runs the command, its label maps beside `out`; returns (exit code, label maps by stem)."""
    masks = out.parent / "maps"
    flags = [str(x) for k, v in options.items() for x in (f"--{k.replace('_', '-')}", v)]
    argv = [str(run), *map(str, arguments), "--out", str(out), "--masks", str(masks)]
    code = predict.main([*argv, "--device", "cpu", *flags])
    return code, {p.stem: cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in masks.glob("*")}


def probabilities(run, path):
    """What the run says of an image, worked out step by step from its weights."""
    image = read_image(path)
    small = cv2.resize(image, (96, 32), interpolation=cv2.INTER_AREA)
    pixels = (torch.from_numpy(small)[None, None] / 255 - 0.4) / 0.2
    with torch.inference_mode():
        logits = runs.load(run).build_model()(pixels)
        return F.interpolate(logits, image.shape, mode="bilinear").softmax(1)


def same(found, expected):
    """Equal but for pixels where two classes tie to within rounding."""
    return found.shape == expected.shape and (found != expected).mean() < 1e-3


def test_label_maps_are_what_the_network_says(run, photos, tmp_path, capsys):
    code, maps = call(run, photos, out=tmp_path / "out.csv", batch_size=2)
    assert code == 0
    assert sorted(maps) == list("abcde")
    for path in images.find_images([str(photos)]):
        assert same(maps[path.stem], probabilities(run, path).argmax(1)[0].numpy())
    assert len(np.unique(np.concatenate([m.ravel() for m in maps.values()]))) > 2
    assert "no thresholds.json" in capsys.readouterr().out


def test_thresholds_and_least_areas_of_the_run_are_used(run, photos, tmp_path, capsys):
    THRESHOLDS.save(run)
    _, maps = call(run, photos, out=tmp_path / "out.csv")
    said = capsys.readouterr().out
    assert "(aim: balanced)" in said
    assert "class 3: 0.25, 0.45, 9 px and 60 px" in said
    for path in images.find_images([str(photos)]):
        decided = decide(probabilities(run, path), THRESHOLDS)[0].numpy()
        drawn = drawn_probability(decided, probabilities(run, path)[0].numpy())
        kept = keep(decided, drawn, THRESHOLDS)
        # A pixel that ties may decide whether a component is large enough.
        assert same(maps[path.stem], kept)
        assert not same(kept, keep(decided, None, replace(THRESHOLDS, peak=())))
        assert not same(kept, keep(decided, drawn, replace(THRESHOLDS, total=())))
        assert not same(kept, decided)

    argv = [str(run), str(photos), "--out", str(tmp_path / "b.csv"), "--masks", str(tmp_path / "b")]
    assert predict.main([*argv, "--no-thresholds", "--device", "cpu"]) == 0
    assert "--no-thresholds" in capsys.readouterr().out
    plain = cv2.imread(str(tmp_path / "b" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert same(plain, probabilities(run, photos / "a.jpg").argmax(1)[0].numpy())
    assert not same(plain, maps["a"])


def test_large_images_go_through_one_by_one_in_bands(run, photos, tmp_path, monkeypatch):
    THRESHOLDS.save(run)
    _, whole = call(run, photos, out=tmp_path / "out.csv")
    seen = []

    def watched(photos, size):
        seen.append(size)
        return batches(photos, size)

    monkeypatch.setattr(trained, "batches", watched)
    monkeypatch.setattr(images, "LARGE", 64 * 320)
    for module in (inference, thresholds):
        monkeypatch.setattr(module, "BAND", 1000)
    _, parts = call(run, photos, out=tmp_path / "parts" / "out.csv")
    assert seen == [1]
    for stem, label_map in whole.items():
        assert same(parts[stem], label_map)


@pytest.mark.parametrize("form", ["new", "old"])
def test_its_own_table_is_read_back_to_the_same_masks(run, root, tmp_path, form):
    THRESHOLDS.save(run)
    again = tmp_path / "again"
    shutil.copytree(root / "train_images", again / "train_images")
    code, maps = call(run, again / "train_images", out=again / "train.csv", format=form)
    assert code == 0
    data = labels.load(again)
    assert len(data.images) == len(maps) == 24
    for name in data.images:
        expected = maps[name.removesuffix(".jpg")]
        assert (data.label_map(name, expected.shape) == expected).all()
    table = pd.read_csv(again / "train.csv", keep_default_na=False)
    if form == "old":
        assert table.columns.tolist() == ["ImageId_ClassId", "EncodedPixels"]
        assert table["ImageId_ClassId"].tolist() == [
            f"{name}_{k}" for name in data.images for k in (1, 2, 3, 4)
        ]
    else:
        assert table.columns.tolist() == ["ImageId", "ClassId", "EncodedPixels"]
        assert (table["EncodedPixels"] != "").all()
        assert len(table) == sum(len(np.unique(m[m > 0])) for m in maps.values())


def test_clean_images_have_no_row_in_the_new_form_and_empty_ones_in_the_old(run, photos, tmp_path):
    Thresholds((0.5,) * 4, (10**6,) * 4).save(run)
    assert call(run, photos, out=tmp_path / "new.csv")[0] == 0
    assert (tmp_path / "new.csv").read_text() == "ImageId,ClassId,EncodedPixels\n"
    assert call(run, photos / "b.png", out=tmp_path / "old.csv", format="old")[0] == 0
    assert (tmp_path / "old.csv").read_text().splitlines() == [
        "ImageId_ClassId,EncodedPixels", "b.png_1,", "b.png_2,", "b.png_3,", "b.png_4,"
    ]  # fmt: skip


def test_flips_are_averaged(run, photos, tmp_path):
    code, maps = call(run, photos / "e.jpg", out=tmp_path / "a.csv")
    argv = [str(run), str(photos / "e.jpg"), "--out", str(tmp_path / "b.csv"), "--device", "cpu"]
    assert predict.main([*argv, "--masks", str(tmp_path / "b"), "--flip-tta"]) == code == 0
    found = cv2.imread(str(tmp_path / "b" / "e.png"), cv2.IMREAD_UNCHANGED)
    image = read_image(photos / "e.jpg")  # has the network's size
    pixels = (torch.from_numpy(image)[None, None] / 255 - 0.4) / 0.2
    with torch.inference_mode():
        model = runs.load(run).build_model()
        mirrored = [model(pixels.flip(d)).flip(d) for d in ((), (2,), (3,), (2, 3))]
    assert same(found, torch.stack(mirrored).mean(0).argmax(1)[0].numpy())
    assert not same(found, maps["e"])


def test_overlays_show_the_masks_in_colour(run, photos, tmp_path):
    argv = [str(run), str(photos), "--out", str(tmp_path / "o.csv"), "--device", "cpu"]
    maps = ["--masks", str(tmp_path / "maps")]
    assert predict.main([*argv, "--overlays", str(tmp_path / "o"), *maps]) == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [f"{c}.png" for c in "abcde"]
    picture = cv2.imread(str(tmp_path / "o" / "d.png"))
    label_map = cv2.imread(str(tmp_path / "maps" / "d.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (50, 131, 3)
    coloured = (picture != picture[:, :, :1]).any(axis=2)
    assert (coloured == (label_map > 0)).mean() > 0.95


def test_bad_images_are_named_and_left_out_and_the_others_finished(run, photos, tmp_path, capsys):
    _, whole = call(run, photos, out=tmp_path / "whole" / "out.csv")
    data = (photos / "c.jpg").read_bytes()
    (photos / "c.jpg").write_bytes(data[: len(data) // 2])
    (photos / "f.png").write_bytes(b"")
    capsys.readouterr()
    code, maps = call(run, photos, out=tmp_path / "part" / "out.csv", batch_size=1)
    said = capsys.readouterr()
    assert code == 1
    assert sorted(maps) == list("abde")
    assert all(same(maps[name], whole[name]) for name in maps)
    assert "c.jpg is truncated" in said.err
    assert "f.png" in said.err
    assert "2 of 6 images" in said.err
    assert "4 images segmented" in said.out
    rows = pd.read_csv(tmp_path / "part" / "out.csv")
    assert set(rows["ImageId"]) == {"a.jpg", "b.png", "d.png", "e.jpg"}


@pytest.mark.parametrize("name", ["Bl\udce4ch.jpg", "two\nlines.jpg"])
def test_a_name_that_no_table_can_hold_is_left_out(run, photos, tmp_path, capsys, name):
    (photos / "c.jpg").rename(photos / name)
    code, maps = call(run, photos, out=tmp_path / "new" / "out.csv")
    assert code == 1
    assert sorted(maps) == list("abde")
    assert f"left out: {name!a}: no table can hold this name" in capsys.readouterr().err
    rows = pd.read_csv(tmp_path / "new" / "out.csv")
    assert set(rows["ImageId"]) == {"a.jpg", "b.png", "d.png", "e.jpg"}


def test_a_folder_whose_name_is_no_unicode_is_written_to(run, photos, tmp_path, capsys):
    out = tmp_path / "Bl\udce4ch"
    folders = ["--overlays", str(out / "overlays"), "--masks", str(out / "masks")]
    assert predict.main([str(run), str(photos), "--out", str(out / "out.csv"), *folders]) == 0
    assert (out / "out.csv").exists()
    assert len(list((out / "masks").iterdir())) == len(list((out / "overlays").iterdir())) == 5
    assert "out.csv" in capsys.readouterr().out


def test_the_report_counts_images_components_and_pixels(run, photos, tmp_path, capsys):
    THRESHOLDS.save(run)
    argv = [str(run), str(photos), "--out", str(tmp_path / "o.csv"), "--device", "cpu", "--report"]
    assert predict.main([*argv, "--masks", str(tmp_path / "maps")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    maps = [cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in (tmp_path / "maps").iterdir()]
    total = sum(m.size for m in maps)
    for k, line in enumerate(lines, start=1):
        pixels = sum((m == k).sum() for m in maps)
        defects = sum(cv2.connectedComponents((m == k).astype(np.uint8))[0] - 1 for m in maps)
        shown = sum((m == k).any() for m in maps)
        assert line[:4] == [str(k), str(shown), str(defects), str(pixels)]
        assert float(line[4].rstrip("%")) == pytest.approx(100 * pixels / total, abs=6e-4)


def test_drift_is_warned_of_where_the_training_data_is_known(run, photos, tmp_path, capsys):
    assert call(run, photos, out=tmp_path / "a.csv")[0] == 0
    assert "warning" not in capsys.readouterr().err
    config = json.loads((run / "config.json").read_text())
    usual = {"brightness": [0.0, 1.0], "contrast": [0.0, 1.0], "black_share": [0.0, 1.0]}
    for brightness, warned in (([0.0, 1.0], False), ([0.9, 1.0], True)):
        config["data"]["drift"] = usual | {"brightness": brightness}
        (run / "config.json").write_text(json.dumps(config))
        assert call(run, photos, out=tmp_path / "a.csv")[0] == 0
        assert ("brightness" in capsys.readouterr().err) == warned


def test_folders_files_and_patterns_name_each_image_once(photos):
    found = images.find_images([str(photos / "b.png"), str(photos / "*.jpg"), str(photos)])
    assert [path.name for path in found] == ["b.png", "a.jpg", "c.jpg", "e.jpg", "d.png"]


def test_what_cannot_be_done_is_said_and_nothing_written(run, photos, tmp_path, capsys):
    out = tmp_path / "new" / "out.csv"
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "a.jpg", other / "a.jpg")
    (tmp_path / "empty").mkdir()
    cases = [
        ([run, photos / "nowhere"], "no image there"),
        ([run, tmp_path / "empty"], "no image there"),
        ([run, photos / "*.tiff"], "no image there"),
        ([run], "no images given"),
        ([run, photos, other], "2 images are called a.jpg"),
        ([tmp_path / "empty", photos], "no run directory"),
        ([run, photos, "--batch-size", 0], "--batch-size must be at least 1"),
        ([run, photos, "--format", "newest"], "newest"),
        ([run, photos, "--speed", 9], "--speed"),
        ([run, photos, "--device", "cuda:99"], "cuda:99"),
        ([run, photos, "--masks", photos / "a.jpg"], "a.jpg"),
        ([run, photos, "--masks", photos], "would be overwritten"),
        ([run, photos, "--overlays", photos / ".." / "photos"], "would be overwritten"),
        ([run, photos, "--overlays", tmp_path / "m", "--masks", tmp_path / "m"], "different"),
    ]
    for argv, said in cases:
        assert predict.main([*map(str, argv), "--out", str(out)]) == 2
        assert said in capsys.readouterr().err
        assert not out.exists()
    shutil.copy(photos / "a.jpg", photos / "a.jpeg")
    argv = [str(run), str(photos), "--out", str(out), "--masks", str(tmp_path / "m")]
    assert predict.main(argv) == 2
    assert "2 images are called a;" in capsys.readouterr().err


def test_inputs_are_never_overwritten(run, photos, root, tmp_path, capsys):
    data = shutil.copytree(root, tmp_path / "data")
    (tmp_path / "link.csv").symlink_to(data / "train.csv")
    outs = [photos / "a.jpg", data / "train.csv", tmp_path / "link.csv", run / "split.csv"]
    before = [out.read_bytes() for out in outs]
    for out, content in zip(outs, before, strict=True):
        assert predict.main([str(run), str(photos), "--out", str(out)]) == 2
        assert f"--out {out} would overwrite" in capsys.readouterr().err
        assert out.read_bytes() == content
    out = data / "submission.csv"
    for _ in range(2):  # its own table it may replace
        assert predict.main([str(run), str(photos), "--out", str(out)]) == 0


def test_the_table_may_go_nowhere(run, photos, capsys):
    assert predict.main([str(run), str(photos), "--out", os.devnull]) == 0
    assert "5 images segmented" in capsys.readouterr().out
    assert not Path(os.devnull).is_file()


def test_an_earlier_table_stays_whole_until_the_new_one_is(run, photos, tmp_path, monkeypatch):
    out = tmp_path / "tables" / "out.csv"
    out.parent.mkdir()
    out.write_text("earlier")
    encode, calls = rle.encode_classes, []

    def breaks(mask):
        calls.append(mask)
        if len(calls) == 4:
            raise OSError(28, "No space left on device", "disk")
        return encode(mask)

    monkeypatch.setattr(rle, "encode_classes", breaks)
    assert call(run, photos, out=out)[0] == 2
    assert out.read_text() == "earlier"
    assert [p.name for p in out.parent.iterdir() if p.is_file()] == ["out.csv"]
