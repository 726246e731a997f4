import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.metrics import (
    ConfusionMatrix,
    baselines,
    confusion,
    image_sums,
    kaggle_dice,
    merit,
    scores,
    scores_from_sums,
)

NAN = math.nan


@st.composite
def label_maps(draw, classes=4):
    """(prediction, truth) uint8 (N, H, W), often clean, sometimes without a class."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4)))
    maps = hnp.arrays(np.uint8, shape, elements=st.integers(0, classes - 1), fill=st.just(0))
    return draw(maps), draw(maps)


def ratio(above, below):
    return above / below if below else NAN


def mean(values):
    defined = [v for v in values if not math.isnan(v)]
    return ratio(sum(defined), len(defined))


def scores_from_pixels(pred, target, classes):
    """The definitions in words, pixel set by pixel set: no confusion matrix anywhere."""

    def dice(p, t):
        return ratio(2 * (p & t).sum(), p.sum() + t.sum())

    def iou(p, t):
        return ratio((p & t).sum(), (p | t).sum())

    defects = range(1, classes)
    both = [[(p == k, t == k) for p, t in zip(pred, target, strict=True)] for k in defects]
    pairs = [pair for of_class in both for pair in of_class]
    positive = [[dice(p, t) for p, t in of_class if t.any()] for of_class in both]
    ious = [iou(pred == k, target == k) for k in range(classes)]
    dices = [dice(pred == k, target == k) for k in range(classes)]
    # The reference's view: only pixels where truth and prediction both name a defect.
    seen = (pred > 0) & (target > 0)
    p_seen, t_seen = pred[seen], target[seen]
    return {
        "accuracy": (pred == target).mean(),
        "iou_mean": mean(ious[1:]),
        "iou_mean_with_background": mean(ious),
        "dice_mean": mean(dices[1:]),
        **{f"iou_class_{k}": ious[k] for k in range(classes)},
        **{f"dice_class_{k}": dices[k] for k in range(classes)},
        "kaggle_dice": mean([dice(p, t) if p.any() or t.any() else 1.0 for p, t in pairs]),
        "kaggle_dice_empty": mean([float(not t.any()) for _, t in pairs]),
        "empty_accuracy": mean([float(not p.any()) for p, t in pairs if not t.any()]),
        "dice_positive": mean([value for of_class in positive for value in of_class]),
        "dice_positive_macro": mean([mean(of_class) for of_class in positive]),
        **{f"dice_positive_class_{k}": mean(positive[k - 1]) for k in defects},
        "reference_accuracy": ratio((p_seen == t_seen).sum(), seen.sum()),
        "reference_iou": mean([iou(p_seen == k, t_seen == k) for k in defects]),
        "reference_dice": mean([dice(p_seen == k, t_seen == k) for k in defects]),
    }


def approx(expected):
    return pytest.approx(expected, nan_ok=True, abs=1e-12)


# Confusion matrices


@given(label_maps())
def test_confusion_counts_each_pixel_of_each_image(maps):
    pred, target = maps
    expected = np.zeros((len(pred), 4, 4), dtype=np.int64)
    for n, h, w in np.ndindex(*pred.shape):
        expected[n, target[n, h, w], pred[n, h, w]] += 1
    counts = confusion(pred, target, 4)
    assert counts.dtype == torch.int64
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(
        confusion(torch.from_numpy(pred).long(), torch.from_numpy(target), 4), expected
    )


def test_confusion_takes_read_only_mirrored_and_sliced_maps():
    rng = np.random.default_rng(0)
    pred, target = rng.integers(0, 5, (2, 3, 8, 10)).astype(np.int32)
    expected = confusion(pred[:, ::-1, ::2].copy(), target[:, ::-1, ::2].copy())
    target.flags.writeable = False
    assert torch.equal(confusion(pred[:, ::-1, ::2], target[:, ::-1, ::2]), expected)
    strided = torch.from_numpy(pred).flip(1)[:, :, ::2]
    assert torch.equal(confusion(strided, target[:, ::-1, ::2]), expected)


def test_confusion_of_no_images_is_empty():
    nothing = np.zeros((0, 4, 4), dtype=np.uint8)
    assert confusion(nothing, nothing).shape == (0, 5, 5)


LABELS = torch.zeros(2, 4, 6, dtype=torch.int64)


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        (LABELS, LABELS[:1], r"one shape \(N, H, W\), got .* \(2, 4, 6\) and .* \(1, 4, 6\)"),
        (LABELS[0], LABELS[0], r"one shape \(N, H, W\)"),
        (LABELS.float(), LABELS, r"integers .* got torch\.float32"),
        (LABELS, LABELS.double(), r"integers .* torch\.float64"),
        (LABELS + 5, LABELS, r"prediction must lie in 0\.\.4 for 5 classes, holds 5\.\.5"),
        (LABELS, LABELS - 1, r"truth must lie in 0\.\.4 for 5 classes, holds -1\.\.-1"),
        (LABELS, LABELS + 255, r"truth must lie in 0\.\.4 for 5 classes, holds 255"),
    ],
)
def test_confusion_refuses_wrong_input(pred, target, message):
    with pytest.raises(ValueError, match=message):
        confusion(pred, target)
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix().update(pred.numpy(), target.numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_same_counts_and_no_wait():
    pred, target = torch.randint(0, 5, (2, 4, 32, 64))
    expected = confusion(pred, target)
    on_gpu = pred.cuda(), target.cuda()
    matrix = ConfusionMatrix(device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        counts = confusion(*on_gpu)
        matrix.update(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(counts.cpu(), expected)
    assert matrix.compute() == approx(scores(expected))


# Scores


@given(label_maps())
@settings(max_examples=200)
def test_scores_by_their_definitions(maps):
    pred, target = maps
    result = scores(confusion(pred, target, 4))
    assert all(type(value) is float for value in result.values())
    assert result == approx(scores_from_pixels(pred, target, 4))
    assert kaggle_dice(pred, target, 4) == approx(result["kaggle_dice"])


@pytest.mark.parametrize("classes", [[0, 1, 2, 3, 4], [0, 3], [0]])
def test_pooled_scores_agree_with_scikit_learn_and_torchmetrics(classes):
    # Imported here, as the processes started below import this module again.
    import sklearn.metrics
    import torchmetrics.classification

    rng = np.random.default_rng(0)
    pred, target = rng.choice(classes, (2, 3, 16, 20))
    result = scores(confusion(pred, target))
    truth_and_pred = target.ravel(), pred.ravel()
    assert result["accuracy"] == approx(sklearn.metrics.accuracy_score(*truth_and_pred))
    iou = sklearn.metrics.jaccard_score(*truth_and_pred, labels=classes, average=None)
    dice = sklearn.metrics.f1_score(*truth_and_pred, labels=classes, average=None)
    assert [result[f"iou_class_{k}"] for k in classes] == approx(list(iou))
    assert [result[f"dice_class_{k}"] for k in classes] == approx(list(dice))
    assert result["iou_mean"] == approx(mean(list(iou[1:])))
    assert result["dice_mean"] == approx(mean(list(dice[1:])))

    independent = torchmetrics.classification.MulticlassJaccardIndex(5, average="none")
    expected = independent(torch.from_numpy(pred), torch.from_numpy(target))
    assert [result[f"iou_class_{k}"] for k in classes] == pytest.approx(expected[classes].tolist())
    matrix = torchmetrics.classification.MulticlassConfusionMatrix(5)
    expected = matrix(torch.from_numpy(pred), torch.from_numpy(target))
    assert torch.equal(confusion(pred, target).sum(0), expected)


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        pytest.param(
            [[0, 1, 2, 0], [0, 0, 0, 0]],
            [[0, 1, 2, 0], [0, 0, 0, 0]],
            {"accuracy": 1, "iou_mean": 1, "dice_class_3": NAN, "kaggle_dice": 1,
             "kaggle_dice_empty": 6 / 8, "dice_positive": 1, "reference_iou": 1},
            id="perfect",
        ),
        pytest.param(
            [[0, 0, 0, 0]],
            [[0, 0, 0, 0]],
            {"accuracy": 1, "iou_mean": NAN, "iou_class_0": 1, "kaggle_dice": 1,
             "iou_mean_with_background": 1, "empty_accuracy": 1,
             "kaggle_dice_empty": 1, "dice_positive": NAN, "reference_accuracy": NAN},
            id="clean, and seen so",
        ),
        pytest.param(
            [[0, 0, 0, 3]],
            [[0, 0, 0, 0]],
            {"accuracy": 3 / 4, "iou_mean": 0, "iou_class_0": 3 / 4, "iou_class_3": 0,
             "iou_mean_with_background": 3 / 8, "empty_accuracy": 3 / 4,
             "kaggle_dice": 3 / 4, "kaggle_dice_empty": 1, "dice_positive": NAN,
             "reference_iou": NAN},
            id="invented",
        ),
        pytest.param(
            [[0, 0, 0, 0], [0, 1, 1, 1]],
            [[1, 1, 1, 1], [0, 0, 1, 1]],
            {"accuracy": 3 / 8, "iou_class_1": 2 / 7, "dice_class_1": 4 / 9, "dice_mean": 4 / 9,
             "iou_mean_with_background": (1 / 6 + 2 / 7) / 2, "empty_accuracy": 1,
             "kaggle_dice": (6 + 0 + 4 / 5) / 8, "kaggle_dice_empty": 6 / 8,
             "dice_positive": (0 + 4 / 5) / 2, "dice_positive_class_1": 2 / 5,
             "dice_positive_macro": 2 / 5, "reference_accuracy": 1},
            id="missed in one image",
        ),
        pytest.param(
            [[2, 2, 1, 1]],
            [[1, 1, 2, 2]],
            {"accuracy": 0, "iou_class_0": NAN, "iou_mean": 0, "dice_mean": 0,
             "kaggle_dice": 2 / 4, "dice_positive": 0, "reference_accuracy": 0,
             "reference_iou": 0, "reference_dice": 0},
            id="everything wrong",
        ),
        pytest.param(
            [[0, 0, 1], [0, 0, 2], [0, 0, 0]],
            [[0, 0, 1], [0, 0, 1], [0, 2, 2]],
            {"dice_positive": 1 / 3, "dice_positive_macro": 1 / 4, "dice_positive_class_1": 1 / 2,
             "dice_positive_class_2": 0, "reference_accuracy": 1 / 2},
            id="mean over pairs and over classes",
        ),
    ],
)  # fmt: skip
def test_scores_that_can_be_followed_by_hand(pred, target, expected):
    pred, target = np.array(pred)[:, None], np.array(target)[:, None]
    result = scores(confusion(pred, target))
    assert {name: result[name] for name in expected} == approx(expected)
    assert kaggle_dice(pred, target) == approx(result["kaggle_dice"])


def test_a_missed_defect_costs_every_score_but_the_references():
    target = np.zeros((4, 16, 40), dtype=np.uint8)
    for k in (1, 2, 3, 4):
        target[k - 1, 2:10, 5:30] = k
    perfect = scores(confusion(target, target))
    missing = target.copy()
    missing[1] = 0
    missing[0, :, 20:] = 0
    missing[3, 12:, :] = 2
    result = scores(confusion(missing, target))
    honest = ["accuracy", "iou_mean", "dice_mean", "kaggle_dice", "dice_positive"]
    for name in [*honest, "dice_positive_macro", "iou_class_0", "iou_class_1", "dice_class_2"]:
        assert result[name] < perfect[name] == 1, name
    for name in ("reference_accuracy", "reference_iou", "reference_dice"):
        assert result[name] == perfect[name] == 1, name
    missing[2, 2:10, 5:30] = 4
    assert scores(confusion(missing, target))["reference_iou"] < 1


# Streaming, sharding, resampling


def random_maps(n, seed=0, classes=5):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, (n, 6, 10)) * rng.integers(0, 2, (n, 1, 1))
    pred = np.where(rng.random(target.shape) < 0.7, target, rng.integers(0, classes, target.shape))
    return pred, target


def test_batches_of_labels_logits_and_arrays_add_up():
    pred, target = random_maps(9)
    matrix = ConfusionMatrix()
    logits = torch.nn.functional.one_hot(torch.from_numpy(pred), 5).movedim(-1, 1)
    matrix.update(pred[:2].astype(np.uint8), target[:2])
    matrix.update(torch.from_numpy(pred[2:5]), torch.from_numpy(target[2:5]).byte())
    matrix.update(logits[5:7].bfloat16(), torch.from_numpy(target[5:7]))
    matrix.update(logits[7:].numpy().astype(np.float32), target[7:])
    assert matrix.compute() == approx(scores(confusion(pred, target)))
    matrix.reset()
    matrix.update(pred[:3], target[:3])
    assert matrix.compute() == approx(scores(confusion(pred[:3], target[:3])))


def test_undecided_logits_mean_background():
    matrix = ConfusionMatrix()
    matrix.update(torch.zeros(1, 5, 4, 4), np.zeros((1, 4, 4), dtype=np.uint8))
    assert matrix.compute()["accuracy"] == 1


def test_no_image_means_no_score():
    result = ConfusionMatrix(3).compute()
    assert "iou_class_2" in result
    assert "iou_class_3" not in result
    assert all(math.isnan(value) for value in result.values())
    assert scores(np.zeros((0, 3, 3), dtype=np.int64)) == approx(result)


def _score_a_shard(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    pred, target = random_maps(5)
    shared, alone = ConfusionMatrix(), ConfusionMatrix()
    with torch.inference_mode():
        shared.update(pred[rank::2], target[rank::2])
        if rank == 0:  # the other process has no image at all
            alone.update(pred, target)
    for matrix in (shared, alone):
        matrix.all_reduce()
    torch.save([shared.compute(), alone.compute()], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_processes_add_up_to_the_scores_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(_score_a_shard, (str(tmp_path),), nprocs=2)
    expected = scores(confusion(*random_maps(5)))
    for rank in range(2):
        shared, alone = torch.load(tmp_path / f"{rank}.pt")
        assert shared == approx(expected)
        assert alone == approx(expected)


def test_alone_all_reduce_changes_nothing():
    matrix = ConfusionMatrix()
    matrix.update(*random_maps(3))
    before = matrix.compute()
    matrix.all_reduce()
    assert matrix.compute() == approx(before)


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4))
def test_weights_count_images_as_often_as_they_say(weights):
    confusions = confusion(*random_maps(6))
    sums = image_sums(confusions).numpy()
    result = scores_from_sums(np.array(weights) @ sums, 5)
    for i, times in enumerate(weights):
        expected = scores(np.repeat(confusions.numpy(), times, axis=0))
        assert {name: values[i] for name, values in result.items()} == approx(expected)
    assert scores_from_sums(np.array(weights[0]) @ sums, 5) == approx(
        {name: values[0] for name, values in result.items()}
    )


def test_groups_are_resampled_by_the_sums_of_their_images():
    confusions = confusion(*random_maps(8))
    groups = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    weights = np.random.default_rng(0).integers(0, 3, (20, 4))
    sums = image_sums(confusions).numpy()
    group_sums = np.stack([sums[groups == g].sum(axis=0) for g in range(4)])
    result = scores_from_sums(weights @ group_sums, 5)
    expected = scores_from_sums(weights[:, groups] @ sums, 5)
    assert result["iou_mean"].shape == (20,)
    assert result.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(result[name], values, err_msg=name)


# Baselines


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((0.3, 2.0), (0.2, 1.0)),  # mean Dice, then loss
        ((0.3, 1.0), (0.3, 2.0)),
        ((0.0, 1.0), (0.0, 2.0)),
        ((math.nan, 1.0), (math.nan, 2.0)),  # no defect in val
        ((0.0, 1.0), (0.0, math.nan)),
        ((0.1, math.nan), (math.nan, 1.0)),
    ],
)
def test_the_better_epoch_has_more_dice_then_less_loss(better, worse):
    first = merit({"val/dice_mean": better[0], "val/loss": better[1]})
    second = merit({"val/dice_mean": worse[0], "val/loss": worse[1]})
    assert first > second
    assert not second > first


@given(label_maps())
def test_baselines_are_the_scores_of_constant_predictions(maps):
    _, target = maps
    result = baselines(confusion(target, target, 4).sum(-1))
    empty, best = result
    assert empty == "empty"
    assert result["empty"] == approx(scores_from_pixels(np.zeros_like(target), target, 4))
    k = int(best.removeprefix("all_class_"))
    assert result[best] == approx(scores_from_pixels(np.full_like(target, k), target, 4))
    rivals = [
        scores_from_pixels(np.full_like(target, j), target, 4)["dice_positive"] for j in (1, 2, 3)
    ]
    assert result[best]["dice_positive"] == approx(max(rivals))


def test_baselines_from_pixel_counts_by_hand():
    counts = np.array([[6, 0, 2], [4, 4, 0], [8, 0, 0], [0, 8, 0]])
    result = baselines(counts)
    assert list(result) == ["empty", "all_class_1"]
    assert result["empty"]["kaggle_dice"] == result["empty"]["kaggle_dice_empty"] == 5 / 8
    assert result["empty"]["dice_positive"] == 0
    assert result["empty"]["accuracy"] == 18 / 32
    assert result["all_class_1"]["dice_positive"] == approx((0 + 8 / 12 + 1) / 3)
    assert result["all_class_1"]["dice_class_1"] == approx(24 / 44)
    assert result["all_class_1"]["reference_accuracy"] == approx(12 / 14)
