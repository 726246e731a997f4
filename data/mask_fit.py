"""How masks lie on their images: whether they hold together, and whether they follow edges.

A mask that was written along the rows, or for an image of another height, falls into stripes when
it is read down the columns of this one. A mask of another picture, or of this one mirrored, is
whole, but its outline crosses the picture's edges instead of following them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

BROKEN, WHOLE = 0.4, 0.8  # shares of a mask's pixels that have a neighbour in the next column
CLEARLY = 0.1  # of that share, by which reading along the rows must be better
ENLARGED = (2, 3, 4)  # times that an image may have been enlarged
SMALLEST = 64  # pixels of a mask that can be told whole from broken
LONGEST = 1 << 24  # pixels from the first to the last of a mask that is searched for its height
SIDE, BLUR = 2048, 2.0  # pixels: edges are sought in pictures no longer than SIDE
UPRIGHT = "as it is"
TURNS = {
    UPRIGHT: lambda a: a,
    "mirrored left to right": np.fliplr,
    "mirrored top to bottom": np.flipud,
    "turned by 180 degrees": lambda a: a[::-1, ::-1],
}
SQUARE_TURNS = {
    "transposed (or written along the rows)": np.transpose,
    "turned by 90 degrees": lambda a: np.rot90(a),
    "turned by 270 degrees": lambda a: np.rot90(a, 3),
    "transposed across the other diagonal": lambda a: a[::-1, ::-1].T,
}


@dataclass(frozen=True)
class Fit:
    """height: of the image that the mask seems to be written for, where it is not this one's.
    first, last: runs that begin in the first row, and those in the last that go on in the next
    column. edges: way to turn the mask -> gradient along its outline by that of the whole image.
    """

    height: int | None
    first: int
    last: int
    edges: dict[str, float]


def fit(image: np.ndarray, mask: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Fit:
    """How the mask (H, W) uint8 of 0 and 1 lies on the grey image (H, W) uint8.

    starts, lengths: the runs of all classes, from 1 down the columns.
    """
    height = len(mask)
    rows = (starts - 1) % height
    return Fit(
        height=_written_height(mask, lengths),
        first=int((rows == 0).sum()),
        last=int(((rows == height - 1) & (lengths > 1)).sum()),
        edges=_edges(image, mask),
    )


def _written_height(mask: np.ndarray, lengths: np.ndarray) -> int | None:
    """The distance at which the mask's pixels repeat, where the next column is not that far."""
    height, width = mask.shape
    flat = mask.T.reshape(-1)
    pixels = np.flatnonzero(flat)
    if len(pixels) < SMALLEST:
        return None
    own = _shared(flat, height, len(pixels))
    if width != height and _shared(flat, width, len(pixels)) > max(own + CLEARLY, BROKEN):
        return width
    usual = np.percentile(lengths, 90)
    for times in ENLARGED:  # every n-th column is next, so the mask is not broken
        drawn = height // times
        fits = own >= BROKEN and usual < drawn and pixels[-1] < len(flat) // times
        if fits and _shared(flat, drawn, len(pixels)) > own:
            return drawn
    flat = flat[pixels[0] : pixels[-1] + 1]
    if own >= BROKEN or len(flat) > LONGEST:
        return None
    waves = fft.rfft(flat.astype(np.float32), fft.next_fast_len(2 * len(flat), real=True))
    shared = fft.irfft(np.abs(waves) ** 2)[: len(flat)] / len(pixels)
    shared[: int(1.5 * usual) + 2] = 0  # within a run all is alike
    best = int(shared.argmax())
    return best if shared[best] >= WHOLE else None


def _shared(flat: np.ndarray, distance: int, area: int) -> float:
    return int(np.count_nonzero(flat[distance:] & flat[:-distance])) / area


def _edges(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    if (scale := SIDE / max(image.shape)) < 1:
        size = [max(round(n * scale), 1) for n in image.shape[::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    smooth = cv2.GaussianBlur(image, (0, 0), BLUR).astype(np.float32)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
    gradient = cv2.magnitude(across, down)
    gradient = np.minimum(gradient, np.percentile(gradient, 99))  # no single edge decides
    square = np.ones((3, 3), np.uint8)
    outline = cv2.morphologyEx(
        np.ascontiguousarray(mask), cv2.MORPH_GRADIENT, square, borderType=cv2.BORDER_REFLECT
    ).astype(bool)
    mean = float(gradient.mean())
    if not outline.any() or mean == 0:
        return {}
    turns = TURNS | (SQUARE_TURNS if image.shape[0] == image.shape[1] else {})
    return {way: float(gradient[turn(outline)].mean()) / mean for way, turn in turns.items()}
