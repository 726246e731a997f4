import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common import rle
from common import thresholds as thresholds_module
from common.comparison.tune import AREAS, PROBABILITIES, dice_grid, tune
from common.labels import load
from common.metrics import confusion, scores
from common.thresholds import Thresholds, decide, keep

SHAPE = (256, 1600)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_grid_is_the_dice_of_what_would_be_decided(data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    levels = st.sampled_from([0.05, 0.25, 0.45, 0.55, 0.85, 0.95])
    probability = data.draw(hnp.arrays(np.float32, shape, elements=levels))
    truth = data.draw(hnp.arrays(bool, shape))
    areas = np.array([0, 2, 4])
    grid = dice_grid(probability, truth, areas)
    both = torch.from_numpy(np.stack([1 - probability, probability]))[None]
    for i, threshold in enumerate(PROBABILITIES):
        for j, area in enumerate(areas):
            thresholds = Thresholds((threshold,), (int(area),))
            decided = keep(decide(both, thresholds)[0].numpy(), None, thresholds)
            matrix = confusion(decided[None], truth.astype(np.uint8)[None], 2)
            assert grid[i, j] == pytest.approx(scores(matrix)["kaggle_dice"])


class Painted:
    """Stands in for a network: reads each class's probability from the image's grey values."""

    def __init__(self, values):
        self.values = values

        class Named:
            name = "painted"

        self.run = Named()

    def probabilities(self, images):
        grey = torch.from_numpy(np.stack(images)).long()
        defects = self.values[grey].movedim(3, 1)
        return torch.cat([1 - defects.sum(1, keepdim=True), defects], dim=1)


@pytest.fixture
def painted(tmp_path):
    """Images whose grey value says what the network makes of a pixel, and such a network.

    Class 1 is found at 0.35 (grey 100) and imagined at 0.25 (grey 50); class 2 is found at 0.9 in
    large patches (grey 200) and imagined at 0.9 in specks of 300 pixels.
    """
    values = torch.zeros(256, 2)
    values[50, 0], values[100, 0], values[200, 1] = 0.25, 0.35, 0.9
    (tmp_path / "train_images").mkdir()
    rows = ["ImageId,ClassId,EncodedPixels"]
    for i in range(4):
        image, truth = np.zeros(SHAPE, np.uint8), np.zeros((2, *SHAPE), np.uint8)
        image[:100, 500:600] = 50
        if i < 2:
            image[100:200, 100:200] = 100
            truth[0, 100:200, 100:200] = 1
        if i > 0:
            image[100:200, 1000:1100] = 200
            truth[1, 100:200, 1000:1100] = 1
        image[220:230, 300:330] = 200
        cv2.imwrite(str(tmp_path / "train_images" / f"{i}.png"), image)
        rows += [f"{i}.png,{k},{rle.encode(truth[k - 1])}" for k in (1, 2) if truth[k - 1].any()]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    return Painted(values), load(tmp_path)


def test_it_finds_the_thresholds_and_areas_that_tell_defects_from_dirt(painted):
    segmenter, labels = painted
    chosen = tune(segmenter, labels, labels.images)
    assert chosen.probability[0] == 0.3  # above the imagined 0.25, below the true 0.35
    assert chosen.area[0] == 0
    assert chosen.probability[1] == 0.5  # any would do: the first of them
    assert chosen.area[1] == 512  # the specks have 300 pixels

    probabilities = segmenter.probabilities(
        [cv2.imread(str(labels.path(name)), cv2.IMREAD_GRAYSCALE) for name in labels.images]
    )
    truth = np.stack([labels.label_map(name, SHAPE) for name in labels.images])
    decided = decide(probabilities, chosen).numpy()
    tuned = np.stack([keep(label_map, None, chosen) for label_map in decided])
    plain = decide(probabilities, None).numpy()
    assert scores(confusion(tuned, truth, 3))["kaggle_dice"] == 1.0
    assert scores(confusion(plain, truth, 3))["kaggle_dice"] < 0.8


def test_a_class_that_val_does_not_show_keeps_the_default(painted):
    segmenter, labels = painted
    image = cv2.imread(str(labels.path("3.png")), cv2.IMREAD_GRAYSCALE)
    image[10:20, 10:40] = 150  # a speck of dirt that a least area would silence
    segmenter.values[150, 0] = 0.95
    cv2.imwrite(str(labels.path("3.png")), image)
    chosen = tune(segmenter, labels, ["3.png"])
    assert chosen.probability[0] == PROBABILITIES[0] == 0.5
    assert chosen.area[0] == AREAS[0] == 0


def test_areas_scale_with_the_image(painted):
    segmenter, labels = painted
    for name in labels.images:
        image = cv2.imread(str(labels.path(name)), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(labels.path(name)), image[:, :1200])
    rows = ["ImageId,ClassId,EncodedPixels"]
    for name in labels.images:
        for k in labels.classes(name):
            mask = (labels.label_map(name, SHAPE)[:, :1200] == k).astype(np.uint8)
            rows.append(f"{name},{k},{rle.encode(mask)}")
    (labels.root / "train.csv").write_text("\n".join(rows))
    chosen = tune(segmenter, load(labels.root), labels.images)
    assert chosen.area[1] == 512 * 1200 // 1600


def test_areas_of_mixed_sizes_are_those_of_the_median_size(painted):
    segmenter, labels = painted
    rows = ["ImageId,ClassId,EncodedPixels"]
    for i, name in enumerate(labels.images):
        image = cv2.imread(str(labels.path(name)), cv2.IMREAD_GRAYSCALE)
        width = 1110 if i == 0 else 1200  # the first, which names no class 2, is the smaller
        cv2.imwrite(str(labels.path(name)), image[:, :width])
        for k in labels.classes(name):
            mask = (labels.label_map(name, SHAPE)[:, :width] == k).astype(np.uint8)
            rows.append(f"{name},{k},{rle.encode(mask)}")
    (labels.root / "train.csv").write_text("\n".join(rows))
    assert tune(segmenter, load(labels.root), labels.images).area[1] == 512 * 1200 // 1600


def test_thresholds_are_kept_in_the_run_directory(painted, tmp_path, monkeypatch):
    from common.comparison import tune as module

    segmenter, labels = painted
    segmenter.run.path = tmp_path / "run"
    segmenter.run.path.mkdir()
    parts = ["val", "val", "train", "test"]
    rows = zip(labels.images, parts, labels.images, strict=True)
    table = ["image,split,group", *map(",".join, rows)]
    (segmenter.run.path / "split.csv").write_text("\n".join(table))
    chosen = module.ensure_thresholds(segmenter, labels)
    assert chosen == tune(segmenter, labels, labels.images[:2])
    assert chosen.aim == "kaggle"
    assert thresholds_module.load(segmenter.run.path) == chosen

    monkeypatch.setattr(module, "tune", None)  # would fail if it were called
    assert module.ensure_thresholds(segmenter, labels) == chosen
    by_hand = Thresholds((0.7, 0.7), (10, 20))
    by_hand.save(segmenter.run.path)
    assert module.ensure_thresholds(segmenter, labels) == by_hand
