"""Ways to run one network on one strip at a time, each split into the same stages."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.deployment.deploy import StripNetwork, open_session, trace
from common.deployment.export import to_onnx
from common.inference import Segmenter, upsample
from common.resize import resize_labels
from common.runs import Run, new_model
from common.thresholds import Thresholds, decide_logits

EXPORTED = ", exported file"  # ends the names of ways whose network stage holds nearly everything


@dataclass(frozen=True)
class Way:
    """The stages between a decoded strip (H, W) uint8 and its label map (H, W) uint8.

    prepare: strip -> the network's input. infer: input -> output, finished when it returns.
    decide: output, (H, W) -> label map. pretend: output, label map -> an output of the same kind
    that says what the label map says.
    """

    prepare: Callable[[np.ndarray], Any]
    infer: Callable[[Any], Any]
    decide: Callable[[Any, tuple[int, int]], np.ndarray]
    pretend: Callable[[Any, np.ndarray], Any]


@dataclass(frozen=True)
class Untrained(Run):
    """A run that was never trained: its network has random weights."""

    def build_model(self, device: torch.device | str = "cpu") -> torch.nn.Module:
        torch.manual_seed(0)
        return new_model(self.variant, self.model).to(device).eval()


def untrained(variant: str, size: tuple[int, int]) -> Untrained:
    """An untrained network of default width for 4 defect classes, at an input size."""
    return Untrained(
        path=Path(variant),
        variant=variant,
        options={"height": size[0], "width": size[1]},
        model={"num_classes": 5},
        normalisation=(0.4, 0.2),
        data={},
        baselines={},
        git_commit=None,
        wandb_id="",
    )


def ways(device: torch.device) -> dict[str, Callable[[Run, Thresholds, tuple[int, int]], Way]]:
    """Ways to build, by name, that this machine offers; says which it leaves out and why.

    Each takes a run, its thresholds and the size of the strips.
    """
    if device.type == "cuda":
        return {
            "PyTorch fp32": lambda run, rule, _: _pytorch(run, rule, device, "fp32"),
            "PyTorch bf16": lambda run, rule, _: _pytorch(run, rule, device, "bf16"),
            "PyTorch bf16 compiled": lambda run, rule, _: _compiled(run, rule, device, "bf16"),
            "CUDA graph bf16": lambda run, rule, _: _cuda_graph(run, rule, device),
        }
    found = {"PyTorch": lambda run, rule, _: _pytorch(run, rule, device, "fp32")}
    if any(map(shutil.which, ("g++", "c++", "clang++"))):
        found["PyTorch compiled"] = lambda run, rule, _: _compiled(run, rule, device, "fp32")
    else:
        print("left out: PyTorch compiled (torch.compile needs a C++ compiler, such as g++)")
    found["ONNX Runtime"] = lambda run, rule, _: _onnxruntime(run, rule)
    found[f"ONNX Runtime{EXPORTED}"] = _file_in_onnxruntime
    if not importlib.util.find_spec("openvino"):
        print("left out: OpenVINO (pip install openvino)")
        return found
    found["OpenVINO"] = lambda run, rule, _: _openvino(run, rule, "f32")
    found[f"OpenVINO{EXPORTED}"] = _file_in_openvino
    if "BF16" in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        found["OpenVINO bf16"] = lambda run, rule, _: _openvino(run, rule, "bf16")
    return found


def _pytorch(run: Run, rule: Thresholds, device: torch.device, precision: str) -> Way:
    return _around(Segmenter(run, device, precision), rule)


def _compiled(run: Run, rule: Thresholds, device: torch.device, precision: str) -> Way:
    segmenter = Segmenter(run, device, precision)
    segmenter.network = torch.compile(segmenter.network, dynamic=False)
    return _around(segmenter, rule)


def _cuda_graph(run: Run, rule: Thresholds, device: torch.device) -> Way:
    """All kernels of the network recorded once and started together: no launch time a layer."""
    segmenter = Segmenter(run, device, "bf16")
    pixels = torch.zeros(1, 1, *run.size, device=device)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):  # libraries choose their kernels before the recording
        for _ in range(3):
            segmenter.logits(pixels)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = segmenter.logits(pixels)

    def infer(batch: torch.Tensor) -> torch.Tensor:
        pixels.copy_(batch)
        graph.replay()
        return logits

    return _around(segmenter, rule, infer)


def _onnxruntime(run: Run, rule: Thresholds) -> Way:
    segmenter = Segmenter(run, torch.device("cpu"))
    session = open_session(_network_file(segmenter))

    def infer(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {"pixels": batch.numpy()})[0])

    return _around(segmenter, rule, infer)


def _openvino(run: Run, rule: Thresholds, precision: str) -> Way:
    segmenter = Segmenter(run, torch.device("cpu"))
    compute = _openvino_request(_network_file(segmenter), (1, 1, *run.size), precision)

    def infer(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compute(batch.numpy())["logits"])

    return _around(segmenter, rule, infer)


def _file_in_onnxruntime(run: Run, rule: Thresholds, strip_size: tuple[int, int]) -> Way:
    session = open_session(_exported_file(run, rule, strip_size))
    return _whole(lambda strips: session.run(["label_map"], {"strips": strips})[0])


def _file_in_openvino(run: Run, rule: Thresholds, strip_size: tuple[int, int]) -> Way:
    compute = _openvino_request(_exported_file(run, rule, strip_size), (1, *strip_size), "f32")
    return _whole(lambda strips: compute(strips)["label_map"])


def _openvino_core() -> Any:
    import openvino  # optional: `ways` has looked whether it is there

    return openvino.Core()


def _openvino_request(model: bytes, shape: tuple[int, ...], precision: str) -> Callable[..., Any]:
    """Computes an ONNX model's outputs, by name, from one input array of this shape."""
    core = _openvino_core()
    network = core.read_model(model)
    network.reshape(list(shape))
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # else every process takes the first cores
        "INFERENCE_PRECISION_HINT": precision,  # by default bf16 where the processor has it
    }
    request = core.compile_model(network, "CPU", options).create_infer_request()
    return lambda array: request.infer([array], share_inputs=True)


