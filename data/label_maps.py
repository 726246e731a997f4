"""Label maps as annotation tools write them: what their pixels hold, and what that means.

A pixel is worth a number (grey or palette index) or a colour; a `Key` says which class that is.
Pictures are gone through in bands, so that one of 200 million pixels takes little more memory than
PIL and the classes need: one byte a pixel each for grey ones, four and one in colour.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.dataset.images import reading
from common.errors import UserError

BAND = 1 << 22  # pixels looked at together
VALUES, COLOURS = 1 << 16, 1 << 24
WITH_ALPHA = {"LA", "PA", "RGBA"}
GREY = {"1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}


@dataclass(frozen=True)
class Key:
    """The class of each value or colour.

    classes: class by value, (65536,) uint8, or by colour 0xrrggbb, (2^24,) uint8. known: which of
    them have a class, bool; others are reported. threshold: values from here on are 1, others 0,
    before they are looked up.
    """

    classes: np.ndarray
    known: np.ndarray
    threshold: float | None = None

    @property
    def colours(self) -> bool:
        return len(self.classes) == COLOURS

    def name(self, value: int) -> str:
        """A value or colour as --map takes it."""
        return f"#{value:06x}" if self.colours else str(value)


def make_key(meant: Mapping[str, int], keep: bool = False, threshold: float | None = None) -> Key:
    """The key that says what `meant` does: "255" or "#fa3253" -> class, 0 for background.

    0 and black are background unless named. Where `meant` names a class, values that it does not
    name are unknown, unless they are kept as they are: so are all where it names none, up to 255.
    Raises ValueError for what is neither value nor colour, for values beside colours, and for
    classes out of range.
    """
    colours = {text: k for text, k in meant.items() if re.fullmatch("#[0-9a-fA-F]{6}", text)}
    if colours and (len(colours) < len(meant) or keep or threshold is not None):
        raise ValueError("--map names colours: values, --keep and --threshold do not go with them")
    size = COLOURS if colours else VALUES
    classes, known = np.zeros(size, np.uint8), np.zeros(size, bool)
    known[0] = True
    if not colours and (keep or not any(meant.values())):
        classes[:256], known[:256] = np.arange(256), True
    for text, defect_class in meant.items():
        if not (colours or re.fullmatch("[0-9]{1,5}", text)):
            raise ValueError(f"--map {text}: neither a value (255) nor a colour ('#fa3253')")
        value = int(text[1:], 16) if colours else int(text)
        if value >= size or not 0 <= defect_class <= 255:
            raise ValueError(f"--map {text} {defect_class}: classes are from 0 to 255")
        classes[value], known[value] = defect_class, True
    return Key(classes, known, threshold)


def read_labelmap(path: Path) -> tuple[dict[str, int], dict[int, str]]:
    """CVAT's labelmap.txt: ("#rrggbb" -> class, class -> name).

    A line is `label:r,g,b:parts:actions`. Classes are numbered in the order of the file, the label
    "background" left out. Raises UserError where it cannot be read or is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    meant: dict[str, int] = {}
    names: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        label, _, rest = line.partition(":")
        channels = rest.partition(":")[0].split(",")
        if len(channels) != 3 or not all(re.fullmatch(" *[0-9]{1,3} *", c) for c in channels):
            raise UserError(f"{path}, line {number}: expected label:r,g,b:parts:actions")
        colour = "#" + "".join(f"{min(int(c), 255):02x}" for c in channels)
        if colour in meant:
            raise UserError(f"{path}, line {number}: a second label of the colour {colour}")
        if label.strip().casefold() == "background":
            meant[colour] = 0
            continue
        meant[colour] = len(names) + 1
        names[len(names) + 1] = label.strip()
    if not names:
        raise UserError(f"{path} names no label.")
    return meant, names


def classify(path: Path, picture: Image.Image, key: Key) -> tuple[np.ndarray, Counter[int]]:
    """Class of each pixel, (H, W) uint8 in Fortran order; and how many pixels had which value
    that the key does not know, whose class is 0 here.

    Raises UserError where the picture holds no values or colours to look up.
    """
    with reading(path):
        pictures = getattr(picture, "n_frames", 1)
        cut_off = picture.mode in ("RGB", "RGBA", "LA") and ";16" in str(picture.tile)
        picture.load()
        if wanted := _mode(picture.mode, key):
            picture = picture.convert(wanted)
    if pictures > 1:
        raise UserError(f"{path} holds {pictures} pictures; save the label map alone.")
    if cut_off:  # to the upper 8 bits
        raise UserError(f"{path} has 16 bits a colour; save class numbers as grey values.")
    if not key.colours:
        picture = _told_by_alpha(picture)
    width, height = picture.size
    columns = np.zeros((width, height), np.uint8)
    unknown: Counter[int] = Counter()
    step = max(1, BAND // max(height, 1))
    for left in range(0, width, step):
        right = min(left + step, width)
        band = np.asarray(picture.crop((left, 0, right, height)))
        codes = _codes(path, band, picture.mode, key)
        columns[left:right] = key.classes[codes].T
        values, counts = np.unique(codes[~key.known[codes]], return_counts=True)
        unknown.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return columns.T, unknown


def _mode(mode: str, key: Key) -> str | None:
    """The mode of PIL that a picture must be brought to; None where its pixels can be looked up."""
    if key.threshold is not None and mode == "1":
        return "L"  # white is 255
    by_index = mode in ("P", "PA") and key.threshold is None
    if mode in ("RGB", "RGBA") or (not key.colours and (by_index or mode in GREY)):
        return None
    return "RGBA" if mode.endswith(("A", "a")) else "RGB"


def _told_by_alpha(picture: Image.Image) -> Image.Image:
    """The alpha channel where it alone tells pixels apart: some tools draw masks into it."""
    if picture.mode not in WITH_ALPHA:
        return picture
    *channels, alpha = picture.getextrema()
    varies = any(low < high for low, high in channels)
    return picture if varies or alpha == (255, 255) else picture.getchannel("A")


def _codes(path: Path, band: np.ndarray, mode: str, key: Key) -> np.ndarray:
    """Index into the key of each pixel (H, w), from a band of the picture."""
    alpha = band[..., -1] if mode in WITH_ALPHA else None
    if mode in ("LA", "PA"):
        band = band[..., 0]
    if key.colours and band.ndim == 3:
        codes = (band[..., :3] * np.array([1 << 16, 1 << 8, 1], np.int32)).sum(-1, dtype=np.int32)
    elif band.ndim == 3:
        if not (band[..., :3] == band[..., :1]).all():
            raise UserError(
                f"{path} is in colour: say what the colours mean with --map '#rrggbb' 1 or "
                "--labelmap labelmap.txt, or save class numbers as grey values or palette."
            )
        codes = band[..., 0]
    else:
        codes = band
    if alpha is not None and (((alpha > 0) & (alpha < 255)) | ((alpha == 0) & (codes != 0))).any():
        raise UserError(
            f"{path} has transparent pixels that are not background; flatten the picture."
        )
    if key.threshold is not None:
        return (codes >= key.threshold).astype(np.uint8)
    if codes.dtype.kind == "f" and not (codes == np.floor(codes)).all():
        raise UserError(f"{path} holds fractions: make it binary with --threshold.")
    if codes.dtype.itemsize > 2 and not key.colours:
        if codes.min() < 0 or codes.max() >= VALUES:
            raise UserError(f"{path} holds values beyond 0 to {VALUES - 1}, which are no classes.")
        codes = codes.astype(np.uint16)
    return codes.astype(np.uint8) if codes.dtype == bool else codes
