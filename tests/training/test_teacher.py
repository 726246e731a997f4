"""Learning from a trained network beside the labels."""

import dataclasses

import pandas as pd
import pytest
import torch

from common import checkpoint, runs
from common.dataset import ancestry
from common.dataset.augment import normalise
from common.dataset.prepare import prepare
from common.errors import UserError
from common.inference import Segmenter
from common.training.teacher import Teacher
from modified_unet.train import Config
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return tiny.make_run(folder / "teacher", root, (32, 200), "unet_64x400", 4)


def test_a_training_learns_from_it_and_records_what_it_saw(train, root, teacher, tmp_path):
    """A teacher far from the labels pulls the learner away from them, towards itself."""
    weights = {}
    for name, options in {"alone": [], "taught": ["--teacher", teacher]}.items():
        out = tmp_path / name
        assert train("modified_unet", "--data", root, "--out", out, *options) == 0
        weights[name] = checkpoint.best_weights(out)[0]
    assert any(not torch.equal(weights["alone"][k], v) for k, v in weights["taught"].items())
    split = pd.read_csv(teacher / "split.csv")
    known = set(split.loc[split["split"] != "test", "image"])
    assert set(ancestry.read(tmp_path / "taught").values()) == known
    assert not ancestry.read(tmp_path / "alone")
    assert runs.load(tmp_path / "taught").options["teacher"] == str(teacher)


def test_it_says_what_it_says_elsewhere_however_the_learner_normalises(root, teacher, store_folder):
    config = Config(data=root, teacher=teacher, height=32, width=200, store=store_folder)
    data = prepare(config)
    images = data.store.images[:3]
    batch = normalise(torch.from_numpy(images.copy()), *data.normalisation)
    assert data.normalisation != runs.load(teacher).normalisation
    said = Teacher(config, data, CPU)(batch)
    elsewhere = Segmenter(runs.load(teacher), CPU).probabilities(list(images))
    torch.testing.assert_close(said, elsewhere, atol=1e-5, rtol=0)
    assert not said.requires_grad


@pytest.mark.parametrize("change", [{"height": 64}, {"width": 400}])
def test_one_of_another_size_is_refused(root, teacher, store_folder, change):
    config = Config(data=root, height=32, width=200, store=store_folder)
    other = dataclasses.replace(config, teacher=teacher, **change)
    with pytest.raises(UserError, match=r"has 32x200, 4 classes .*; this run has (64x200|32x400)"):
        Teacher(other, prepare(config), CPU)


def test_one_of_other_classes_is_refused(root, teacher, store_folder, tmp_path):
    data = prepare(Config(data=root, height=32, width=200, store=store_folder))
    fewer = dataclasses.replace(data, labels=dataclasses.replace(data.labels, num_classes=2))
    config = Config(data=root, teacher=teacher, height=32, width=200, store=store_folder)
    with pytest.raises(UserError, match=r"4 classes of defect.*this run has 32x200, 2 classes"):
        Teacher(config, fewer, CPU)
