import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from common import losses
from common.config import LOSSES
from common.losses import TERMS, build_loss, class_weights

WEIGHTS = torch.tensor([0.3, 2.0, 4.0, 0.5, 1.5])
SUMS = ["ce+dice", "bce+dice", "ce+lovasz", "bce+lovasz", "bce+focal_tversky"]
NAMES = [*LOSSES, *SUMS]
POOLED = ["dice", "focal_tversky"]


def random_batch(seed=0, shape=(3, 5, 12, 20), classes=5):
    """Logits that are right more often than not, and a target with few defects."""
    generator = torch.Generator().manual_seed(seed)
    n, c, h, w = shape
    target = torch.randint(0, classes, (n, h, w), generator=generator)
    target[:, : h // 2] = 0
    logits = torch.randn(shape, generator=generator) + 2 * F.one_hot(target, c).movedim(-1, 1)
    return logits, target


def certain(prediction, num_classes=5):
    """Logits of a network that is sure of the class indices (N, H, W)."""
    return 40.0 * F.one_hot(prediction, num_classes).movedim(-1, 1).float() - 20


def gradient(loss, logits, target):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits, target), logits)[0]


# Values


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_the_mean_over_pixels_of_weighted_terms(weights):
    logits, target = random_batch()
    factor = 1 if weights is None else weights[target]
    expected = (factor * F.cross_entropy(logits, target, reduction="none")).mean()
    torch.testing.assert_close(build_loss("ce", weights)(logits, target), expected)


@pytest.mark.parametrize("classes", [1, 5, 254])
@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_softplus_sum_and_its_gradient_are_those_of_torch(classes, scale):
    logits = scale * torch.randn(2, classes, 3, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.linspace(-1, 1, 12).view(3, 4)

    def ours(logits, _):
        return (weight * losses.SoftplusSum.apply(logits)).sum()

    def theirs(logits, _):
        return (weight * F.softplus(logits).sum(dim=1)).sum()

    torch.testing.assert_close(ours(logits, None), theirs(logits, None), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradient(ours, logits, None), gradient(theirs, logits, None))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_binary_cross_entropy_weighs_all_channels_by_the_true_class(weights):
    logits, target = random_batch()
    factor = None if weights is None else weights[target].unsqueeze(1)
    truth = F.one_hot(target, 5).movedim(-1, 1).float()
    expected = F.binary_cross_entropy_with_logits(logits, truth, weight=factor)
    torch.testing.assert_close(build_loss("bce", weights)(logits, target), expected)


@pytest.mark.parametrize("classes", [5, 3, 1])
def test_dice_agrees_with_smp_up_to_its_mean_over_absent_classes(classes):
    logits, target = random_batch(classes=classes)
    # smp adds its smoothing twice above and below, and divides by all classes.
    independent = smp.losses.DiceLoss("multiclass", smooth=0.5)

    def expected(logits, target):
        return independent(logits, target) * 5 / classes

    torch.testing.assert_close(build_loss("dice")(logits, target), expected(logits, target))
    torch.testing.assert_close(
        gradient(build_loss("dice"), logits, target), gradient(expected, logits, target)
    )


@pytest.mark.parametrize("classes", [5, 3, 1])
def test_focal_tversky_follows_the_formula_of_its_paper(classes):
    """Abraham & Khan's equations 3 and 4, pixel by pixel in float64, with their .7 and 4/3."""
    logits, target = random_batch(classes=classes)

    def expected(logits, target):
        p = torch.exp(logits.double()) / torch.exp(logits.double()).sum(1, keepdim=True)
        terms = []
        for k in target.unique().tolist():
            g = (target == k).double()
            hit = (p[:, k] * g).sum() + 1
            false_negatives = ((1 - p[:, k]) * g).sum()
            false_positives = (p[:, k] * (1 - g)).sum()
            index = hit / (hit + 0.7 * false_negatives + 0.3 * false_positives)
            terms.append((1 - index) ** (1 / (4 / 3)))
        return (sum(terms) / len(terms)).float()

    loss = build_loss("focal_tversky")
    torch.testing.assert_close(loss(logits, target), expected(logits, target))
    torch.testing.assert_close(
        gradient(loss, logits, target), gradient(expected, logits, target), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("classes", [5, 2, 1])
def test_lovasz_agrees_with_smp(classes):
    logits, target = random_batch(classes=classes)
    target[1] = 0
    expected = smp.losses.LovaszLoss("multiclass", per_image=True)
    torch.testing.assert_close(build_loss("lovasz")(logits, target), expected(logits, target))
    torch.testing.assert_close(
        gradient(build_loss("lovasz"), logits, target),
        gradient(expected, logits, target),
        rtol=1e-3,  # smp differentiates the Jaccard index by subtraction
        atol=1e-7,
    )


def lovasz_by_definition(errors, truth):
    """Choquet integral of the set function 1 - IoU of the pixels in error, over the threshold."""
    total, below = 0.0, 0.0
    for threshold in sorted(set(errors)):
        wrong = {i for i, error in enumerate(errors) if error >= threshold}
        positive = {i for i, true in enumerate(truth) if true}
        jaccard = len(positive - wrong) / len(positive | wrong)
        total += (threshold - below) * (1 - jaccard)
        below = threshold
    return total


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=12))
def test_lovasz_extension_by_its_definition(pixels):
    errors = [eighths / 8 for eighths, _ in pixels]  # few values: many ties
    truth = [True] + [true for _, true in pixels[1:]]
    slopes = losses.lovasz_slopes(torch.tensor(errors), torch.tensor(truth))
    value = float(slopes @ torch.tensor(errors))
    assert value == pytest.approx(lovasz_by_definition(errors, truth), abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=30)
