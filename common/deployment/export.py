"""The work of `common.export`: a run as one ONNX file that is checked before it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch

from common import labels as labels_module
from common import runs
from common import thresholds as thresholds_module
from common.dataset import splits
from common.dataset.stream import ahead
from common.deployment import quantise
from common.deployment.agreement import check
from common.deployment.deploy import StripNetwork, trace
from common.errors import UserError
from common.files import publish, spare
from common.inference import Segmenter
from common.labels import Labels, read_image, tables_beside
from common.machine import cores
from common.thresholds import Thresholds

if TYPE_CHECKING:
    from common.export import Config

LEAST_AGREEMENT = 0.9999  # share of the val pixels that must get the class PyTorch gives them


def export(config: Config) -> int:
    """Runs the command. 0; 1 where --int8 was asked for and not worth keeping."""
    record = runs.load(config.run)
    labels = labels_module.load(config.data or record.data["root"])
    images = map(labels.path, labels.images)
    spare([*images, *tables_beside(config.out), *record.path.iterdir()], config.out)
    names = splits.part_of(record.path, "val", labels)
    strip_size = _strip_size(config, read_image(labels.path(names[0])).shape)
    names = _of_size(labels, names, strip_size, config.limit)

    segmenter = Segmenter(record, torch.device("cpu"))
    thresholds = thresholds_module.load(record.path, record.num_classes - 1)
    model = to_onnx(StripNetwork(segmenter, thresholds, strip_size), strip_size)
    add_metadata(model, record, thresholds, strip_size)
    content = model.SerializeToString()
    agreement = check(content, segmenter, thresholds, labels, names)
    if agreement.share < LEAST_AGREEMENT:
        raise UserError(
            f"not exported: {agreement}; {LEAST_AGREEMENT:.2%} are needed.\n"
            f"Nothing was written to {config.out}."
        )
    print(agreement)
    _publish(config.out, content)
    print(f"{config.out}: {len(content) / 2**20:.1f} MB, strips {_shape(model)}")
    if not config.int8:
        return 0
    verdict = quantise.attempt(content, thresholds, labels, names)
    print(verdict)
    int8_path = config.out.with_suffix(".int8.onnx")
    if not verdict.kept:
        int8_path.unlink(missing_ok=True)  # one from an earlier export would pass for this one's
        return 1
    _publish(int8_path, verdict.content)
    print(f"{int8_path}: {len(verdict.content) / 2**20:.1f} MB")
    return 0


def to_onnx(network: StripNetwork, strip_size: tuple[int, int]) -> onnx.ModelProto:
    """The network as an ONNX graph; the batch is free, and so is the size where nothing resizes."""
    free = {0: "batch"}
    example = torch.zeros(2, *strip_size, dtype=torch.uint8)
    if isinstance(network.resize, torch.nn.Identity):
        free |= {1: "height", 2: "width"}
        # Odd sides, so that no step is left out for being needless at the example's size.
        example = torch.zeros(2, strip_size[0] + 1, strip_size[1] + 1, dtype=torch.uint8)
    model = trace(network, example, ["strips"], ["probabilities", "label_map"], free)
    _name_output_sizes(model)
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
        "strip_size": json.dumps(strip_size),
        "network_size": json.dumps(record.size),
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)


def _strip_size(config: Config, found: tuple[int, int]) -> tuple[int, int]:
    return config.height or found[0], config.width or found[1]


def _of_size(
    labels: Labels, names: Sequence[str], size: tuple[int, int], limit: int | None
) -> list[str]:
    """Those of the images that have this size, at most `limit`, evenly spread."""
    with ThreadPoolExecutor(cores()) as pool:
        shapes = ahead(lambda name: read_image(labels.path(name)).shape, names, pool, 32)
        chosen = [name for name, shape in zip(names, shapes, strict=True) if shape == size]
    if not chosen:
        raise UserError(
            f"no val image is {size[0]}x{size[1]} pixels: there is nothing to check the file on.\n"
            "Name the size of the strips with --height and --width."
        )
    if len(chosen) < len(names):
        print(f"{len(names) - len(chosen)} val images of other sizes are left out of the check")
    return chosen[:: -(-len(chosen) // limit)] if limit else chosen


def _publish(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _name_output_sizes(model: onnx.ModelProto) -> None:
    """Both outputs are as long, high and wide as the input; the exporter says it in formulas."""
    batch, height, width = model.graph.input[0].type.tensor_type.shape.dim
    for output in model.graph.output:
        own = output.type.tensor_type.shape.dim
        own[0].CopyFrom(batch)
        own[-2].CopyFrom(height)
        own[-1].CopyFrom(width)


def _shape(model: onnx.ModelProto) -> str:
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    return " x ".join(d.dim_param or str(d.dim_value) for d in dimensions)
