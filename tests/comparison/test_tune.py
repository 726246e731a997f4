import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from common import rle
from common import thresholds as thresholds_module
from common.comparison import tune as module
from common.comparison.choose import SELDOM
from common.comparison.tune import ensure_thresholds, scaled_totals, tune
from common.labels import load
from common.metrics import confusion, scores
from common.thresholds import CURVE_FILE, Thresholds, decide, drawn_probability, keep

SHAPE = (256, 1600)


def table(names):
    """The images, each a group of its own."""
    return pd.DataFrame({"image": names, "group": names})


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
    """Twelve images whose grey value says what the network makes of a pixel, and such a network.

    Class 1, on the first six, is found at 0.35 (grey 100) and imagined at 0.25 (grey 50) on all;
    class 2, on all but the first five, is found at 0.9 in large patches (grey 200) and imagined at
    0.9 in specks of 300 pixels on all.
    """
    values = torch.zeros(256, 2)
    values[50, 0], values[100, 0], values[200, 1] = 0.25, 0.35, 0.9
    (tmp_path / "train_images").mkdir()
    rows = ["ImageId,ClassId,EncodedPixels"]
    for i in range(12):
        image, truth = np.zeros(SHAPE, np.uint8), np.zeros((2, *SHAPE), np.uint8)
        image[:100, 500:600] = 50
        if i < 6:
            image[100:200, 100:200] = 100
            truth[0, 100:200, 100:200] = 1
        if i > 4:
            image[100:200, 1000:1100] = 200
            truth[1, 100:200, 1000:1100] = 1
        image[220:230, 300:330] = 200
        cv2.imwrite(str(tmp_path / "train_images" / f"{i:02}.png"), image)
        rows += [f"{i:02}.png,{k},{rle.encode(truth[k - 1])}" for k in (1, 2) if truth[k - 1].any()]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    return Painted(values), load(tmp_path)


@pytest.mark.parametrize("aim", ["kaggle", "balanced"])
def test_it_finds_the_thresholds_and_totals_that_tell_defects_from_dirt(painted, aim, capsys):
    segmenter, labels = painted
    chosen, curve = tune(segmenter, labels, table(labels.images), aim)
    assert chosen.aim == aim
    assert chosen.probability[0] == 0.3  # above the imagined 0.25, below the true 0.35
    assert chosen.probability[1] == 0.5  # any would do: the plainest
    assert chosen.total == (0, 512)  # the specks have 300 pixels
    assert chosen.area == (0, 0)
    assert capsys.readouterr().out == ""  # no class is seldom

    images = [cv2.imread(str(labels.path(n)), cv2.IMREAD_GRAYSCALE) for n in labels.images]
    probabilities = segmenter.probabilities(images)
    truth = np.stack([labels.label_map(name, SHAPE) for name in labels.images])
    tuned = [
        keep(label_map, drawn_probability(label_map, channels), chosen)
        for label_map, channels in zip(
            decide(probabilities, chosen).numpy(), probabilities.numpy(), strict=True
        )
    ]
    plain = decide(probabilities, None).numpy()
    # All is right but for the specks beside true patches, 300 pixels to 10,000.
    expected = np.mean([1] * 17 + [2 * 10000 / 20300] * 7)
    assert scores(confusion(np.stack(tuned), truth, 3))["kaggle_dice"] == pytest.approx(expected)
    assert scores(confusion(plain, truth, 3))["kaggle_dice"] < 0.8

    first = curve[curve["class"] == 1].set_index("probability")
    assert first["taken"].tolist() == [p == 0.3 for p in first.index]
    assert first["dice_positive"].tolist() == pytest.approx([2 / 3, 2 / 3, 1] + [0] * 6)
    assert first["empty_accuracy"].tolist() == [0, 0, 1] + [1] * 6


def test_a_class_on_few_images_is_pooled_and_said(painted, capsys):
    segmenter, labels = painted
    rows = table(labels.images[4:])  # two of them show class 1, seven class 2
    chosen, _ = tune(segmenter, labels, rows, "balanced")
    assert f"painted: 2 val images show class 1, fewer than {SELDOM}" in capsys.readouterr().out
    # What suits both: class 1 loses by a probability above 0.3, class 2 by a total below 512, but
    # only where the one image that shows none of it takes part; the mean over resamples is less.
    assert chosen.probability == (0.3, 0.5)
    assert chosen.total == (256, 256)


def test_where_no_image_shows_a_defect_the_plainest_decision_stands(painted):
    segmenter, labels = painted
    rows = (labels.root / "train.csv").read_text().splitlines()
    kept = [
        row for row in rows if row.startswith(("ImageId", "05.png"))
    ]  # which shows both classes
    (labels.root / "train.csv").write_text("\n".join(kept))
    chosen, curve = tune(segmenter, load(labels.root), table(labels.images[:5]), "kaggle")
    assert chosen.probability == (0.5, 0.5)
    assert chosen.peak == chosen.probability
    assert chosen.total == (0, 0)
    assert curve["dice_positive"].isna().all()


def test_totals_scale_with_the_median_image(painted):
    _, labels = painted
    for i, name in enumerate(labels.images):
        width = 400 if i < 2 else 1200
        cv2.imwrite(str(labels.path(name)), np.zeros((256, width), np.uint8))
    assert scaled_totals(labels, labels.images).tolist() == [
        0, 48, 96, 192, 384, 768, 1536, 3072,
    ]  # fmt: skip


@pytest.fixture
def run(painted, tmp_path):
    """The painted network as a run whose val part is all but two of the images."""
    segmenter, labels = painted
    segmenter.run.path = tmp_path / "run"
    segmenter.run.path.mkdir()
    parts = ["val"] * 10 + ["train", "test"]
    rows = zip(labels.images, parts, labels.images, strict=True)
    text = ["image,split,group", *map(",".join, rows)]
    (segmenter.run.path / "split.csv").write_text("\n".join(text))
    return segmenter, labels


def test_a_decision_is_chosen_once_and_kept(run, monkeypatch):
    segmenter, labels = run
    chosen = ensure_thresholds(segmenter, labels)
    expected, curve = tune(segmenter, labels, table(labels.images[:10]), "balanced")
    assert chosen == expected
    assert chosen.aim == "balanced"
    assert thresholds_module.load(segmenter.run.path) == chosen
    kept = pd.read_csv(segmenter.run.path / CURVE_FILE)
    pd.testing.assert_frame_equal(kept, curve, check_exact=False)

    monkeypatch.setattr(module, "tune", None)  # would fail if it were called
    assert ensure_thresholds(segmenter, labels) == chosen
    by_hand = Thresholds((0.7, 0.7), (10, 20))
    by_hand.save(segmenter.run.path)
    assert ensure_thresholds(segmenter, labels) == by_hand


def test_an_aim_that_is_asked_for_replaces_what_was_there(run):
    segmenter, labels = run
    Thresholds((0.7, 0.7), (10, 20)).save(segmenter.run.path)
    chosen = ensure_thresholds(segmenter, labels, "kaggle")
    assert chosen.aim == "kaggle"
    assert thresholds_module.load(segmenter.run.path) == chosen != Thresholds((0.7, 0.7), (10, 20))
