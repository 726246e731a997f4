import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common import inference, runs
from common.inference import Segmenter, at_size, upsample, upsampled_bands


@pytest.fixture(scope="module")
def run(bare_run):
    return runs.load(bare_run)


@pytest.fixture(scope="module")
def segmenter(run):
    return Segmenter(run, torch.device("cpu"))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_preprocessing_resizes_and_normalises_images_of_any_sizes(segmenter):
    images = [noise(64, 192), noise(32, 96), noise(50, 300)]
    batch = segmenter.preprocess(images)
    assert batch.dtype == torch.float32
    assert batch.shape == (3, 1, 32, 96)
    for pixels, image in zip(batch[:, 0].numpy(), images, strict=True):
        resized = cv2.resize(image, (96, 32), interpolation=cv2.INTER_AREA)
        assert pixels == pytest.approx((resized / 255 - 0.4) / 0.2, abs=1e-5)


def test_the_network_is_the_trained_one_with_its_norms_folded(run, segmenter):
    batch = segmenter.preprocess([noise(32, 96), noise(32, 96, seed=1)])
    with torch.inference_mode():
        expected = run.build_model()(batch)
    found = segmenter.logits(batch)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in segmenter.network.modules())


def test_probabilities_have_the_image_size_and_come_from_upsampled_logits(run, segmenter):
    images = [noise(64, 320), noise(64, 320, seed=1)]
    found = segmenter.probabilities(images)
    assert found.shape == (2, run.num_classes, 64, 320)
    logits = segmenter.logits(segmenter.preprocess(images))
    expected = F.interpolate(logits, (64, 320), mode="bilinear").softmax(1)
    assert torch.equal(found, expected)
    assert torch.allclose(found.sum(1), torch.ones(2, 64, 320), atol=1e-5)


def test_upsampling_keeps_what_has_the_size_and_interpolates_between_pixel_centres():
    logits = torch.tensor([[0.0, 4.0]]).view(1, 1, 1, 2)
    assert upsample(logits, (1, 2)) is logits
    assert upsample(logits, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
    assert at_size(torch.tensor([0.0, np.log(3)]).view(1, 2, 1, 1), (1, 1)).flatten().tolist() == (
        pytest.approx([0.25, 0.75])
    )


@pytest.mark.parametrize("size", [(64, 90), (31, 50), (9, 17), (5, 3), (7, 11)])
@pytest.mark.parametrize("band", [1, 100, 10_000])
def test_bands_are_the_whole_in_parts(size, band, monkeypatch):
    """Sizes above and below that of the logits, and bands of one row, of several, of all."""
    monkeypatch.setattr(inference, "BAND", band)
    logits = torch.randn(1, 3, 7, 11, generator=torch.Generator().manual_seed(0))
    whole, found = upsample(logits, size), torch.full((1, 3, *size), torch.nan)
    for rows, part in upsampled_bands(logits, size):
        assert part.shape[2] * size[1] <= max(band, size[1]) or size == (7, 11)
        found[:, :, rows] = part
    assert torch.allclose(found, whole, atol=1e-5)
    assert torch.allclose(at_size(logits, size), whole.softmax(1), atol=1e-5)


def test_bf16_gives_nearly_the_same_logits(run, segmenter):
    batch = segmenter.preprocess([noise(32, 96)])
    rough = Segmenter(run, torch.device("cpu"), precision="bf16").logits(batch)
    exact = segmenter.logits(batch)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.05 * exact.abs().max()
