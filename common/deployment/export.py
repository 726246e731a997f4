"""The work of `common.export`: a run as one ONNX file that is checked before it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch

from common import runs
from common import thresholds as thresholds_module
from common.dataset import splits
from common.dataset.images import find_images
from common.deployment import quantise
from common.deployment.agreement import check
from common.deployment.deploy import StripNetwork, trace
from common.errors import UserError
from common.files import publish, refusals_said, spare, try_folder
from common.inference import Segmenter
from common.labels import Labels, tables_beside
from common.pixels import read_image
from common.progress import in_threads
from common.thresholds import Thresholds

if TYPE_CHECKING:
    from common.export import Config

LEAST_AGREEMENT = 0.9999  # share of the pixels that must get the class PyTorch gives them
# ONNX Runtime's versions, with the highest opset and IR version that each reads.
RUNTIMES = (
    ("1.14", 18, 8), ("1.15", 19, 9), ("1.17", 20, 9), ("1.18", 21, 10),
)  # fmt: skip
OPSET = 20


def export(config: Config) -> int:
    """Runs the command. 0; 1 where --int8 was asked for and not worth keeping."""
    record = runs.load(config.run)
    labels = None if config.images else record.labels(config.data)
    images = strips_to_check(record, labels, config.images)
    everything = map(labels.path, labels.images) if labels else images
    spare([*everything, *tables_beside(config.out), *record.path.iterdir()], config.out)
    with refusals_said(config.out):
        try_folder(config.out.parent)
    height, width = read_image(images[0]).shape
    strip_size = config.height or height, config.width or width
    images = _of_size(images, strip_size, config.limit)

    content = checked(record, images, strip_size, config.opset)
    with refusals_said(config.out):
        publish(config.out, content)
    print(f"{config.out}: {len(content) / 2**20:.1f} MB, {_format(onnx.load_from_string(content))}")
    if not config.int8:
        return 0
    thresholds = thresholds_module.load(record.path, record.num_classes - 1)
    verdict = quantise.attempt(content, thresholds, labels, [path.name for path in images])
    print(verdict)
    int8_path = config.out.with_suffix(".int8.onnx")
    if not verdict.kept:
        int8_path.unlink(missing_ok=True)  # one from an earlier export would pass for this one's
        return 1
    with refusals_said(int8_path):
        publish(int8_path, verdict.content)
    print(f"{int8_path}: {len(verdict.content) / 2**20:.1f} MB")
    return 0


def strips_to_check(record: runs.Run, labels: Labels | None, folder: Path | None) -> list[Path]:
    """The images in `folder`, if one is given, else those of the run's val part."""
    if folder is not None:
        return find_images([str(folder)])
    return list(map(labels.path, splits.part_of(record.path, "val", labels)))


def checked_strips(record: runs.Run, labels: Labels | None, folder: Path | None) -> bytes:
    """`checked` on all `strips_to_check` that have the size of the first."""
    images = strips_to_check(record, labels, folder)
    strip_size = read_image(images[0]).shape
    return checked(record, _of_size(images, strip_size, None), strip_size)


def checked(
    record: runs.Run, images: Sequence[Path], strip_size: tuple[int, int], opset: int = OPSET
) -> bytes:
    """The content of an ONNX file that gives the `images`, all of `strip_size`, PyTorch's masks.

    Raises UserError where fewer than LEAST_AGREEMENT of the pixels do.
    """
    segmenter = Segmenter(record, torch.device("cpu"))
    thresholds = thresholds_module.load(record.path, record.num_classes - 1)
    model = to_onnx(StripNetwork(segmenter, thresholds, strip_size), strip_size, opset)
    add_metadata(model, record, thresholds, strip_size)
    content = model.SerializeToString()
    agreement = check(content, segmenter, thresholds, images)
    if agreement.share < LEAST_AGREEMENT:
        raise UserError(
            f"not exported: {agreement}; {LEAST_AGREEMENT:.2%} are needed.\nNothing was written."
        )
    print(agreement)
    return content


