"""A coverage-guided fuzzer for what reads files: tables, masks, annotations, runs and images.

    python -m tests.fuzz rle --seconds 60
    python -m tests.fuzz labels --seconds 60       # and so the others that --help names
    python -m tests.fuzz rle runs/fuzz/rle/crash-...      # one input again, with its traceback

Of any input: no error but the documented ones; of masks and tables also the masks of a plain
definition, and processor time and memory within a multiple of the input's size. Few bytes become
long texts by repetition, so that anything quadratic shows. Needs atheris
(`pip install -e ".[test]"`): libFuzzer for Python.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
import tyro

from common.cli import run
from common.errors import UserError

# A header that promises billions of pixels costs memory and shows nothing. OpenCV reads this once.
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(1 << 22)

try:
    import atheris
except ImportError:
    atheris = None

# Branches and comparisons of these guide the fuzzer; it has to see their first import.
with atheris.instrument_imports(include=["common", "data"]) if atheris else nullcontext():
    from common import labels, rle
    from tests import fuzz_annotations, fuzz_runs

T = TypeVar("T")
LONGEST = {"rle": 20_000, "labels": 16_000}  # bytes of a text made by repetition
SPLIT = b"\xff\xff"  # between the two parts of an input: never in valid UTF-8
IMAGES = ("a.jpg", "b.png", "c.bmp")
TRAIN_HEADERS = (b"ImageId,ClassId,EncodedPixels\n", b"ImageId_ClassId,EncodedPixels\n")
GROUPS_HEADER = b"image,group\n"
NO_TEXTS = (None, float("nan"), np.float32("nan"), float("inf"), 1.5, 12, b"1 2", ["1 2"])
NO_DEFECT = 3  # so many of these mean an empty mask, the others are refused


@dataclass
class Config:
    """Looks for an input that breaks a reader; exits with 0 where none is found."""

    target: Annotated[
        Literal[
            "rle", "labels", "masks", "coco", "labelme",
            "config", "split", "thresholds", "checkpoint", "image",
        ],
        tyro.conf.Positional,
    ]  # fmt: skip
    """What is fuzzed."""
    again: Annotated[Path | None, tyro.conf.Positional] = None
    """An input found before: only this one is run."""
    seconds: int = 60
    """How long to look."""
    seed: int = 1
    """Seed of the mutations."""
    out: Path = Path("runs/fuzz")
    """Folder for the inputs found: one that breaks the target, and the corpus to go on from."""
    plant: str = ""
    """module:function, called first to break the reader: proves that the fuzzer would notice."""

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise ValueError(f"--seconds must be at least 1, got {self.seconds}")
        if self.again is not None and not self.again.is_file():
            raise ValueError(f"there is no input {self.again}")


def bounded(
    action: Callable[[], T],
    size: int,
    times: int,
    seconds: float,
    refusal: type[Exception] | tuple[()] = (),
) -> T | Exception:
    """What the action returns, or its error where that is the documented `refusal`.

    Fails where it takes memory or time that is out of all proportion to its input. size: bytes of
    the input. times: bytes of memory allowed for each. seconds: of this thread's processor time
    allowed for a million bytes. Both have a constant on top, for what is small. Of three times the
    shortest counts: what else the machine does can only lengthen one.
    """
    for _ in range(3):
        tracemalloc.start()
        begin = time.thread_time()
        try:
            result = action()
        except refusal as refused:
            result = refused
        finally:
            taken = time.thread_time() - begin
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak <= 300_000 + times * size, f"{peak} bytes of memory for an input of {size}"
        if taken <= 0.3 + seconds * size / 1e6:
            return result
    raise AssertionError(f"{taken:.2f} s for an input of {size} bytes")


def repeated(piece: bytes, count: int, longest: int) -> bytes:
    """`piece`, mostly once; for the top counts (0 to 255) as often as fits into `longest` bytes.

    Only the very top fills `longest`, the others a tenth: long inputs are slow, and few will do.
    """
    room = {255: longest}.get(count, longest // 10 if count >= 248 else 0)
    return piece * max(1, room // max(len(piece), 1))


def rle_input(data: bytes) -> tuple[object, tuple[int, int]]:
    """A text and a height and width from four bytes of header, a head and a tail.

    The head is text, or gap and length of one run after the other, which makes nearly valid texts;
    it may be repeated. The tail is text. Some inputs are no text at all.
    """
    kind, height, width, count = data[:4].ljust(4, b"\0")
    head, _, tail = data[4:].partition(SPLIT)
    shape = (height % 32, width % 32)
    if kind & 4:
        return NO_TEXTS[count % len(NO_TEXTS)], shape
    if not kind & 1:
        text = repeated(head, count, LONGEST["rle"]).decode("utf-8", "surrogateescape")
    else:
        numbers, end = [], 0
        pieces = repeated(head, count, LONGEST["rle"] // 5)
        for gap, length in zip(pieces[0::2], pieces[1::2], strict=False):
            start = end + 1 + (gap if gap < 250 else gap - 256)  # a few step back and overlap
            end = start + length - 1
            numbers += [start, length]
        text = " ".join(map(str, numbers))
        if kind & 2 and shape[0]:  # as wide as the runs are long
            shape = (shape[0], max(0, -(-end // shape[0])))
    return text + tail.decode("utf-8", "surrogateescape"), shape


def rle_oracle(text: object, shape: tuple[int, int]) -> bytes | None:
    """The mask's pixels down the columns, by the definition, run by run; None where refused."""
    size = shape[0] * shape[1]
    if not isinstance(text, str):
        nothing = any(text is value for value in NO_TEXTS[:NO_DEFECT])
        return bytes(size) if nothing else None
    words = re.findall("[^ \t\r\n]+", text)
    if len(words) % 2 or not all(re.fullmatch("[0-9]+", word) for word in words):
        return None
    # Python refuses to read numbers of thousands of digits; any so long is too large.
    numbers = [int(word.lstrip("0")[:20] or "0") for word in words]
    flat, end = bytearray(size), 0
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        if start <= end or length < 1 or start + length - 1 > size:
            return None
        end = start + length - 1
        flat[start - 1 : end] = b"\1" * length
    return bytes(flat)


