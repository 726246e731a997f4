"""What `tests.fuzz` tries of a run's files and of images: only a UserError may escape."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch
from torch import nn

from common import checkpoint, runs, thresholds
from common.config import TrainConfig
from common.dataset import splits
from common.errors import UserError
from common.labels import Labels
from common.pixels import BITS, read_image
from common.training import record
from common.training.step import MuonAdamW
from tests.fuzz_annotations import JSON

IMAGES = ("a.jpg", "b.png", "c.bmp")
CLASSES = 4
LABELS = Labels(Path("set"), Path("set/train_images"), IMAGES, {}, {"a.jpg": "x"}, CLASSES)
NETWORK = nn.Conv2d(1, 1, 1)


def fuzz_config(root: Path, data: bytes) -> None:
    """A run whose parts are of the types that commands rely on."""
    _write(root / "config.json", data)
    try:
        run = runs.load(root)
    except UserError:
        return
    assert all(side > 0 for side in run.size)
    assert 2 <= run.num_classes <= 256
    assert len(run.class_titles) == run.num_classes - 1
    assert run.bits in BITS
    assert run.normalisation[1] > 0


def fuzz_split(root: Path, data: bytes) -> None:
    """A table of known images, each once, in parts none of which is empty."""
    _write(root / "split.csv", data)
    try:
        found = splits.read(root / "split.csv", LABELS)
    except UserError:
        return
    assert set(found["image"]) <= set(IMAGES)
    assert set(found["split"]) == set(splits.PARTS)
    assert found["image"].is_unique


def fuzz_thresholds(root: Path, data: bytes) -> None:
    """A decision that can be taken, for the run's number of classes."""
    _write(root / thresholds.FILE, data)
    try:
        found = thresholds.load(root, CLASSES)
    except UserError:
        return
    label_map = thresholds.decide(torch.full((1, CLASSES + 1, 2, 2), 0.2), found)
    assert thresholds.keep(label_map[0].numpy(), np.full((2, 2), 0.2, np.float32), found).max() <= 4


def fuzz_checkpoint(root: Path, data: bytes) -> None:
    """Weights that fit the network; the first byte says in which of three files they lie."""
    names = (checkpoint.BEST, checkpoint.PUBLISHED, "last.pt")
    asked = names[(data[:1] or b"\0")[0] % 3]
    for name in names:
        (root / name).unlink(missing_ok=True)
    (root / asked).write_bytes(data[1:])
    try:
        if asked == "last.pt":
            optimiser = MuonAdamW(NETWORK, TrainConfig())
            record.restore(root / asked, torch.device("cpu"), NETWORK, NETWORK, optimiser)
        else:
            checkpoint.load_weights(NETWORK, *checkpoint.best_weights(root))
    except UserError:
        return
    assert {name: tuple(w.shape) for name, w in NETWORK.state_dict().items()} == {
        "weight": (1, 1, 1, 1), "bias": (1,),
    }  # fmt: skip


def fuzz_image(root: Path, data: bytes) -> None:
    """Grey values of 8 bits, whatever the file has; the first byte says the bits in use."""
    _write(root / "image", data[1:])
    try:
        image = read_image(root / "image", BITS[(data[:1] or b"\0")[0] % len(BITS)])
    except UserError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 2
    assert image.size > 0


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # some file systems are slow to overwrite
    path.write_bytes(data)


def _config() -> bytes:
    content = {
        "variant": "unet_64x400",
        "options": {"height": 64, "width": 400, "epochs": 3},
        "model": {"base_channels": 8, "num_classes": 5},
        "normalisation": [0.4, 0.2],
        "data": {
            "root": "x", "fingerprint": "0", "bits": 12, "class_names": {"1": "pit"},
            "drift": {"mean": [0.1, 0.2]},
        },
        "baselines": {"kaggle_dice": 0.8},
        "git_commit": None,
        "wandb_id": "a",
        "versions": {"torch": "2"},
    }  # fmt: skip
    return json.dumps(content).encode()


def _thresholds() -> bytes:
    content = {"probability": [0.5] * 4, "peak": [0.6] * 4, "area": [9] * 4, "aim": "balanced"}
    return json.dumps(content).encode()


def _checkpoint() -> bytes:
    file = io.BytesIO()
    torch.save({"model": nn.Conv2d(1, 1, 1).state_dict()}, file)
    return b"\0" + file.getvalue()


def _last() -> bytes:
    network, file = nn.Conv2d(1, 1, 1), io.BytesIO()
    optimiser = MuonAdamW(network, TrainConfig())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step(torch.tensor(0.0))
    weights = network.state_dict()
    progress = {"epoch": 1, "best_epoch": 0, "history": [{"val/loss": 1.0}]}
    state = {"model": weights, "average": weights, "optimiser": optimiser.state_dict()}
    torch.save(state | {"progress": progress}, file)
    return b"\2" + file.getvalue()


def _image(suffix: str, kind: type) -> bytes:
    values = np.arange(60, dtype=np.uint8).reshape(6, 10).astype(kind)
    return cv2.imencode(suffix, values * (1 if kind is np.uint8 else 16))[1].tobytes()


TARGETS = {
    "config": fuzz_config,
    "split": fuzz_split,
    "thresholds": fuzz_thresholds,
    "checkpoint": fuzz_checkpoint,
    "image": fuzz_image,
}
SEEDS = {
    "config": [_config()],
    "split": [
        b"image,split,group\na.jpg,train,1\nb.png,val,2\nc.bmp,test,3\n",
        b"group;split;image\n1;train;a.jpg\n1;val;b.png\n",
    ],
    "thresholds": [_thresholds(), b'{"probability": [0.5], "area": [9], "chosen_by": "x"}'],
    "checkpoint": [
        _checkpoint(),
        _last(),
        b"\1" + safetensors.torch.save(nn.Conv2d(1, 1, 1).state_dict()),
    ],
    "image": [
        *(b"\0" + _image(s, np.uint8) for s in (".png", ".jpg", ".bmp", ".webp", ".pgm")),
        *(b"\2" + _image(suffix, np.uint16) for suffix in (".png", ".tif", ".pgm")),
        b"\0" + _image(".tif", np.float32),
    ],
}
TOKENS = {
    "config": [*JSON, b"options", b"model", b"data", b"Infinity", b"1000000", b"\\ud800", b"5.0"],
    "split": [b",", b";", b"\t", b"\n", b'"', b"train", b"val", b"test", b"a.jpg", b"\xff\xfe"],
    "thresholds": [*JSON, b"probability", b"peak", b"area", b"total", b"aim", b"0.5", b"1e-320"],
    "checkpoint": [b"PK\3\4", b"PK\1\2", b"data.pkl", b"ctorch\n", b"F32", b"I64", b"\x80\2}"],
    "image": [b"IHDR", b"IDAT", b"IEND", b"II*\0", b"MM\0*", b"BM", b"P5\n", b"\xff\xd8", b"RIFF"],
}
