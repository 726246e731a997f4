"""One optimiser step: schedule, averaged weights, and what a non-finite loss leaves untouched."""

import copy
import math

import pytest
import torch
from torch import nn

from common.config import TrainConfig
from common.training.step import (
    MuonAdamW,
    ema_decay,
    learning_rate,
    optimise,
    update_ema,
)


def test_learning_rate_rises_to_the_peak_and_falls_to_a_hundredth() -> None:
    rates = [learning_rate(step, 100, 2.0, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == pytest.approx(2.0)
    assert rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(2.0 * (0.01 + 0.99 / 2))
    assert rates[99] < 0.03
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_learning_rate_of_a_single_step_is_the_peak() -> None:
    assert learning_rate(0, 1, 0.5, 0.0) == 0.5


def test_weight_decay_spares_biases_and_norms() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimiser = MuonAdamW(model, TrainConfig(weight_decay=0.3))
    (decayed,), (spared,) = optimiser.muon.param_groups, optimiser.adamw.param_groups
    assert [p.shape for p in decayed["params"]] == [(2, 1, 3, 3)]
    assert decayed["weight_decay"] == 0.3
    assert len(spared["params"]) == 3
    assert spared["weight_decay"] == 0


def test_learning_rate_is_set_for_all_parameters() -> None:
    optimiser = MuonAdamW(small_model(), TrainConfig(lr=0.5))
    assert optimiser.lr == 0.5
    optimiser.lr = 0.25
    assert optimiser.lr == optimiser.adamw.param_groups[0]["lr"] == 0.25
    assert optimiser.muon.param_groups[0]["lr"] == 2.5


def test_average_follows_parameters_and_statistics() -> None:
    model, average = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(8.0)
        model.num_batches_tracked.fill_(7)
    update_ema(average, model, 0.75)
    assert average.weight.item() == pytest.approx(1.5)
    assert average.running_mean.item() == pytest.approx(2.0)
    assert average.num_batches_tracked.item() == 7


def test_average_forgets_the_start_quickly() -> None:
    assert ema_decay(0, 0.99) == pytest.approx(0.1)
    assert ema_decay(10**6, 0.99) == 0.99
    assert ema_decay(5, 0.0) == 0.0


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))


def take_step(model: nn.Module, images: torch.Tensor, **options) -> tuple[float, float, object]:
    optimiser = MuonAdamW(model, TrainConfig())
    targets = torch.zeros(len(images), 4, 4, dtype=torch.long)
    loss, bad = optimise(
        model, nn.CrossEntropyLoss(), optimiser, images, targets,
        clip=1.0, mixed_precision=False, **options,
    )  # fmt: skip
    return loss.item(), bad.item(), optimiser


def test_a_good_step_changes_every_parameter() -> None:
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    loss, bad, _ = take_step(model, torch.randn(2, 1, 4, 4))
    assert math.isfinite(loss)
    assert bad == 0
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    # A bias before a batch norm has no gradient but rounding; all others must move.
    assert set(moved) >= {"0.weight", "1.weight", "1.bias", "2.weight", "2.bias"}


def test_a_non_finite_loss_leaves_weights_and_moments_alone() -> None:
    model = small_model()
    before = copy.deepcopy(dict(model.named_parameters()))
    _, bad, optimiser = take_step(model, torch.full((2, 1, 4, 4), torch.inf))
    assert bad == 1
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert all((state["momentum"] == 0).all() for state in optimiser.muon.state.values())
    for state in optimiser.adamw.state.values():
        assert torch.isfinite(state["exp_avg"]).all()
        assert state["step"] == 0


def test_a_non_finite_loss_spoils_gradients_that_would_be_finite() -> None:
    """Processes share gradients, not losses: all of them must come to leave the step out."""
    model = small_model()
    before = copy.deepcopy(dict(model.named_parameters()))
    optimiser = MuonAdamW(model, TrainConfig())
    images, targets = torch.randn(2, 1, 4, 4), torch.randint(2, (2, 4, 4))

    def criterion(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, targets) + torch.inf

    _, bad = optimise(model, criterion, optimiser, images, targets, clip=1.0, mixed_precision=False)
    assert bad == 1
    assert not any(p.grad.isfinite().any() for p in model.parameters())
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
