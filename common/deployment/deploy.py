"""A run as one network without any code of ours around it: raw strips in, masks out.

Everything that `Segmenter` does in Python is here arithmetic on tensors, so that it can be
exported: the resize to the network's size, normalisation, upsampling, softmax and the decision.
"""

from __future__ import annotations

import functools
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from common.inference import Segmenter, upsample
from common.resize import HALF_UP
from common.thresholds import Thresholds, decide


class StripNetwork(nn.Module):
    """Strips (N, H, W) uint8 -> probabilities (N, C, H, W) float32, label maps (N, H, W) uint8.

    The label maps are drawn by the thresholds where there are some, else by the most probable
    class; which components are kept is left to the caller. Where the network's size is the strips'
    own, strips of any other size go through at their own scale, without a resize; `Segmenter`
    resizes them.
    """

    def __init__(
        self, segmenter: Segmenter, thresholds: Thresholds | None, strip_size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.network = segmenter.network
        self.thresholds = thresholds
        self.mean, self.std = segmenter.run.normalisation
        resizes = tuple(strip_size) != segmenter.run.size
        self.resize = Resize(strip_size, segmenter.run.size) if resizes else nn.Identity()

    def forward(self, strips: Tensor) -> tuple[Tensor, Tensor]:
        grey = self.resize(strips[:, None].float())
        logits = upsample(self.network((grey / 255 - self.mean) / self.std), strips.shape[1:])
        probabilities = _softmax(logits)
        return probabilities, decide(probabilities, self.thresholds)


class Resize(nn.Module):
    """`common.resize.resize_image` between two fixed sizes, on grey values (N, 1, H, W) float.

    By area it is OpenCV's result to the last bit: the same float32 sums in the same order, so that
    halves are rounded the same way too. Enlarging, the sums may differ in their last bits; the
    grey values agree but for the few that come within these bits of where rounding turns.
    """

    def __init__(self, source: Sequence[int], target: Sequence[int]) -> None:
        super().__init__()
        self.by_area = target[0] <= source[0] and target[1] <= source[1]
        blocks = self.by_area and not any(s % t for s, t in zip(source, target, strict=True))
        self.block = (source[0] // target[0], source[1] // target[1]) if blocks else None
        taps = area_taps if self.by_area else linear_taps
        for name, length, new_length in zip(("row", "column"), source, target, strict=True):
            index, weight = taps(length, new_length)
            self.register_buffer(f"{name}_index", index)
            self.register_buffer(f"{name}_weight", weight[:, :, None] if name == "row" else weight)

    def forward(self, images: Tensor) -> Tensor:
        if self.block:
            return self._means_of_blocks(images)
        images = _weigh(images, self.column_index, self.column_weight, dim=3)
        images = _weigh(images, self.row_index, self.row_weight, dim=2)
        return images.round() if self.by_area else (images + HALF_UP).floor()

    def _means_of_blocks(self, images: Tensor) -> Tensor:
        height, width = self.block
        sums = images.unflatten(3, (-1, width)).unflatten(2, (-1, height)).sum((3, 5))
        means = sums * torch.tensor(1 / (height * width), dtype=torch.float32)
        # OpenCV rounds a half up in blocks of 2x2, to the even number in all others.
        return (means + 0.5).floor() if self.block == (2, 2) else means.round()


def _weigh(values: Tensor, index: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Sums, tap by tap, of the `values` at index[k] along `dim`, each times weight[k]."""
    taps = (values.index_select(dim, i) * w for i, w in zip(index, weight, strict=True))
    return functools.reduce(torch.add, taps)


def area_taps(source: int, target: int) -> tuple[Tensor, Tensor]:
    """How a line of `source` pixels becomes `target`: index int64, weight float32, (K, target).

    New pixel i is the sum over k of weight[k, i] * line[index[k, i]]: the pixels that it covers, by
    the share of it that each fills. As OpenCV has it, shares below a thousandth of a pixel are
    left out; those not needed have weight 0.
    """
    scale = source / target
    index = np.zeros((math.ceil(scale) + 1, target), np.int64)
    weight = np.zeros(index.shape, np.float32)
    for i in range(target):
        start, end = i * scale, min((i + 1) * scale, source)
        pixels = np.arange(math.floor(start + 1e-3), math.ceil(end - 1e-3))
        covered = np.minimum(end, pixels + 1) - np.maximum(start, pixels)
        index[: len(pixels), i] = pixels
        weight[: len(pixels), i] = covered / (end - start)
    return torch.from_numpy(index), torch.from_numpy(weight)


def linear_taps(source: int, target: int) -> tuple[Tensor, Tensor]:
    """The same for linear interpolation between pixel centres: K is 2."""
    centre = ((np.arange(target) + 0.5) * source / target - 0.5).clip(0, source - 1)
    left = np.floor(centre).astype(np.int64)
    index = np.stack([left, np.minimum(left + 1, source - 1)])
    weight = np.stack([1 - (centre - left), centre - left]).astype(np.float32)
    return torch.from_numpy(index), torch.from_numpy(weight)


def trace(
    network: nn.Module,
    example: Tensor,
    inputs: Sequence[str],
    outputs: Sequence[str],
    free: dict[int, str] | None = None,
    opset: int | None = None,
) -> onnx.ModelProto:
    """The network as an ONNX graph with named inputs and outputs.

    example: an input to follow through the network. free: its dimensions that may vary, by name.
    opset: of the graph's operators; None takes PyTorch's own choice.
    """
    with _quiet_exporter():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(free,) if free else None,
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    return program.model_proto


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU with as many threads as PyTorch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over dimension 1, spelled out: onnxruntime's own is eight times slower there."""
    exponentials = (logits - logits.amax(1, keepdim=True)).exp()
    return exponentials / exponentials.sum(1, keepdim=True)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's remarks on its own parts (optional packages, deprecated calls)."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
