"""Muon: against `torch.optim.Muon`, against singular values, and its steps that must not happen."""

import pytest
import torch

from common.training.muon import Muon, orthogonal

GOOD, BAD = torch.tensor(0.0), torch.tensor(1.0)


def weights(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]


def give_grads(params: list[torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize("shape", [(6, 24), (24, 6), (8, 8), (1, 9), (9, 1)])
def test_equals_torch_muon(shape: tuple[int, int]) -> None:
    ours, theirs = weights(shape), weights(shape)
    # torch's multiplies matrices in bfloat16, and so do we here.
    muon = Muon(ours, lr=0.01, weight_decay=0.1, momentum=0.95, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, momentum=0.95)
    before = ours[0].detach().clone()
    for seed in range(3):
        give_grads(ours, seed)
        give_grads(theirs, seed)
        muon.step(GOOD)
        reference.step()
    assert (ours[0] - before).abs().max() > 0.01
    torch.testing.assert_close(ours[0], theirs[0], atol=5e-4, rtol=0)


@pytest.mark.parametrize("shape", [(2, 6, 24), (1, 24, 6), (3, 16, 16)])
def test_orthogonal_brings_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    u, values, vh = torch.linalg.svd(weights(shape)[0].detach(), full_matrices=False)
    matrices = u @ torch.diag_embed(values.clamp(min=0.3)) @ vh
    result = orthogonal(matrices)
    new = torch.linalg.svdvals(result)
    assert new.min() > 0.65
    assert new.max() < 1.25
    # The singular vectors stay: in their bases the result is diagonal.
    inner = u.mT @ result @ vh.mT
    assert (inner - torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-4


def test_scale_of_the_gradient_does_not_matter() -> None:
    matrices = weights((2, 4, 9))[0].detach()
    small, large = orthogonal(0.01 * matrices), orthogonal(100 * matrices)
    torch.testing.assert_close(small, large, atol=1e-4, rtol=0)


def test_zero_gradient_moves_nothing() -> None:
    (weight,) = weights((4, 2, 3, 3))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.1).step(GOOD)
    assert torch.equal(weight, before)


def test_a_convolution_is_a_matrix_of_outputs_by_everything_else() -> None:
    kernel = weights((6, 4, 3, 3))[0]
    matrix = torch.nn.Parameter(kernel.detach().flatten(1).clone())
    (last,) = weights((6, 4, 3, 3))
    last.data = last.data.to(memory_format=torch.channels_last)
    for p in (kernel, matrix, last):
        grad = torch.randn(6, 36, generator=torch.Generator().manual_seed(1))
        p.grad = grad.view(p.shape)
        Muon([p], lr=0.1, weight_decay=0.1).step(GOOD)
    torch.testing.assert_close(kernel.flatten(1), matrix)
    assert torch.equal(kernel, last)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_weights_of_one_shape_do_not_mix() -> None:
    shapes = [(4, 2, 3, 3), (4, 18), (3, 5), (4, 2, 3, 3)]
    together, alone = weights(*shapes), weights(*shapes)
    muon, single = Muon(together, lr=0.1), [Muon([p], lr=0.1) for p in alone]
    for seed in range(2):
        give_grads(together, seed)
        give_grads(alone, seed)
        muon.step(GOOD)
        for one in single:
            one.step(GOOD)
    for p, q in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q)


def test_a_bad_step_leaves_weights_and_momentum() -> None:
    params = weights((4, 9), (4, 9))
    muon = Muon(params, lr=0.1, weight_decay=0.5)
    give_grads(params, 0)
    muon.step(GOOD)
    before = [p.detach().clone() for p in params]
    momentum = [muon.state[p]["momentum"].clone() for p in params]
    params[0].grad.fill_(torch.nan)
    muon.step(BAD)
    for p, kept, moved in zip(params, before, momentum, strict=True):
        assert torch.equal(p, kept)
        assert torch.equal(muon.state[p]["momentum"], moved)


def test_weights_without_a_gradient_stay() -> None:
    params = weights((4, 9), (4, 9))
    give_grads(params[:1], 0)
    before = params[1].detach().clone()
    Muon(params, lr=0.1, weight_decay=0.5).step(GOOD)
    assert torch.equal(params[1], before)
