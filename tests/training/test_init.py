"""Going on from earlier weights, and never testing on what they have seen."""

import dataclasses
import shutil
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch

from common import checkpoint, labels, publish, runs
from common.comparison import entrants
from common.config import TrainConfig
from common.dataset import ancestry, splits
from common.dataset.prepare import prepare
from common.errors import UserError
from common.pixels import read_image
from common.training.setup import start_from
from modified_unet.train import Config
from tests import tiny


@pytest.fixture(scope="module")
def earlier(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return tiny.make_run(folder / "first", root, (32, 200), "modified_unet", 8)


def part(run: Path, *parts: str) -> set[str]:
    table = pd.read_csv(run / "split.csv")
    return set(table.loc[table["split"].isin(parts), "image"])


def swapped(root: Path, path: Path) -> Path:
    """The data set's own split with its train and test parts exchanged."""
    split = splits.make_split(labels.load(root))
    names = {"train": "test", "test": "train", "val": "val"}
    splits.write(split.assign(split=split["split"].map(names)), path)
    return path


def test_a_training_starts_from_the_weights_and_records_what_they_saw(
    train, root, earlier, tmp_path
):
    out = tmp_path / "second"
    options = ["--data", root, "--out", out, "--init", earlier, "--lr", 1e-12, "--seed", 5]
    assert train("modified_unet", *options) == 0
    before, after = (checkpoint.best_weights(path)[0] for path in (earlier, out))
    torch.manual_seed(5)
    fresh = runs.new_model("modified_unet", runs.load(out).model).state_dict()
    name = next(key for key, value in before.items() if value.ndim == 4)
    assert torch.allclose(after[name], before[name], atol=1e-6)
    assert not torch.allclose(after[name], fresh[name], atol=1e-3)
    seen = set(ancestry.read(out).values())
    assert seen == part(earlier, "train", "val")
    assert part(out, "test").isdisjoint(seen)

    third = tmp_path / "third"  # a grandchild, from a published folder, without the data
    folder = tmp_path / "published"
    assert publish.main([str(out), "--out", str(folder), "--no-onnx"]) == 0
    assert train("modified_unet", "--data", root, "--out", third, "--init", folder) == 0
    assert ancestry.read(third).keys() == ancestry.seen_by(runs.load(out)).keys()
    table, _ = entrants.test_part([runs.load(out), runs.load(third)], labels.load(root))
    assert set(table["image"]) == part(out, "test")

    text = (third / "seen.csv").read_text()
    name = min(part(third, "test"))
    known_by = labels.digest(labels.load(root).path(name)).hex()
    (third / "seen.csv").write_text(text + f"renamed.jpg,{known_by}\n")
    with pytest.raises(UserError, match=f"1 of the test images, such as {name}"):
        entrants.test_part([runs.load(out), runs.load(third)], labels.load(root))


@pytest.mark.parametrize("split", [["--split"], ["--folds", 4, "--fold", 1]])
def test_a_split_that_tests_on_what_was_seen_is_refused(
    train, root, earlier, tmp_path, capsys, split
):
    if split == ["--split"]:
        split = [*split, swapped(root, tmp_path / "split.csv")]
    out = tmp_path / "out"
    assert train("modified_unet", "--data", root, "--out", out, "--init", earlier, *split) == 2
    assert "were trained or validated on by" in capsys.readouterr().err
    assert not out.exists()


def test_copies_are_known_under_any_name_and_turned(root, earlier, tmp_path):
    data = labels.load(root)
    seen = ancestry.seen_by(runs.load(earlier))
    trained, tested = sorted(part(earlier, "train")), sorted(part(earlier, "test"))
    folder = tmp_path / "more" / "train_images"
    folder.mkdir(parents=True)
    shutil.copy(data.path(trained[0]), folder / "same_bytes.jpg")
    shutil.copy(data.path(tested[0]), folder / trained[1])  # another image of a known name
    cv2.imwrite(str(folder / "mirrored.png"), read_image(data.path(trained[2]))[:, ::-1])
    shutil.copy(data.path(tested[1]), folder / "new.jpg")
    (tmp_path / "more" / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n")
    more = labels.load(tmp_path / "more")
    found = ancestry.tainted(runs.load(earlier), seen, more, list(more.images))
    assert found == {"same_bytes.jpg", "mirrored.png"}
    # Where the earlier images are gone, names are all that is known.
    gone = dataclasses.replace(runs.load(earlier), data={"root": str(tmp_path / "gone")})
    assert ancestry.tainted(gone, ancestry.seen_by(gone), more, list(more.images)) == {trained[1]}


def test_what_was_seen_trains_where_the_split_is_made_here(earlier, store_folder, tmp_path, capsys):
    """More strips come in: another split, in which the earlier ones may not test."""
    more = tiny.make_data(tmp_path / "strips", 40)
    config = Config(data=more, init=earlier, height=32, width=200, store=store_folder)
    plain = prepare(dataclasses.replace(config, init=None)).split
    data = prepare(config)
    seen = ancestry.known(data.seen, data.labels, data.labels.images)
    assert len(seen) > 10
    before, after = (set(t.loc[t["split"] == "test", "image"]) for t in (plain, data.split))
    assert before & seen
    assert after
    assert after == {name for name in before if name in after} - seen
    assert "train here" in capsys.readouterr().out
    assert (data.split.groupby("group")["split"].nunique() == 1).all()


def test_other_networks_are_refused_and_other_classes_keep_their_head(earlier, root, capsys):
    config = Config(init=earlier, base_channels=8)
    model = runs.new_model("modified_unet", {"base_channels": 8, "num_classes": 3})
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    start_from(model, {"base_channels": 8, "num_classes": 3}, config)
    assert "all its weights are taken but the head's" in capsys.readouterr().out
    weights = checkpoint.best_weights(earlier)[0]
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh[name] if name.startswith("head.") else weights[name])

    with pytest.raises(UserError, match="Only weights of the same network fit"):
        start_from(model, {"base_channels": 16, "num_classes": 5}, config)
    assert TrainConfig().init is None
