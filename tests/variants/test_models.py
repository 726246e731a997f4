"""What every variant's network must do, asked of all three alike."""

import importlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.memory import LiveTensors
from common.blocks import conv_layers, fuse, pad_to_multiple, parameters
from common.unet import UNet

VARIANTS = ("unet_64x400", "unet_128x800", "modified_unet")
SMALL = 8  # base channels wherever the width does not matter


@pytest.fixture(params=VARIANTS)
def build(request: pytest.FixtureRequest):
    return importlib.import_module(f"{request.param}.model").build_model


@pytest.fixture
def model(build) -> nn.Module:
    torch.manual_seed(0)
    return build(base_channels=SMALL)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lived_in(model: nn.Module) -> nn.Module:
    """The model in eval mode with statistics, gains and offsets unlike those it was born with."""
    model.train()
    for seed in range(3):
        model(images(2, 1, 32, 64, seed=seed) * 2 + 1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return model.eval()


@pytest.mark.parametrize("size", [(64, 400), (200, 1600), (37, 53), (1, 1), (8, 200)], ids=str)
@pytest.mark.parametrize("batch", [1, 2])
def test_logits_have_the_size_of_the_images(
    model: nn.Module, batch: int, size: tuple[int, int]
) -> None:
    with torch.inference_mode():
        logits = model.eval()(images(batch, 1, *size))
    assert logits.shape == (batch, 5, *size)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("base_channels", [1, 3, 16])
@pytest.mark.parametrize("num_classes", [2, 4, 7])
def test_any_width_and_number_of_classes(build, base_channels: int, num_classes: int) -> None:
    model = build(base_channels=base_channels, num_classes=num_classes)
    assert model(images(2, 1, 32, 48)).shape == (2, num_classes, 32, 48)


def test_gradient_reaches_every_parameter(model: nn.Module) -> None:
    target = torch.randint(5, (4, 64, 96), generator=torch.Generator().manual_seed(1))
    F.cross_entropy(model(images(4, 1, 64, 96)), target).backward()
    # Under 1e-8 is rounding: of a bias, say, that a batch norm behind it takes away again.
    dead = [
        name
        for name, p in model.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().max() < 1e-8
    ]
    assert not dead


def test_every_pixel_reaches_the_logits(model: nn.Module) -> None:
    pixels = images(1, 1, 45, 70).requires_grad_()
    model.eval()(pixels).square().sum().backward()
    assert (pixels.grad != 0).all()


def test_images_of_a_batch_do_not_mix_in_eval_mode(model: nn.Module) -> None:
    batch = images(3, 1, 40, 56)
    model = lived_in(model)
    with torch.inference_mode():
        together = model(batch)
        alone = torch.cat([model(image[None]) for image in batch])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_sides_that_do_not_divide_are_padded_by_repetition(model: nn.Module) -> None:
    model = lived_in(model)
    image = images(1, 1, 37, 53)
    height, width = (40, 56) if isinstance(model, UNet) else (48, 64)
    repeated = F.pad(image, (0, width - 53, 0, height - 37), mode="replicate")
    with torch.inference_mode():
        torch.testing.assert_close(model(image), model(repeated)[..., :37, :53])


def test_padding_repeats_the_last_row_and_column() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    padded = pad_to_multiple(image, 4)
    assert padded[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_multiple(image, 1) is image


def test_same_seed_same_network(build) -> None:
    def train_a_step(seed: int) -> Tensor:
        torch.manual_seed(seed)
        model = build(base_channels=SMALL)
        model(images(2, 1, 32, 32))  # in training mode: dropout takes part
        return model(images(2, 1, 32, 32))

    assert torch.equal(train_a_step(3), train_a_step(3))
    assert not torch.equal(train_a_step(3), train_a_step(4))


def test_fused_equals_unfused(model: nn.Module) -> None:
    model = lived_in(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse(model)
    batch = images(2, 1, 64, 96)
    with torch.inference_mode():
        expected = model(batch)
        torch.testing.assert_close(fused(batch), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.01  # a comparison of zeros would prove nothing
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert not any(module.training for module in fused.modules())
    assert conv_layers(fused) == conv_layers(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


def test_fuse_leaves_a_norm_without_a_convolution() -> None:
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)).train()
    assert isinstance(fuse(model)[1], nn.BatchNorm2d)
    assert model.training


def test_channels_last_gives_the_same(model: nn.Module) -> None:
    model = lived_in(model)
    batch = images(2, 1, 48, 64)
    with torch.inference_mode():
        expected = model(batch)
        model = model.to(memory_format=torch.channels_last)
        got = model(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_mixed_precision_is_finite_and_near(model: nn.Module) -> None:
    model = lived_in(model)
    batch = images(2, 1, 64, 96)
    with torch.no_grad():
        expected = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch).float()
    assert (logits - expected).abs().mean() < 0.05 * expected.std()
    F.cross_entropy(logits, torch.zeros(2, 64, 96, dtype=torch.long)).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_learns_a_tiny_batch(build) -> None:
    """A thin line and a patch, learnt to the pixel from scratch."""
    target = torch.zeros(2, 32, 32, dtype=torch.long)
    target[:, 5, 4:28] = 1
    target[:, 12:24, 10:24] = 2
    batch = images(2, 1, 32, 32) * 0.1 + (target == 1)[:, None] - (target == 2)[:, None].float()
    torch.manual_seed(0)
    model = build(base_channels=SMALL).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    for _ in range(50):
        logits = model(batch)
        loss = F.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    found = logits.argmax(1)
    for label in (1, 2):
        both = ((found == label) & (target == label)).sum()
        assert both / ((found == label) | (target == label)).sum() > 0.8


def test_traces_without_a_break(model: nn.Module) -> None:
    model = lived_in(model)
    batch = images(2, 1, 32, 48)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(batch), model(batch))


def test_exports_with_any_batch(model: nn.Module) -> None:
    model = fuse(lived_in(model))
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (images(2, 1, 37, 53),), dynamic_shapes=dynamic)
    batch = images(3, 1, 37, 53, seed=1)
    torch.testing.assert_close(program.module()(batch), model(batch), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_unet_has_the_planned_size(variant: str) -> None:
    model = importlib.import_module(f"{variant}.model").build_model()
    assert parameters(model) == pytest.approx(14.3e6, rel=0.01)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert conv_layers(model) == len(convolutions) == 18
    assert all(convolution.kernel_size == (3, 3) for convolution in convolutions)
    outputs = [c.out_channels for c in convolutions if isinstance(c, nn.Conv2d)]
    encoder, bottleneck = [64, 64, 128, 256, 256, 512], [256, 256]
    assert outputs == [*encoder, *bottleneck, 512, 512, 128, 128, 64, 64, 5]
    ups = [c.out_channels for c in convolutions if isinstance(c, nn.ConvTranspose2d)]
    assert ups == [512, 256, 64]


def test_unet_takes_several_channels() -> None:
    assert UNet(in_channels=3, base_channels=4)(images(1, 3, 16, 24)).shape == (1, 5, 16, 24)


def test_benchmark_counts_the_tensors_alive_at_once() -> None:
    image = torch.zeros(1, 1, 16, 16)  # given, not made: not counted
    with LiveTensors() as live:
        first = image + 1
        second = (first.view(-1) + 1).view_as(first)  # views share what they show
        first.add_(second)
        del first
        third = second + 1
    assert live.peak == 2 * third.nbytes