def _exported_file(run: Run, rule: Thresholds, strip_size: tuple[int, int]) -> bytes:
    """What `common.export` writes."""
    network = StripNetwork(Segmenter(run, torch.device("cpu")), rule, strip_size)
    return to_onnx(network, strip_size).SerializeToString()


def _network_file(segmenter: Segmenter) -> bytes:
    """The network alone as ONNX: `pixels` (1, 1, h, w) float32 -> logits."""
    example = torch.zeros(1, 1, *segmenter.run.size)
    return trace(segmenter.network, example, ["pixels"], ["logits"]).SerializeToString()


def _whole(infer: Callable[[np.ndarray], np.ndarray]) -> Way:
    """A way that does all but decoding, least areas and RLE in the exported file."""
    return Way(
        prepare=lambda strip: strip[None],
        infer=infer,
        decide=lambda label_maps, _: label_maps[0],
        pretend=lambda _, label_map: label_map[None],
    )


def _around(
    segmenter: Segmenter,
    rule: Thresholds,
    infer: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Way:
    """A way whose stages but the network are `Segmenter`'s; infer: the network, if not its own."""
    device, infer = segmenter.device, infer or segmenter.logits

    def waited(compute: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*arguments: Any) -> torch.Tensor:
            result = compute(*arguments)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return result

        return call

    def pretend(logits: torch.Tensor, label_map: np.ndarray) -> torch.Tensor:
        small = torch.from_numpy(resize_labels(label_map, logits.shape[-2:]))
        index = small[None, None].to(logits.device, torch.int64)
        return torch.full_like(logits, -10).scatter_(1, index, 10)

    return Way(
        prepare=waited(lambda strip: segmenter.preprocess([strip])),
        infer=waited(infer),
        decide=lambda logits, size: decide_logits(upsample(logits, size), rule)[0][0].numpy(
            force=True
        ),
        pretend=waited(pretend),
    )
