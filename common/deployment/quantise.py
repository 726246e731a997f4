"""8-bit arithmetic for an exported network, kept only where it is faster and nearly as good."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from common.dataset.stream import ahead
from common.deployment.deploy import open_session
from common.labels import Labels
from common.machine import cores
from common.metrics import confusion, scores
from common.progress import tqdm
from common.thresholds import Thresholds, drawn_probability, keep

MOST_LOSS = 0.01  # of positive Dice on val
CALIBRATION_IMAGES = 64
ROUNDS = 30  # timed strips of either file, in turns


@dataclass(frozen=True)
class Verdict:
    """Whether the 8-bit file is worth keeping. dice: positive Dice on val; ms: a strip, median."""

    content: bytes
    dice: float
    dice_int8: float
    ms: float
    ms_int8: float

    @property
    def kept(self) -> bool:
        return self.dice - self.dice_int8 < MOST_LOSS and self.ms_int8 < self.ms

    def __str__(self) -> str:
        return (
            f"int8 {'kept' if self.kept else 'NOT kept'}: "
            f"positive Dice on val {self.dice_int8:.4f} against {self.dice:.4f} (may lose under "
            f"{MOST_LOSS:g}), {self.ms_int8:.1f} ms a strip against {self.ms:.1f} (must be faster)"
        )


def attempt(
    content: bytes, thresholds: Thresholds | None, labels: Labels, names: Sequence[str]
) -> Verdict:
    """Quantises the network of an exported file and compares the two on the images `names`."""
    step = -(-len(names) // CALIBRATION_IMAGES)
    quantised = quantise(content, map(labels.read, names[::step]))
    sessions = open_session(content), open_session(quantised)
    dice = [positive_dice(session, thresholds, labels, names) for session in sessions]
    images = list(map(labels.read, names[:ROUNDS]))
    return Verdict(quantised, *dice, *milliseconds(sessions, images))


def quantise(content: bytes, calibration: Iterable[np.ndarray]) -> bytes:
    """The file with its network in 8 bits, ranges taken from the `calibration` images (H, W) uint8.

    Everything before the first convolution and behind the last keeps its precision.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / f"{n}.onnx" for n in ("a", "b", "c"))
        source.write_bytes(content)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Strips(calibration),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_outside_the_network(onnx.load(prepared)),
        )
        return target.read_bytes()


def positive_dice(
    session: InferenceSession,
    thresholds: Thresholds | None,
    labels: Labels,
    names: Sequence[str],
) -> float:
    """Mean Dice over the pairs of image and class that show a defect, at native size."""
    num_classes = labels.num_classes + 1
    confusions = []
    with ThreadPoolExecutor(cores()) as pool:
        images = ahead(labels.read, names, pool, 8)
        bar = tqdm(zip(names, images, strict=True), "Dice", len(names), unit="image", leave=False)
        for name, image in bar:
            label_map, probabilities = (
                output[0]
                for output in session.run(["label_map", "probabilities"], {"strips": image[None]})
            )
            predicted = keep(label_map, drawn_probability(label_map, probabilities), thresholds)
            truth = labels.label_map(name, image.shape)
            confusions.append(confusion(predicted[None], truth[None], num_classes))
    return scores(torch.cat(confusions))["dice_positive"]


def milliseconds(sessions: Iterable[InferenceSession], images: Sequence[np.ndarray]) -> list[float]:
    """Median time of each session for one strip, measured in turns on the same images."""
    seconds = []
    for turn in range(-1, ROUNDS):  # the first warms up
        strip = {"strips": images[turn % len(images)][None]}
        row = []
        for session in sessions:
            start = time.perf_counter()
            session.run(["label_map"], strip)
            row.append(time.perf_counter() - start)
        seconds.append(row)
    return (1000 * np.median(seconds[1:], axis=0)).tolist()


def _outside_the_network(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes before the first convolution and behind the last."""
    nodes = model.graph.node
    convolutions = [i for i, node in enumerate(nodes) if node.op_type.startswith("Conv")]
    inside = range(convolutions[0], convolutions[-1] + 1)
    return [node.name for i, node in enumerate(nodes) if i not in inside]


class _Strips(CalibrationDataReader):
    def __init__(self, images: Iterable[np.ndarray]) -> None:
        bar = tqdm(images, "calibrate", unit="image", leave=False)
        self._inputs = ({"strips": image[None]} for image in bar)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)
