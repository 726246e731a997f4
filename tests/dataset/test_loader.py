"""Batches: right shapes and values, each image once, the same again for the same seed."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.dataset import splits
from common.dataset.augment import Augmentation
from common.dataset.loader import Loader, as_tensors, build_loaders
from common.dataset.prepare import default_root, prepare
from common.devices import pick_device
from common.errors import UserError
from common.losses import build_loss
from common.training.step import MuonAdamW, optimise, update_ema
from data import synthetic
from data.synthetic import IMAGES
from tests import tiny
from unet_64x400.model import build_model
from unet_64x400.train import Config


@pytest.fixture(scope="module")
def config(dataset: Path, store_folder: Path) -> Config:
    whole = {"sampling": "uniform", "crop": "none"}
    return Config(data=dataset, store=store_folder, height=32, width=200, batch_size=8, **whole)


def test_batches_have_the_stated_form(config: Config) -> None:
    train, val, test = build_loaders(config, Augmentation())
    for loader in (train, val, test):
        images, targets = next(iter(loader))
        assert images.shape[1:] == (1, 32, 200)
        assert targets.shape[1:] == (32, 200)
        assert images.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert targets.min() >= 0
        assert targets.max() <= loader.data.labels.num_classes


def test_val_walks_each_image_once_unchanged_and_normalised(config: Config) -> None:
    _, val, _ = build_loaders(config, Augmentation())
    images = torch.cat([images for images, _ in val])
    targets = torch.cat([targets for _, targets in val])
    rows = val.data.rows("val")
    mean, std = val.data.normalisation
    expected = (val.data.store.images[rows].astype(np.float32) / 255 - mean) / std
    np.testing.assert_allclose(images[:, 0].numpy(), expected, atol=1e-4)
    np.testing.assert_array_equal(targets.numpy(), val.data.store.labels[rows])
    assert len(val) == -(-len(rows) // 8)


def test_training_images_have_mean_zero_and_deviation_one(config: Config) -> None:
    data = prepare(config)
    pixels = data.store.images[data.rows("train")] / 255
    assert data.normalisation == pytest.approx((pixels.mean(), pixels.std()), abs=1e-5)


def test_an_epoch_sees_no_image_twice_and_another_epoch_another_order(config: Config) -> None:
    train, _, _ = build_loaders(config, Augmentation())
    orders = []
    for epoch in (0, 1):
        train.set_epoch(epoch)
        names = [name for step in range(len(train)) for name in train.batch_names(step)]
        assert len(names) == len(set(names)) == len(train) * 8
        orders.append(names)
    assert orders[0] != orders[1]


def test_a_uniform_order_is_the_plain_permutation_of_seed_and_epoch(config: Config) -> None:
    train, _, _ = build_loaders(replace(config, seed=5), Augmentation())
    train.set_epoch(2)
    seed = int(np.random.SeedSequence((5, 2, 0)).generate_state(1, np.uint64)[0] >> 1)
    order = torch.randperm(len(train.rows), generator=torch.Generator().manual_seed(seed))
    names = [train.data.store.names[row] for row in train.rows[order]]
    assert train.batch_names(0) + train.batch_names(1) == names[:16]


DRAWN = [{"sampling": "balanced"}, {"crop": "16x40"}, {"sampling": "balanced", "crop": "16x40"}]


@pytest.mark.parametrize("options", DRAWN)
def test_other_draws_keep_the_steps_and_leave_val_whole(config: Config, options: dict) -> None:
    plain, _, _ = build_loaders(config, Augmentation())
    train, val, _ = build_loaders(replace(config, **options), Augmentation())
    batches = list(train)
    assert len(batches) == len(train) == len(plain)
    shape = (80, 1, 16, 40) if "crop" in options else (8, 1, 32, 200)  # the same area: 8 x 10
    assert {images.shape for images, _ in batches} == {shape}
    assert {targets.shape for _, targets in batches} == {(shape[0], *shape[2:])}
    assert next(iter(val))[0].shape[1:] == (1, 32, 200)


def test_balanced_draws_follow_repeat_factors_and_change_with_the_epoch(config: Config) -> None:
    train, _, _ = build_loaders(replace(config, sampling="balanced"), Augmentation())
    rows, drawn = train.rows.numpy(), []
    for epoch in range(200):
        train.set_epoch(epoch)
        drawn.append(np.bincount(train._order().numpy(), minlength=60)[rows])
    assert (np.sum(drawn, axis=1) == len(rows)).all()
    assert len({tuple(counts) for counts in drawn}) > 100
    shows = train.data.store.pixel_counts[rows, 1:] > 0
    share = np.column_stack([~shows.any(axis=1), shows]).mean(axis=0)  # none is absent here
    factor = np.maximum(1, np.sqrt(0.5 / share))
    expected = [max(factor[1:][s]) if s.any() else factor[0] for s in shows]
    expected = np.array(expected) / np.mean(expected)
    assert expected.max() / expected.min() > 1.5
    np.testing.assert_allclose(np.mean(drawn, axis=0), expected, atol=0.12)
    whole = train.data.store.pixel_counts[rows]
    np.testing.assert_allclose(train.pixel_counts(), expected @ whole, rtol=1e-6)


def test_pixels_of_a_plain_training_are_those_of_its_images(config: Config) -> None:
    train, _, _ = build_loaders(config, Augmentation())
    whole = train.data.store.pixel_counts[train.data.rows("train")].sum(axis=0)
    np.testing.assert_array_equal(train.pixel_counts(), whole)


def test_crops_hold_defects_more_often_and_their_pixels_are_counted(config: Config) -> None:
    cropped = replace(config, crop="16x40", sampling="balanced")
    still = Augmentation(flip=0, border=0)
    train, _, _ = build_loaders(cropped, still)
    never, _, _ = build_loaders(cropped, replace(still, hold=0))
    drawn, shares = np.zeros(5), []
    for loader in (train, never):
        shares.append([])
        for epoch in range(20):
            loader.set_epoch(epoch)
            for _, targets in loader:
                shares[-1].append((targets > 0).any(dim=(1, 2)).float().mean().item())
                if loader is train:
                    drawn += np.bincount(targets.flatten(), minlength=5)
    held, by_chance = np.mean(shares, axis=1)
    assert held > by_chance + 0.1
    counted = train.pixel_counts()
    np.testing.assert_allclose(counted / counted.sum(), drawn / drawn.sum(), rtol=0.15)


def test_a_crop_is_a_piece_of_its_strip(config: Config) -> None:
    data = prepare(config)
    place = torch.arange(32 * 200).reshape(32, 200) % 251  # prime: a pair of pixels tells its place
    images = place.to(torch.uint8).expand(60, 32, 200).contiguous()
    rows, cpu = data.rows("train"), torch.device("cpu")
    light = Augmentation(flip=0, gain=0, offset=0, border=0)
    loader = Loader(data, (images, images), rows, 8, cpu, 0, light, crop=(16, 40))
    for grey in next(iter(loader))[1]:
        corners = [(int(y), int(x)) for y, x in (place[:17, :161] == grey[0, 0]).nonzero()]
        assert any(torch.equal(grey, place[y : y + 16, x : x + 40]) for y, x in corners)


@pytest.mark.parametrize("options", [{}, *DRAWN])
def test_a_batch_can_be_made_again_from_the_middle(config: Config, options: dict) -> None:
    train, _, _ = build_loaders(replace(config, **options), Augmentation())
    train.set_epoch(3)
    whole = list(train)
    train.set_epoch(3, start_step=2)
    rest = list(train)
    assert len(rest) == len(whole) - 2
    for (a, b), (c, d) in zip(whole[2:], rest, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_the_seed_changes_order_and_augmentation(config: Config) -> None:
    data = prepare(config)
    pixels = as_tensors(data.store, torch.device("cpu"))
    rows = data.rows("train")
    batches = [
        next(iter(Loader(data, pixels, rows, 4, torch.device("cpu"), seed, Augmentation())))[0]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


@pytest.mark.parametrize("crop", [None, (16, 40)])
def test_masks_move_with_their_images(config: Config, crop: tuple[int, int] | None) -> None:
    """An image whose grey values are its own mask must still be so after flips and shifts."""
    data = prepare(config)
    maps = torch.from_numpy(np.array(data.store.labels))
    geometry = Augmentation(gain=0, offset=0)
    rows, cpu = data.rows("train"), torch.device("cpu")
    loader = Loader(data, (maps, maps), rows, 8, cpu, 0, geometry, crop=crop)
    mean, std = data.normalisation
    for images, targets in loader:
        grey = ((images[:, 0] * std + mean) * 255).round().long()
        assert torch.equal(grey, targets)


@pytest.mark.parametrize("options", [{}, *DRAWN])
def test_shards_of_two_processes_make_up_the_whole(
    config: Config, monkeypatch, options: dict
) -> None:
    train, val, _ = build_loaders(replace(config, **options), Augmentation())
    train.set_epoch(1)
    whole = [batch for batch, _ in train]
    seen, halves = [], []
    monkeypatch.setattr("common.dataset.loader.world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("common.dataset.loader.rank", lambda rank=rank: rank)
        halves.append([batch for batch, _ in train])
        seen += [name for step in range(len(val)) for name in val.batch_names(step)]
    for full, even, odd in zip(whole, *halves, strict=True):
        assert torch.equal(full[0::2], even)
        assert torch.equal(full[1::2], odd)
    assert sorted(seen) == sorted(val.data.store.names[row] for row in val.data.rows("val"))


def test_shares_of_a_batch_are_equal_or_refused(config: Config, monkeypatch) -> None:
    data = prepare(config)
    cpu = torch.device("cpu")
    pixels = as_tensors(data.store, cpu)

    def loader(world: int, batch_size: int, images: int) -> Loader:
        monkeypatch.setattr("common.dataset.loader.world_size", lambda: world)
        rows = data.rows("train")[:images]
        return Loader(data, pixels, rows, batch_size, cpu, 0, Augmentation())

    assert loader(2, 16, images=41).batch_size == 16
    assert loader(2, 64, images=41).batch_size == 40
    assert loader(1, 64, images=41).batch_size == 41
    with pytest.raises(UserError, match="cannot be shared equally by 3 processes; take 15 or 18"):
        loader(3, 16, images=41)
    with pytest.raises(UserError, match="take 4"):
        loader(4, 1, images=41)
    with pytest.raises(UserError, match="2 training images cannot be shared by 4"):
        loader(4, 8, images=2)


@pytest.mark.parametrize(("world", "share"), [(1, 8), (2, 4), (16, 1)])
def test_validation_takes_no_larger_batches_than_training(
    config: Config, monkeypatch, world: int, share: int
) -> None:
    data = prepare(config)
    cpu = torch.device("cpu")
    monkeypatch.setattr("common.dataset.loader.world_size", lambda: world)
    val = Loader(data, as_tensors(data.store, cpu), data.rows("val"), 8, cpu, 0)
    assert val.batch_size == share


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_never_waits_for_the_gpu(config: Config) -> None:
    device = torch.device("cuda", 0)
    train, _, _ = build_loaders(replace(config, device="cuda"), Augmentation())
    model = build_model(base_channels=8).to(device)
    average = copy.deepcopy(model)
    criterion, optimiser = build_loss(config.loss).to(device), MuonAdamW(model, config)

    def step() -> None:
        images, targets = next(batches)
        torch.manual_seed(0)
        optimise(model, criterion, optimiser, images, targets, clip=1.0, mixed_precision=True)
        update_ema(average, model, 0.9)

    batches = iter(train)
    step()  # what is made once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_another_groups_csv_needs_no_other_store(config: Config, tmp_path: Path) -> None:
    root = tiny.make_data(tmp_path / "set")
    own = replace(config, data=root, store=tmp_path / "store", width=64)
    before = prepare(own)
    first, second = before.store.names[:2]
    for group in ("coil 1", "coil 2"):
        (root / "groups.csv").write_text(f"image,group\n{first},{group}\n{second},coil 1\n")
        again = prepare(own)
        assert again.fingerprint != before.fingerprint
        assert again.store.names == before.store.names
    assert len(list((tmp_path / "store").glob("32x64-*/"))) == 1


def test_a_user_s_split_is_checked_for_near_duplicates(
    config: Config, tmp_path: Path, capsys
) -> None:
    data, mine = prepare(config), tmp_path / "mine.csv"
    splits.write(data.split, mine)
    prepare(replace(config, split=mine))
    assert "near-duplicates" not in capsys.readouterr().out
    alone = data.split[~data.split["group"].duplicated(keep=False)].groupby("split")["image"]
    one, other = alone.first()[["train", "val"]]
    root = tmp_path / "set"
    shutil.copytree(data.labels.root, root)
    images = root / "train_images"
    (images / one).write_bytes((images / other).read_bytes())
    prepare(replace(config, data=root, split=mine, store=tmp_path / "store"))
    said = capsys.readouterr().out
    assert "mine.csv puts near-duplicates, if need be mirrored or turned, into different" in said
    assert "(pairs: 1)" in said
    assert f"; 0 of {(data.split['split'] == 'test').sum()} test images have one in train" in said
    assert " and ".join(sorted((one, other))) in said


def test_a_gpu_that_is_not_there_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="--device cpu"):
        pick_device("cuda")
    assert pick_device("auto") == torch.device("cpu")


def test_batches_made_ahead_are_the_same(config: Config) -> None:
    train, *_ = build_loaders(config, Augmentation())
    train.set_epoch(3, start_step=1)
    at_once = list(train)
    assert train.resident
    train.resident = False  # as where the pixels do not fit the GPU
    train.set_epoch(3, start_step=1)
    made_ahead = list(train)
    assert len(at_once) == len(train) - 1 == len(made_ahead)
    for one, other in zip(at_once, made_ahead, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_without_data_severstal_is_taken_where_it_is(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr("common.dataset.prepare.PROJECT", tmp_path)
    severstal = tmp_path / "data" / "severstal"
    severstal.mkdir(parents=True)  # a download that never came
    with monkeypatch.context() as patch:
        patch.setattr("common.dataset.prepare.generate", lambda root, images, seed: root.mkdir())
        assert default_root() == tmp_path / "data" / "synthetic"
        assert f"making {IMAGES} images" in capsys.readouterr().out
    (severstal / "train.csv").touch()
    assert default_root() == severstal
    assert f"using {severstal}" in capsys.readouterr().out


def test_strips_of_make_demo_are_those_of_a_training_without_data(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("common.dataset.prepare.PROJECT", tmp_path)
    monkeypatch.setattr("common.dataset.prepare.IMAGES", 2)
    root = default_root()
    assert synthetic.main(["--out", str(root), "--images", "2", "--seed", "0"]) == 0
    assert default_root() == root
    assert synthetic.Options().images == IMAGES


def test_a_share_is_trained_on_in_as_many_steps_and_no_other_image_is_seen(config: Config) -> None:
    whole, *_ = build_loaders(config, Augmentation())
    some, val, _ = build_loaders(replace(config, share=0.3), Augmentation())
    assert len(some) == len(whole)
    assert len(some.rows) < 0.4 * len(whole.rows)
    for loader in (whole, some):
        loader.set_epoch(1)
    names = [some.data.store.names[row] for row in some._order()]
    assert len(names) == len(whole.rows)
    assert set(names) == {some.data.store.names[row] for row in some.rows}
    counts = [names.count(name) for name in set(names)]
    assert max(counts) - min(counts) <= 1
    assert some.data.normalisation != whole.data.normalisation
    assert val.data.split.equals(whole.data.split)


def test_a_fold_is_split_as_the_partition_says_and_not_by_hand(config: Config, tmp_path) -> None:
    fold = prepare(replace(config, folds=3, fold=1))
    other = prepare(replace(config, folds=3, fold=2, seed=5))
    assert set(fold.rows("val")) == set(other.rows("test"))
    with pytest.raises(UserError, match="--folds makes its own split"):
        prepare(replace(config, folds=3, fold=1, split=tmp_path / "split.csv"))
    few = [prepare(replace(config, folds=3, fold=k, limit=30)) for k in range(3)]
    assert {tuple(data.store.names) for data in few} == {few[0].store.names}
