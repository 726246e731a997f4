from pathlib import Path

import pytest

from common.comparison.entrants import (
    check_data,
    load_runs,
    missing_folds,
    networks,
    test_part,
    variants,
)
from common.errors import UserError
from common.labels import Labels
from common.runs import Run

test_part.__test__ = False  # a function of the package, not a test


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


LABELS = Labels(Path("steel"), Path("steel/train_images"), tuple("12345678"), {}, None, 4)


def a_run(name, variant="unet_64x400", fingerprint="f", split=None, **options):
    options = {"height": 64, "width": 400, "seed": 0, "epochs": 5, "loss": "ce"} | options
    data = {"root": "steel", "fingerprint": fingerprint}
    run = Run(Path("runs") / name, variant, options, {}, (0.4, 0.2), data, {}, None, "id")
    if split is not None:
        parts = {"a": "train", "v": "val", "t": "test"}
        rows = [f"{image},{parts[part]},g{image}" for part, image in split.split()]
        run.path.mkdir(parents=True)
        (run.path / "split.csv").write_text("\n".join(["image,split,group", *rows]))
    return run


def test_seeds_of_a_recipe_are_one_variant():
    runs = [a_run("a"), a_run("b", "modified_unet", height=256), a_run("c", seed=1, out="x")]
    assert variants(runs) == {"unet_64x400": [[0], [2]], "modified_unet 256x400": [[1]]}


def test_an_option_that_a_run_is_too_old_to_have_is_no_difference():
    runs = [a_run("a"), a_run("b", seed=1, share=1.0, sampling="uniform", crop=None)]
    assert variants(runs) == {"unet_64x400": [[0], [1]]}
    assert len(variants([*runs, a_run("c", on_nonfinite="stop", seed=2)])) == 1
    assert len(variants([*runs, a_run("c", on_nonfinite="skip", seed=2)])) == 2


def test_recipes_of_a_size_are_told_apart_by_what_differs():
    runs = [a_run("a"), a_run("b", loss="dice"), a_run("c", epochs=9), a_run("d", seed=3)]
    assert variants(runs) == {
        "unet_64x400 (epochs 5, loss ce)": [[0], [3]],
        "unet_64x400 (epochs 5, loss dice)": [[1]],
        "unet_64x400 (epochs 9, loss ce)": [[2]],
    }


def test_one_recipe_and_seed_trained_twice_is_compared_with_itself():
    runs = [a_run("old"), a_run("new"), a_run("other", height=32)]
    assert variants(runs) == {
        "unet_64x400 (runs/old)": [[0]],
        "unet_64x400 (runs/new)": [[1]],
        "unet_64x400 32x400": [[2]],
    }


SMALL, LARGE = [(8, 1, 3, 3), (8,)], [(16, 1, 3, 3), (16,)]


def test_a_network_is_what_has_weights_of_one_shape_whatever_its_size():
    runs = [
        a_run("a"),
        a_run("b", "modified_unet", height=64),
        a_run("c", "unet_128x800", height=128, width=800, epochs=2, lr=0.1),
        a_run("d", "modified_unet", height=256),
    ]
    unet = "unet_64x400 and unet_128x800"
    assert networks(runs, [LARGE, SMALL, LARGE, SMALL]) == [
        unet, "modified_unet", unet, "modified_unet",
    ]  # fmt: skip
    assert networks(runs[:1] + runs[2:3], [LARGE, SMALL]) == ["unet_64x400", "unet_128x800"]


def test_recipes_that_differ_by_more_than_a_size_are_two_networks():
    recipes = [("ce", 64, 5), ("ce", 128, 5), ("dice", 64, 5), ("dice", 128, 9)]
    runs = [a_run(str(i), loss=k, height=h, epochs=e) for i, (k, h, e) in enumerate(recipes)]
    two = ["unet_64x400 (loss ce)"] * 2 + ["unet_64x400 (loss dice)"] * 2
    assert networks(runs, [SMALL] * 4) == two


def test_epochs_tell_networks_apart_only_where_a_size_is_there_twice():
    runs = [a_run("a"), a_run("b", height=128, epochs=9), a_run("c", epochs=9)]
    assert networks(runs[:2], [SMALL] * 2) == ["unet_64x400"] * 2
    few, many = "unet_64x400 (epochs 5)", "unet_64x400 (epochs 9)"
    assert networks(runs, [SMALL] * 3) == [few, many, many]


