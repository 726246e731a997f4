"""Synchronised batch norms on CPUs against torch's own over the whole batch."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from common.training.sync_bn import synchronise_batch_norms


@pytest.fixture(autouse=True)
def _one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def both() -> tuple[nn.Module, nn.Module]:
    """torch's module in float64 and ours, of the same state."""
    theirs = nn.Sequential(nn.BatchNorm2d(3))
    with torch.no_grad():
        theirs[0].weight.uniform_(0.5, 2)
        theirs[0].bias.normal_()
    ours = nn.Sequential(nn.BatchNorm2d(3))
    ours.load_state_dict(theirs.state_dict())
    return theirs.double(), synchronise_batch_norms(ours, torch.device("cpu"))


@pytest.mark.parametrize("mean", [0.0, 3000.0])
def test_values_statistics_and_gradients_are_torch_s(mean: float) -> None:
    """Deviation 1: at mean 3000 a difference of float32 squares has no digit left."""
    torch.manual_seed(0)
    theirs, ours = both()
    features = (mean + torch.randn(4, 3, 8, 20)).requires_grad_()
    exact = features.detach().double().requires_grad_()
    weight = torch.randn(4, 3, 8, 20)
    expected, got = theirs(exact), ours(features)
    torch.testing.assert_close(got, expected.float(), rtol=0, atol=2e-3)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    torch.testing.assert_close(features.grad, exact.grad.float(), rtol=0, atol=2e-3)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        value = getattr(theirs[0], name)
        torch.testing.assert_close(
            getattr(ours[0], name), value.to(getattr(ours[0], name).dtype), rtol=1e-4, atol=1e-4
        )


def test_bf16_in_bf16_out_with_float32_statistics() -> None:
    torch.manual_seed(0)
    theirs, ours = both()
    features = (5 + torch.randn(4, 3, 8, 20)).bfloat16()
    expected, got = theirs(features.double()), ours(features)
    assert got.dtype == torch.bfloat16
    assert ours[0].running_mean.dtype == torch.float32
    torch.testing.assert_close(got.float(), expected.float(), rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(ours[0].running_var, theirs[0].running_var.float())


def test_mixed_precision_trains() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    net = synchronise_batch_norms(net, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.randn(2, 1, 8, 8))
    out.float().mean().backward()
    assert out.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