def test_lovasz_of_certain_predictions_is_one_minus_iou(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.randint(0, classes, (2, 3, 4, 6), generator=generator)
    expected = []
    for p, t in zip(prediction, target, strict=True):
        ious = [((p == k) & (t == k)).sum() / ((p == k) | (t == k)).sum() for k in t.unique()]
        expected.append(1 - sum(ious) / len(ious))
    value = build_loss("lovasz")(certain(prediction), target)
    assert float(value) == pytest.approx(float(sum(expected) / 3), abs=1e-5)


def test_lovasz_slopes_keep_their_digits_on_a_whole_strip():
    generator = torch.Generator().manual_seed(0)
    errors = torch.rand(256 * 1600, generator=generator)
    truth = torch.rand(256 * 1600, generator=generator) < 0.02
    order = np.argsort(-errors.numpy(), kind="stable")
    positive = truth.numpy()[order].astype(np.float64)
    intersection = positive.sum() - positive.cumsum()
    union = positive.sum() + (1 - positive).cumsum()
    expected = np.empty(len(order))
    expected[order] = np.diff(1 - intersection / union, prepend=0)
    slopes = losses.lovasz_slopes(errors, truth).numpy()
    np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=1e-14)


def test_lovasz_slopes_of_an_absent_class_are_finite():
    slopes = losses.lovasz_slopes(torch.rand(2, 50), torch.zeros(2, 50, dtype=torch.bool))
    assert torch.isfinite(slopes).all()


@given(st.lists(st.floats(0, 2, width=32), min_size=1, max_size=30))
def test_descending_sorts_and_breaks_ties_by_index(values):
    errors = torch.tensor(values).abs()  # no negative zero
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert losses.descending(errors).tolist() == expected


# Stated values. A 1x4 image, so that every number can be followed by hand.

PERFECT = (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        pytest.param([0, 0, 1, 2], [0, 0, 1, 2], PERFECT, id="perfect, two classes absent"),
        pytest.param([0, 0, 0, 0], [0, 0, 0, 0], PERFECT, id="clean, and seen so"),
        pytest.param([3, 3, 3, 3], [3, 3, 3, 3], PERFECT, id="perfect, without background"),
        # A wrong pixel costs ce 40, and is wrong by 20 in 2 of 5 detectors.
        # Background Dice (0 + 1) / (0 + 4 + 1), Tversky index 1 / (.7 * 4 + 1).
        pytest.param(
            [1, 1, 1, 1], [0, 0, 0, 0], (40, 8, 0.8, (2.8 / 3.8) ** 0.75, 1), id="all invented"
        ),
        # Class 2 is absent from the truth: only the background's Dice, Tversky and IoU tell.
        pytest.param(
            [0, 0, 0, 2], [0, 0, 0, 0], (10, 2, 1 - 7 / 8, (0.7 / 4.7) ** 0.75, 1 / 4),
            id="invented",
        ),
        # Classes 0 and 1: Dice (4 + 1) / (4 + 2 + 1) and (0 + 1) / (0 + 2 + 1), Tversky indices
        # (2 + 1) / (2 + .3 * 2 + 1) and 1 / (.7 * 2 + 1), IoU 2 / 4 and 0.
        pytest.param(
            [0, 0, 0, 0], [0, 0, 1, 1],
            (20, 4, 10 / 21, ((0.6 / 3.6) ** 0.75 + (1.4 / 2.4) ** 0.75) / 2, 3 / 4), id="missed",
        ),
    ],
)  # fmt: skip
def test_stated_values(prediction, truth, expected):
    logits, target = certain(torch.tensor([[prediction]])), torch.tensor([[truth]])
    for name, value in zip(LOSSES, expected, strict=True):
        assert float(build_loss(name)(logits, target)) == pytest.approx(value, abs=1e-6), name