def test_only_images_that_all_runs_test_on_count():
    runs = [a_run("a", split="a1 a2 v3 t4 t5 t6"), a_run("b", split="a1 v5 t4 t6")]
    table, asked = test_part(runs, LABELS)
    assert asked == [(run, {"4", "6"}) for run in runs]
    assert table.to_dict("list") == {"image": ["4", "6"], "group": ["g4", "g6"]}


def test_a_run_trained_on_anothers_test_images_is_refused_with_the_count():
    runs = [a_run("a", split="a1 a2 v3 t4 t5"), a_run("b", split="a4 a5 a6 v1 t2 t7 t8")]
    with pytest.raises(UserError) as refused:
        test_part(runs, LABELS)
    message = str(refused.value)
    assert "runs/a was trained on 1 of the 3 test images of runs/b" in message
    assert "--split runs/b/split.csv" in message


def test_runs_without_a_test_image_in_common_are_refused():
    runs = [a_run("a", split="a1 v2 t4"), a_run("b", split="a1 v4 t2")]
    with pytest.raises(UserError, match="no test image in common"):
        test_part(runs, LABELS)


def test_runs_of_other_data_are_refused_by_name():
    runs = [a_run("a"), a_run("b", fingerprint="other")]
    check_data(runs[:1], LABELS, "f")
    LABELS.image_dir.mkdir(parents=True)  # their fingerprint might be an older one, of bytes
    for name in LABELS.images:
        LABELS.path(name).touch()
    with pytest.raises(UserError, match=r"runs/b: steel \(other\)") as refused:
        check_data(runs, LABELS, "f")
    assert "runs/a" not in str(refused.value)
    assert "--data" in str(refused.value)


def test_no_run_and_one_run_twice_are_refused(tmp_path):
    with pytest.raises(UserError, match="at least one run"):
        load_runs([])
    with pytest.raises(UserError, match="twice"):
        load_runs([tmp_path / "a", tmp_path / "b" / ".." / "a"])
    with pytest.raises(UserError, match="no run directory"):
        load_runs([tmp_path / "a"])


def in_folds(name, fold, tested, folds=3, **options):
    """A run by folds of six images that tests those of `tested`."""
    others = [image for image in "123456" if image not in tested]
    split = [*(f"t{image}" for image in tested), f"v{others[0]}", *(f"a{i}" for i in others[1:])]
    return a_run(name, split=" ".join(split), folds=folds, fold=fold, **options)


def test_folds_of_a_seed_are_one_training_that_tests_every_image_once():
    parts = ["14", "25", "36"]
    runs = [
        in_folds(f"{seed}-{k}", k, parts[k], seed=seed) for seed in (0, 1) for k in range(3)
    ] + [in_folds("loss", 1, parts[1], loss="dice")]
    assert variants(runs) == {
        "unet_64x400 (loss ce)": [[0, 1, 2], [3, 4, 5]],
        "unet_64x400 (loss dice)": [[6]],
    }
    table, asked = test_part(runs[:6], LABELS)
    assert table["image"].tolist() == list("123456")
    assert [images for _, images in asked] == [set(part) for part in parts] * 2
    assert missing_folds(runs[:6]) == []


def test_folds_that_are_missing_are_named_and_the_common_part_is_left():
    runs = [in_folds(str(k), k, part) for k, part in enumerate(["14", "25", "36"])]
    runs += [in_folds(f"seed-{k}", k, part, seed=7) for k, part in ((1, "25"), (2, "36"))]
    table, asked = test_part(runs, LABELS)
    assert table["image"].tolist() == list("2356")
    assert [run for run, _ in asked] == runs[1:]
    (said,) = missing_folds(runs)
    assert said.startswith("unet_64x400, seed 7: of 3 folds not there: 0.")
    with pytest.raises(UserError, match=r"no test image in common(.*\n)+.*not there: 0, 2"):
        test_part([runs[0], in_folds("other", 1, "25", loss="dice")], LABELS)


@pytest.mark.parametrize(
    "other",
    [
        {"fold": None, "folds": None},
        {"fold": 1, "folds": 4},
        {"fold": 0},  # the same number, but other images
        {"tested": "34"},  # another number, but an image of the first
    ],
)
def test_folds_of_another_partition_are_refused(other):
    one = in_folds("one", 0, "14")
    rival = in_folds("rival", **({"fold": 1, "tested": "25", "loss": "dice"} | other))
    with pytest.raises(UserError, match=r"was trained on . of the 2 test images"):
        test_part([one, rival], LABELS)


def test_a_fold_that_is_there_twice_is_refused():
    with pytest.raises(UserError, match=r"runs/b is of a recipe, seed and fold that another"):
        variants([in_folds("a", 0, "14"), in_folds("b", 0, "14"), in_folds("c", 1, "25")])
