"""Makes Severstal-format strips of steel, so that everything runs before the real data is there.

    python -m data.synthetic --out data/synthetic --images 320 --seed 0

writes DIR/train_images/<9 hex digits>.jpg (256x1600, grey stored as RGB) and DIR/train.csv in
either of Kaggle's formats. Classes, their combinations, mask areas and the share of clean strips
follow the Severstal training set. Strip i depends on the seed and i alone: not on how many are
made, nor on how many processes make them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from common.cli import run
from common.config import PROJECT
from common.deployment.submission import submission
from common.errors import UserError
from common.files import refusals_said
from common.machine import cores
from common.progress import tqdm
from common.rle import encode_classes
from data import strips

IMAGES = 320
VERSION = 1  # of the drawing: raise it when the same seed gives other pixels
NOTE = "synthetic.json"  # what a folder of strips was made of
PARTIAL = ".synthetic."  # begins the name of the folder in which they are being made
SMALLEST = 64  # pixels, height and width
CHUNK = 16  # strips a process takes at a time
QUALITY = 90  # JPEG: about 100 kB a strip, as Severstal's

# Images of Severstal's training set by the classes they show (12,568 in all).
CLASS_SETS = {
    (): 5_902,
    (1, 2): 35,
    (1,): 769,
    (1, 2, 3): 2,
    (1, 3): 91,
    (3,): 4_759,
    (3, 4): 284,
    (4,): 516,
    (2, 4): 1,
    (2,): 195,
    (2, 3): 14,
}
REPEAT_EVERY = 32  # the last strip of each so many is an earlier one of them, photographed again


def class_set(seed: int, index: int) -> tuple[int, ...]:
    """Classes of strip `index`: a walk in golden-ratio steps over CLASS_SETS as a circle.

    Such a walk keeps the proportions over any stretch: 24 strips leave no gap wider than 5.6 %,
    and classes 1 and 4 take 7.1 and 6.4 % of the circle in one piece. Class 2 takes 2 %, so strip
    0 always shows it. Hence 24 strips of any seed show every class.
    """
    if index == 0:
        return (2,)
    position = (np.random.default_rng(seed).random() + index * (np.sqrt(5) - 1) / 2) % 1
    bounds = np.cumsum(list(CLASS_SETS.values())) / sum(CLASS_SETS.values())
    return list(CLASS_SETS)[int(np.searchsorted(bounds, position, side="right"))]


def source(seed: int, index: int) -> int:
    """The strip that photograph `index` shows: itself, but for one repeat in REPEAT_EVERY."""
    if (index + 1) % REPEAT_EVERY:
        return index
    return index - int(np.random.default_rng([seed, index]).integers(1, REPEAT_EVERY))


def name(seed: int, index: int) -> str:
    """A file name of 9 hex digits, in no order; different for every index of a seed."""
    value, top = (index + (seed + 1) * 0x9E3779B9) % 2**36, 2**36
    for factor in (0x5851F42D5, 0xB5297A4D3):  # odd, so that each step can be undone
        value = (value ^ (value >> 17)) * factor % top
    return f"{value ^ (value >> 17):09x}.jpg"


def lay_out(seed: int, index: int, shape: strips.Shape) -> strips.Layout:
    """Where the defects of strip `index` lie; without drawing it."""
    return strips.lay_out(np.random.default_rng([seed, index, 0]), class_set(seed, index), shape)


def strip(seed: int, index: int, shape: strips.Shape) -> tuple[np.ndarray, np.ndarray]:
    """Photograph `index` and its label map, both (H, W) uint8."""
    original = source(seed, index)
    layout = lay_out(seed, original, shape)
    image = strips.photograph(np.random.default_rng([seed, original, 1]), layout)
    if original == index:
        return image, layout.label_map
    return strips.rephotograph(np.random.default_rng([seed, index, 2]), image, layout.label_map)


@dataclass(frozen=True)
class Options:
    """What strips to make, and where."""

    out: Path = PROJECT / "data" / "synthetic"
    """Folder to make; it gets train_images/, train.csv and a note of these options."""
    images: int = IMAGES
    """Number of strips, clean ones included."""
    seed: int = 0
    """Another seed, other strips."""
    format: Literal["new", "old"] = "new"
    """train.csv with a row a mask (ImageId,ClassId,EncodedPixels), or with four rows an image."""
    height: int = 256
    """Height of a strip, in pixels; defects scale with the area."""
    width: int = 1600
    """Width of a strip, in pixels."""
    workers: int = 0
    """Processes; 0 takes one a core. The strips do not depend on it."""

    def __post_init__(self) -> None:
        least = {"images": 1, "seed": 0, "height": SMALLEST, "width": SMALLEST, "workers": 0}
        for option, low in least.items():
            if (value := getattr(self, option)) < low:
                raise UserError(f"--{option} must be at least {low}, got {value}")
        if self.format not in ("new", "old"):
            raise UserError(f"--format must be new or old, got {self.format!r}")

    def note(self) -> dict[str, int | str]:
        """All that the files depend on, to be kept beside them."""
        made_of = {
            key: value for key, value in asdict(self).items() if key not in ("out", "workers")
        }
        return {"generator": VERSION, **made_of}


def generate(
    out: Path | str, images: int, seed: int = 0, workers: int = 1, **options: int | str
) -> Path:
    """Makes `images` strips in the folder `out` and returns it; at once if they are there already.

    options: format, height, width of Options. workers: more than one starts processes that import
    the caller's main module, which then needs `if __name__ == "__main__"`. The folder appears when
    whole. Raises UserError for impossible options, for an `out` that holds something else and for
    a disk that refuses.
    """
    return _make(Options(Path(out), images, seed, workers=workers, **options))


def _make(options: Options) -> Path:
    out = options.out
    with refusals_said(
        f"the strips to {out}", "Free some space or name another folder with --out."
    ):
        if _is_made(options):
            tqdm.write(f"{out}: these {options.images} strips are there already")
            return out
        place = out if out.exists() else out.parent  # a folder may be a disk of its own, or a link
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=place) as folder:
            whole = Path(folder) / "strips"
            _write(whole, options)
            if not _is_made(options):  # another process may have been faster
                _publish(whole, out)
    return out


def _publish(whole: Path, out: Path) -> None:
    """Puts the finished folder at `out`, or all it holds into the folder that is there."""
    if not out.exists():
        os.replace(whole, out)
        return
    for name in ("train_images", "train.csv", NOTE):  # without the note it is no data set of ours
        os.replace(whole / name, out / name)


def _is_made(options: Options) -> bool:
    """Whether `out` holds these very strips. Raises UserError if it holds something else."""
    out, note = options.out, options.note()
    if not out.exists() or (out.is_dir() and _is_empty(out)):
        return False
    advice = "Name another folder with --out, or remove this one."
    try:
        found = json.loads((out / NOTE).read_text())
    except (OSError, ValueError):
        raise UserError(f"{out} holds something that was not made here.\n{advice}") from None
    if found != note:
        raise UserError(f"{out} holds other strips: made with {found}, not {note}.\n{advice}")
    present = sum(1 for _ in (out / "train_images").glob("*.jpg"))
    if present != options.images or not (out / "train.csv").is_file():
        raise UserError(f"{out} has lost files since it was made.\n{advice}")
    return True


def _is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but what is being made in it, or was before a process died."""
    return all(path.name.startswith(PARTIAL) for path in folder.iterdir())