def test_values_of_a_network_that_knows_nothing():
    logits, target = torch.zeros(1, 5, 1, 4), torch.tensor([[[0, 0, 0, 1]]])
    expected = {
        "ce": math.log(5),
        "bce": math.log(2),
        # Probability .2 everywhere: (2 * .2 * t + 1) / (.2 * 4 + t + 1) for t = 3 and 1 pixels.
        "dice": 1 - (2.2 / 4.8 + 1.4 / 2.8) / 2,
        # Found .2 * t, missed .8 * t, invented .2 * (4 - t).
        "focal_tversky": (
            (1 - 1.6 / (0.6 + 0.7 * 2.4 + 0.3 * 0.2 + 1)) ** 0.75
            + (1 - 1.2 / (0.2 + 0.7 * 0.8 + 0.3 * 0.6 + 1)) ** 0.75
        )
        / 2,
        # All thresholds up to .2 catch all four pixels, up to .8 the true ones only.
        "lovasz": (0.2 + 0.6 * 1 + 0.2 + 0.6 * 1) / 2,
    }
    for name, value in expected.items():
        assert float(build_loss(name)(logits, target)) == pytest.approx(value, abs=1e-6), name


# Sums, shards, gradients


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_by_name_is_the_sum_of_its_parts(name):
    logits, target = random_batch()
    parts = [build_loss(part, WEIGHTS)(logits, target) for part in name.split("+")]
    assert len(parts) == 2
    torch.testing.assert_close(build_loss(name, WEIGHTS)(logits, target), sum(parts))


@pytest.mark.parametrize("name", ["ce", "bce", "lovasz", "bce+lovasz"])
def test_loss_is_the_mean_over_equal_shards(name):
    logits, target = random_batch(shape=(4, 5, 8, 16))
    target[2:] = 0
    loss = build_loss(name, WEIGHTS)
    halves = (loss(logits[:2], target[:2]) + loss(logits[2:], target[2:])) / 2
    torch.testing.assert_close(halves, loss(logits, target))


@pytest.mark.parametrize("name", POOLED)
def test_a_pooled_loss_on_two_processes_is_that_of_the_global_batch(monkeypatch, name):
    logits, target = random_batch(shape=(4, 5, 8, 16))
    target[2:] = 0
    loss = build_loss(name)
    whole = logits.clone().requires_grad_()
    expected = loss(whole, target)
    expected.backward()

    shards = [(logits[:2], target[:2]), (logits[2:], target[2:])]
    total = sum(losses.dice_sums(*shard) for shard in shards)
    monkeypatch.setattr(losses, "world_size", lambda: 2)
    monkeypatch.setattr(losses, "sum_over_ranks", lambda own: total)
    gradients = []
    for shard_logits, shard_target in shards:
        own = shard_logits.clone().requires_grad_()
        value = loss(own, shard_target)
        torch.testing.assert_close(value, expected)
        gradients.append(torch.autograd.grad(value, own)[0])
    averaged = torch.cat(gradients) / 2  # as DistributedDataParallel does with parameters
    torch.testing.assert_close(averaged, whole.grad)


@pytest.mark.parametrize("name", POOLED)
def test_in_validation_a_pooled_loss_waits_for_no_other_process(monkeypatch, name):
    logits, target = random_batch()
    expected = build_loss(name)(logits, target)
    monkeypatch.setattr(losses, "world_size", lambda: 2)
    monkeypatch.setattr(losses, "sum_over_ranks", lambda _: pytest.fail("a collective call"))
    with torch.no_grad():
        assert build_loss(name)(logits.requires_grad_(), target) == expected


