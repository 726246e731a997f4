"""The network that comes with the package: whole, found from anywhere, as good as its card says."""

import re
from pathlib import Path

import numpy as np
import pytest

from common import labels as labels_module
from common import load_run, predict, runs, thresholds
from common.blocks import parameters
from common.config import HOME
from common.dataset import splits

PRETRAINED = Path("modified_unet/pretrained")
CARD = HOME / PRETRAINED / "README.md"


def figure(title: str) -> float:
    """What the card says of a figure."""
    return float(re.search(rf"^\| {re.escape(title)} \| ([\d.]+) \|", CARD.read_text(), re.M)[1])


def test_it_is_whole_and_holds_no_image():
    names = {path.name for path in (HOME / PRETRAINED).iterdir()}
    assert names == {
        "README.md", "config.json", "metrics.csv", "model.safetensors", "seen.csv", "split.csv",
        "thresholds.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in (HOME / PRETRAINED).iterdir()) < 4e6
    for path in (HOME / PRETRAINED).glob("*.*"):
        if path.suffix != ".safetensors":
            assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text()), path


def test_it_is_found_from_any_folder(tmp_path, monkeypatch, dataset):
    monkeypatch.chdir(tmp_path)
    run = runs.load(PRETRAINED)
    assert (run.variant, run.size, run.num_classes) == ("modified_unet", (256, 1600), 5)
    assert parameters(run.build_model()) == 756_116
    assert thresholds.load(run.path, 4) is not None
    strips = sorted((dataset / "train_images").iterdir())[:2]
    assert predict.main([str(PRETRAINED), *map(str, strips), "--out", "masks.csv"]) == 0
    assert (tmp_path / "masks.csv").exists()


def test_its_figures_are_those_of_its_card(real_data):
    """Scored here by the definitions, image by image, on the strips that it has not seen."""
    run = load_run(PRETRAINED, "cpu")
    labels = labels_module.load(real_data / "severstal")
    names = splits.part_of(HOME / PRETRAINED, "test", labels)
    assert len(names) == 157
    dice, kept_clean = {k: [] for k in range(1, 5)}, []
    for name in names:
        found = run.predict(labels.path(name)).label_map
        truth = labels.label_map(name, found.shape)
        for k in range(1, 5):
            pair = found == k, truth == k
            if pair[1].any():
                dice[k].append(2 * (pair[0] & pair[1]).sum() / (pair[0].sum() + pair[1].sum()))
            else:
                kept_clean.append(not pair[0].any())
    positive = np.mean([np.mean(values) for values in dice.values()])
    assert positive == pytest.approx(figure("Positive Dice, macro"), abs=6e-4)
    assert np.mean(kept_clean) == pytest.approx(figure("Empty accuracy"), abs=6e-4)
    for k, values in dice.items():
        assert np.mean(np.array(values) > 0) >= 0.5, f"class {k} is mostly missed"