def fuzz_rle(_: Path, data: bytes) -> None:
    """`decode` gives the oracle's mask or an RLEError, and `encode` a text of the same mask."""
    text, shape = rle_input(data)
    expected = rle_oracle(text, shape)
    pixels = shape[0] * shape[1]
    length = len(text) if isinstance(text, str) else 0
    size, refusal = length + pixels, rle.RLEError
    mask = bounded(lambda: rle.decode(text, shape), size, times=60, seconds=10, refusal=refusal)
    refused = isinstance(mask, refusal)
    assert not refused or len(str(mask)) < 300, "the message holds the whole text"
    if expected is None:
        assert refused, "a mask of what is no run-length encoding"
        return
    assert not refused, "a valid text is refused"
    assert mask.dtype == np.uint8
    assert mask.shape == shape
    assert mask.tobytes(order="F") == expected, "another mask than the definition's"
    short = bounded(lambda: rle.encode(mask), pixels, times=200, seconds=10)
    again = rle.decode(short, shape)
    assert again.tobytes(order="F") == expected, "encoding changes the mask"
    assert rle.encode(again) == short, "two texts of one mask"


def labels_input(data: bytes) -> tuple[bytes, bytes | None]:
    """train.csv and, unless there is none, groups.csv, from two bytes of header and two texts."""
    kind, count = data[:2].ljust(2, b"\0")
    train, _, groups = data[2:].partition(SPLIT)
    header = (*TRAIN_HEADERS, *TRAIN_HEADERS, GROUPS_HEADER, b"\xef\xbb\xbf", b"", b"")[kind % 8]
    train = header + repeated(train, count, LONGEST["labels"])
    if kind & 8:
        groups = repeated(groups, count, LONGEST["labels"])
    return train, None if kind & 16 else (b"" if kind & 32 else GROUPS_HEADER) + groups


def fuzz_labels(root: Path, data: bytes) -> None:
    """`load` gives labels of the folder's images, or a LabelError; and so do the label maps."""
    train, groups = labels_input(data)
    for name, content in (("train.csv", train), ("groups.csv", groups)):
        (root / name).unlink(missing_ok=True)  # some file systems are slow to overwrite
        if content is not None:
            (root / name).write_bytes(content)
    size = len(train) + len(groups or b"")
    refusal = labels.LabelError
    found = bounded(lambda: labels.load(root), size, times=300, seconds=40, refusal=refusal)
    if isinstance(found, refusal):
        return
    assert found.images == IMAGES
    assert set(found.rles) <= set(IMAGES)
    assert 1 <= found.num_classes <= 255
    assert (found.groups is None) == (groups is None)
    assert set(found.groups or ()) <= set(IMAGES)
    assert all((found.groups or {}).values()), "a group without a name"
    for name in IMAGES:
        classes = found.classes(name)
        assert all(1 <= k <= found.num_classes for k in classes)
        try:
            label_map = found.label_map(name, (6, 10))
        except labels.LabelError:
            continue
        assert label_map.shape == (6, 10)
        assert set(np.unique(label_map).tolist()) <= {0, *classes}
        assert label_map.any() == bool(classes), "a mask without a pixel, or one from nowhere"