def to_onnx(
    network: StripNetwork, strip_size: tuple[int, int], opset: int = OPSET
) -> onnx.ModelProto:
    """The network as an ONNX graph; the batch is free, and so is the size where nothing resizes."""
    free = {0: "batch"}
    example = torch.zeros(2, *strip_size, dtype=torch.uint8)
    if isinstance(network.resize, torch.nn.Identity):
        free |= {1: "height", 2: "width"}
        # Odd sides, so that no step is left out for being needless at the example's size.
        example = torch.zeros(2, strip_size[0] + 1, strip_size[1] + 1, dtype=torch.uint8)
    model = trace(network, example, ["strips"], ["probabilities", "label_map"], free, opset)
    _name_output_sizes(model)
    # The exporter stamps its newest format on any file, which older runtimes then refuse.
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    return model


def add_metadata(
    model: onnx.ModelProto,
    record: runs.Run,
    thresholds: Thresholds | None,
    strip_size: tuple[int, int],
) -> None:
    """Writes what a consumer must know, and where the network comes from, into the file."""
    facts = {
        "variant": record.variant,
        "run": record.name,
        "git_commit": record.git_commit or "",
        "data_fingerprint": record.data["fingerprint"],
        "classes": json.dumps(list(range(1, record.num_classes))),
        "class_names": json.dumps(record.data.get("class_names", {})),
        "thresholds": json.dumps(thresholds and thresholds.probability),
        "peaks": json.dumps(thresholds and thresholds.peak),
        "least_areas": json.dumps(thresholds and thresholds.area),
        "least_totals": json.dumps(thresholds and thresholds.total),
        "bits": str(record.bits),  # of 16-bit strips, to be brought down to 8 before
        "strip_size": json.dumps(strip_size),
        "network_size": json.dumps(record.size),
        "opset": str(_opset(model)),
        "ir_version": str(model.ir_version),
        "oldest_onnxruntime": oldest_runtime(model),
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)


def oldest_runtime(model: onnx.ModelProto) -> str:
    """The first ONNX Runtime that reads the file's operators and its format.

    By its own table: https://onnxruntime.ai/docs/reference/compatibility.html
    """
    opset, ir_version = _opset(model), model.ir_version
    return next(name for name, *most in RUNTIMES if opset <= most[0] and ir_version <= most[1])


def _of_size(images: Sequence[Path], size: tuple[int, int], limit: int | None) -> list[Path]:
    """Those of the images that have this size, at most `limit`, evenly spread."""
    shapes = in_threads(lambda path: read_image(path).shape, images)
    chosen = [path for path, shape in zip(images, shapes, strict=True) if shape == size]
    if not chosen:
        raise UserError(
            f"no image is {size[0]}x{size[1]} pixels: there is nothing to check the file on.\n"
            "Name the size of the strips with --height and --width."
        )
    if len(chosen) < len(images):
        print(f"{len(images) - len(chosen)} images of other sizes are left out of the check")
    return chosen[:: -(-len(chosen) // limit)] if limit else chosen


def _name_output_sizes(model: onnx.ModelProto) -> None:
    """Both outputs are as long, high and wide as the input; the exporter says it in formulas."""
    batch, height, width = model.graph.input[0].type.tensor_type.shape.dim
    for output in model.graph.output:
        own = output.type.tensor_type.shape.dim
        own[0].CopyFrom(batch)
        own[-2].CopyFrom(height)
        own[-1].CopyFrom(width)


def _opset(model: onnx.ModelProto) -> int:
    return next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))


def _format(model: onnx.ModelProto) -> str:
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    shape = " x ".join(d.dim_param or str(d.dim_value) for d in dimensions)
    return (
        f"strips {shape}; opset {_opset(model)}, IR version {model.ir_version}, "
        f"ONNX Runtime {oldest_runtime(model)} or newer"
    )