def _write(folder: Path, options: Options) -> None:
    """Fills the new `folder` with strips, train.csv and the note of what they were made of."""
    (folder / "train_images").mkdir(parents=True)
    shape = options.height, options.width
    save = partial(_save, folder / "train_images", options.seed, shape)
    workers = min(options.workers or cores(), -(-options.images // CHUNK))
    with _mapper(workers) as each:
        saved = each(save, range(options.images))
        masks = dict(tqdm(saved, "strips", options.images, unit=" strips"))
    with submission(folder / "train.csv", options.format, len(strips.AREAS)) as add:
        for image in sorted(masks):
            add(image, masks[image])
    (folder / NOTE).write_text(json.dumps(options.note(), indent=2) + "\n")


def _save(folder: Path, seed: int, shape: strips.Shape, index: int) -> tuple[str, dict[int, str]]:
    """Writes one strip; returns its file name and its run-length strings by class."""
    image, label_map = strip(seed, index, shape)
    _, jpeg = cv2.imencode(".jpg", cv2.merge([image] * 3), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    (folder / name(seed, index)).write_bytes(jpeg.tobytes())
    return name(seed, index), encode_classes(label_map)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable]]:
    """`map` over so many processes; the plain one for a single worker."""
    if workers == 1:
        yield map
        return
    # Not fork: the caller may hold threads and locks (PyTorch, wandb), and not every system has it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        yield partial(pool.map, chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise UserError(
            "a process that makes strips died: out of memory, or no main script to import.\n"
            "Try again with --workers 1."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run(_report, Options, argv)


def _report(options: Options) -> None:
    out = _make(options)
    print(
        f"{options.images} strips in {out}\n"
        f"next: python unet_64x400/train.py --data {shlex.quote(str(out))}"
    )


if __name__ == "__main__":
    sys.exit(main())