@pytest.mark.parametrize("name", NAMES)
def test_gradient_agrees_with_finite_differences(name):
    logits, target = random_batch(shape=(2, 5, 4, 6))
    loss = build_loss(name, WEIGHTS)
    slope = gradient(loss, logits, target)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        step = torch.randn(logits.shape, generator=generator)
        rise = loss(logits + 5e-4 * step, target) - loss(logits - 5e-4 * step, target)
        assert float(rise) / 1e-3 == pytest.approx(float((slope * step).sum()), rel=1e-2, abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_training_on_a_loss_alone_learns_the_target(name):
    _, target = random_batch(shape=(2, 5, 6, 8))
    logits = torch.zeros(2, 5, 6, 8, requires_grad=True)
    loss = build_loss(name, WEIGHTS)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(25):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    assert (logits.argmax(1) == target).all()


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_every_type_is_computed_in_float32_even_under_autocast(name, dtype):
    logits, target = random_batch()
    logits = logits.to(dtype)
    loss = build_loss(name, WEIGHTS)
    expected = loss(logits.float(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_whole_image_neither_overflows_nor_loses_small_defects(name, dtype):
    target = torch.zeros(1, 128, 800, dtype=torch.int64)
    target[0, 3, 4] = 2
    logits = certain(target).to(dtype)
    missed = certain(torch.zeros_like(target)).to(dtype)
    loss = build_loss(name)
    assert float(loss(logits, target)) == pytest.approx(0, abs=1e-6)
    assert math.isfinite(loss(missed, target))
    assert float(loss(missed, target)) > 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("truth", ["clean", "one defect", "all classes"])
def test_values_and_gradients_are_finite(name, dtype, truth):
    logits, target = random_batch(shape=(2, 5, 16, 32))
    if truth != "all classes":
        target = torch.full_like(target, 0 if truth == "clean" else 3)
    for scale in (0, 1, 1000):
        leaf = (scale * logits).to(dtype).requires_grad_()
        value = build_loss(name, WEIGHTS)(leaf, target)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(leaf.grad).all()


def test_a_network_that_diverged_is_not_hidden():
    logits, target = random_batch()
    logits[0, 0, 0, 0] = math.nan
    for name in LOSSES:
        assert math.isnan(build_loss(name)(logits, target)), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu_the_same_value_and_no_wait(name):
    logits, target = random_batch(shape=(4, 5, 32, 64))
    loss = build_loss(name, WEIGHTS)
    expected, slope = loss(logits, target), gradient(loss, logits, target)
    loss, logits, target = loss.cuda(), logits.cuda(), target.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value = loss(logits, target)
        on_gpu = gradient(loss, logits, target)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(value.cpu(), expected)
    torch.testing.assert_close(on_gpu.cpu(), slope)


# Class weights


def test_class_weights_are_inverse_square_roots_with_mean_one_over_pixels():
    weights = class_weights([900, 36, 64])
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights / weights[0], torch.tensor([1.0, 5.0, 3.75]))
    assert float(weights @ torch.tensor([0.9, 0.036, 0.064])) == pytest.approx(1)


def test_class_weights_are_limited_and_an_absent_class_gets_one():
    weights = class_weights(np.array([10**9, 1, 0, 10**7]))
    torch.testing.assert_close(weights[[1, 3]] / weights[0], torch.tensor([10.0, 10.0]))
    assert weights[2] == 1
    assert float(class_weights([7, 0]) @ torch.ones(2)) == 2


@pytest.mark.parametrize("counts", [[], [0, 0], [5, -1], [[1, 2]], 3])
def test_class_weights_refuse_what_is_no_count_per_class(counts):
    with pytest.raises(ValueError, match="one number a class"):
        class_weights(counts)


def test_class_weights_travel_with_the_module():
    loss = build_loss("ce+dice", WEIGHTS)
    assert torch.equal(loss.state_dict()["class_weights"], WEIGHTS)
    assert "ce+dice" in repr(loss)
    assert not build_loss("ce+dice").state_dict()


# Bad input


@pytest.mark.parametrize("name", ["", "focal", "ce+focal", "ce+", "ce+ce", "CE", "ce dice"])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="ce, bce, dice, focal_tversky, lovasz") as error:
        build_loss(name)
    assert repr(name) in str(error.value)


LOGITS = torch.zeros(2, 5, 4, 6)
TARGET = torch.zeros(2, 4, 6, dtype=torch.int64)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (LOGITS[0], TARGET, r"logits must be float \(N, C, H, W\), got float32 \(5, 4, 6\)"),
        (LOGITS.long(), TARGET, r"logits must be float .* got int64"),
        (LOGITS, TARGET[:1], r"target must be int64 \(2, 4, 6\) .* got int64 \(1, 4, 6\)"),
        (LOGITS, TARGET.unsqueeze(1), r"got int64 \(2, 1, 4, 6\)"),
        (LOGITS, TARGET.float(), r"got float32 \(2, 4, 6\)"),
        (LOGITS, TARGET.byte(), r"got uint8 \(2, 4, 6\)"),
        (LOGITS, TARGET + 5, r"0\.\.4 for 5 classes, holds 5\.\.5"),
        (LOGITS, TARGET - 100, r"0\.\.4 for 5 classes, holds -100"),
        (LOGITS[:, :3], TARGET, r"logits have 3 classes, class weights are float32 \(5,\)"),
        (LOGITS[:0], TARGET[:0], "without pixels"),
    ],
)
def test_wrong_input_is_refused_by_every_loss(logits, target, message):
    for name in NAMES:
        with pytest.raises(ValueError, match=message):
            build_loss(name, WEIGHTS)(logits, target)


def test_the_names_that_options_accept_are_those_of_the_losses() -> None:
    assert tuple(TERMS) == LOSSES