TARGETS = {
    "rle": fuzz_rle,
    "labels": fuzz_labels,
    **fuzz_annotations.TARGETS,
    **fuzz_runs.TARGETS,
}
SEEDS = {
    **fuzz_annotations.SEEDS,
    **fuzz_runs.SEEDS,
    "rle": [
        b"\0\4\5\0" + b"1 2 5 2",
        b"\0\4\5\0" + b" 1  2\t5\r\n2 ",
        b"\0\0\5\0" + b"1 1",
        b"\0\4\5\0" + b"1 2 3",
        b"\0\4\5\0" + b"1 99999999999999999999",
        b"\0\4\5\0" + "1 ٢ ² \xa0".encode(),
        b"\0\4\5\xf8" + b"1 1 ",
        b"\0\4\5\xf8" + b"9",
        b"\1\4\5\0" + b"\0\2\1\2",
        b"\3\4\5\0" + b"\0\2\1\2\0\3",
        b"\3\4\5\xff" + b"\1\1",
        b"\3\4\5\xf8" + b"\1\1" + SPLIT + b" x",
        b"\3\4\5\xf8" + b"\1\1" + SPLIT + b" 1 1",
        *(b"\4\4\5" + bytes([k]) for k in range(len(NO_TEXTS))),
    ],
    "labels": [
        b"\0\0" + b"a.jpg,3,7 3\na.jpg,1,1 2\nb.png,2,60 1\n" + SPLIT + b"a.jpg,coil 7\n",
        b"\1\0" + b"a.jpg_3,7 3\r\nb.png_2,\r\n" + SPLIT + b"c.bmp,1\nc.bmp,2\na.jpg,\nz,2\n",
        b"\x10\0" + b'"a.jpg","1","1 2"\n\n',
        b"\x10\0" + b"a.jpg,256,1 2\nz.jpg,1,1 2\na.jpg,2,5 1 3 1\na.jpg,2,x\na.jpg\n",
        b"\x10\xf8" + b"a.jpg,1,1 2\n",
        b"\x18\xff" + b"x\n",
        b"\x08\xf8" + b"\n" + SPLIT + b"a.jpg,1\n",
        b"\x06\0" + b"EncodedPixels,ImageId,ClassId\n7 3,a.jpg,3\n",
        b"\x20\0" + SPLIT + b"group,image\n1,a.jpg\n",
        b"\x10\0" + b'a.jpg,1,"1 2\n\xff\n',
    ],
}
TOKENS = {
    **fuzz_annotations.TOKENS,
    **fuzz_runs.TOKENS,
    "rle": [b" ", b"\t", b"\r\n", b"0", b"1", b"256", b"9" * 20, b"-1", b"+1", b"1.0", b"1e3", b"_",
            b"nan", b"0x1", b"\0", b"\x0b", b"\xc2\xa0", "٢".encode(), SPLIT],
    "labels": [b"\n", b"\r\n", b"\r", b",", b'"', b'""', b"_", b"a.jpg", b"b.png", b"c.bmp", b"1",
               b"255", b"256", b"1 2", b"nan", b"\xef\xbb\xbf", b"\0", b"\x1c", b"ImageId",
               b"ClassId", b"EncodedPixels", b"image", b"group", SPLIT],
}  # fmt: skip


def fuzz(config: Config) -> None:
    """Runs until time is up or an input breaks the target; libFuzzer ends the process itself."""
    if atheris is None:
        raise UserError(
            "fuzzing needs atheris, which is not installed. Install it with: pip install atheris\n"
            "It has wheels for Linux on x86_64 only."
        )
    for function in (rle_input, rle_oracle, labels_input):  # so that all kinds of input are kept
        atheris.instrument_func(function)
    if config.plant:
        module, _, function = config.plant.partition(":")
        with atheris.instrument_imports(include=[module]):
            getattr(import_module(module), function)()
    folder = config.out / config.target
    root, corpus, tokens = folder / "set", folder / "corpus", folder / "tokens"
    (root / "train_images").mkdir(parents=True, exist_ok=True)
    for name in IMAGES:
        (root / "train_images" / name).touch()
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(SEEDS[config.target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    escaped = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS[config.target])
    tokens.write_text("".join(f'"{token}"\n' for token in escaped))
    options = {
        "max_total_time": config.seconds,
        "seed": config.seed,
        "max_len": 8192 if config.target == "checkpoint" else 1024,
        "len_control": 0,  # long inputs from the beginning: there is little time
        "timeout": 60,  # of the clock, for what never ends; `bounded` is the sharp limit
        "rss_limit_mb": 2048 + _peak_mib(),
        "dict": tokens,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    target: Callable[[bytes], None] = partial(TARGETS[config.target], root)
    atheris.Setup([sys.argv[0], *flags, str(config.again or corpus)], target)
    atheris.Fuzz()


def _peak_mib() -> int:
    """What counts as this process's peak already: Linux hands on that of the process before it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main(argv: list[str] | None = None) -> int:
    return run(fuzz, Config, argv)


if __name__ == "__main__":
    sys.exit(main())
