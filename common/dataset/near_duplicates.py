"""Which images show the same piece of steel, also mirrored, turned, or moved along the strip.

An image is described by the detail of a thumbnail: its cells without the light that all strips of
a camera share, and without what is coarser than a few cells. Two looks at it must agree.

The hash finds candidates. The strengths of a picture's waves stay when it moves, and change places
when it is mirrored or turned; summed over these places, they are the same for all copies.

The alignment judges them, under every mirroring and turn, by the phases of the waves alone (Ito et
al., "A Fingerprint Matching Algorithm Using Phase-Only Correlation", 2004): of a regular pattern,
such as chequer plate, few waves are left, and these do not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from scipy import fft
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from common.dataset.neighbours import near, signs
from common.machine import cores

Shape = tuple[int, int]

STRIP, SQUARE = (32, 128), (64, 64)  # cells of the thumbnail: of long images, of all others
FINE, COARSE = 0.7, 2.0  # blur, in cells; detail lies between
FAINT = 1 / 32  # grey levels: unit of the detail, which is cut off at 127
HASHED = {STRIP: (8, 32), SQUARE: (14, 14)}  # waves down and along that the hash is made of
ALIGNED = {STRIP: (12, 40), SQUARE: (22, 22)}  # and those that align
FAINT_HASHED, FAINT_ALIGNED = 1000.0, 50.0  # strength below which a wave hardly counts
BITS, SPREAD = 256, 0.05  # of a hash, and of the fraction of them that different images share
REACH = 8  # a copy is moved by at most one part in so many of the length, and of the height
BLOCK = 256  # images or pairs at a time

# Agreement from which on two are the same. On real strips: copies (JPEG quality 50, a quarter
# darker, noise of 3 grey levels, shifted by two pixels each way) reach 0.64, most 0.8; frames that
# overlap but for 31 pixels, a shift between the thumbnail's cells, 0.46, most 0.75. Of the 539,241
# pairs of different strips none exceeds 0.44; the nearest show the repeated mark of one roll, and
# none that also shares enough bits of its hash exceeds 0.27.
SAME = 0.45


def describe(image: np.ndarray) -> np.ndarray:
    """Detail of a grey image (H, W) uint8: int8, of shape STRIP if laid W >= 2 H, else SQUARE."""
    image = laid(image)
    rows, columns = STRIP if image.shape[1] >= 2 * image.shape[0] else SQUARE
    thumbnail = cv2.resize(image.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    marks = _without_light(thumbnail)
    detail = cv2.GaussianBlur(marks, (0, 0), FINE) - cv2.GaussianBlur(marks, (0, 0), COARSE)
    return (detail / FAINT).clip(-127, 127).round().astype(np.int8)


def laid(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W), transposed where it is higher than wide."""
    return np.ascontiguousarray(picture.T) if picture.shape[0] > picture.shape[1] else picture


def _without_light(thumbnail: np.ndarray) -> np.ndarray:
    """What is left without the profile of each axis, and without the product of the two.

    The strips of one camera share their light, across, and often the place of a black border,
    along; the border cuts the light off, which is the product.
    """
    mean = thumbnail.mean()
    across = thumbnail.mean(axis=1, keepdims=True) - mean
    along = thumbnail.mean(axis=0, keepdims=True) - mean
    rest = thumbnail - mean - across - along
    product = across * along
    return rest - product * ((rest * product).sum() / max((product**2).sum(), 1e-6))


def turned(pictures: np.ndarray, k: int) -> np.ndarray:
    """Pictures (..., H, W) under map k, a sum: 4 transposes, then 1 mirrors along, 2 down."""
    if k & 4:
        pictures = pictures.swapaxes(-1, -2)
    if k & 1:
        pictures = pictures[..., ::-1]
    return pictures[..., ::-1, :] if k & 2 else pictures


def pairs(details: Sequence[np.ndarray]) -> np.ndarray:
    """Near-duplicates among the descriptions: (M, 2) int64 rows i < j, sorted.

    Of a large group of copies not every pair is listed, but all its members hang together.
    """
    rows = np.array([detail.shape[0] if detail.any() else 0 for detail in details])
    found = [np.empty((0, 2), np.int64)]
    with ThreadPoolExecutor(cores()) as pool:  # most of the work releases the interpreter lock
        for shape in (STRIP, SQUARE):
            members = np.flatnonzero(rows == shape[0])
            some = pool.map(lambda part: hash_(_stack(details, part)), _blocks(members))
            hashes = np.concatenate([np.empty((0, BITS), bool), *some])
            candidates = _blocks(members[near(hashes, alike(len(hashes)))])
            same = pool.map(lambda two: two[_same(details, two)], candidates)
            found += same
    return np.concatenate(found)


def groups(linked: np.ndarray, count: int) -> np.ndarray:
    """The group of each of `count` images, by number: all that pairs (M, 2) of them link."""
    graph = coo_array((np.ones(len(linked), bool), tuple(linked.T)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def alike(count: int) -> float:
    """The fraction of their bits that candidates share, among `count` images.

    Different strips share half of them, with a standard deviation of 0.04: so many that about one
    image in the set shares more with a given one by chance. In 1,000 these are 0.69, in a million
    0.76.
    """
    return 0.5 + SPREAD * float(np.sqrt(2 * np.log(max(count, 100))))


def _same(details: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
    return align(*(_stack(details, side) for side in candidates.T))[0] >= SAME


def _stack(details: Sequence[np.ndarray], which: np.ndarray) -> np.ndarray:
    return np.stack([details[i] for i in which])


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def hash_(details: np.ndarray) -> np.ndarray:
    """Hashes (N, BITS) bool of details (N, H, W) of one shape.

    Each bit is the side of a random plane on which the logarithms of the waves' strengths lie.
    """
    shape = details.shape[1:]
    down, along = HASHED[shape]
    waves = np.abs(_waves(details))[:, :, 1 : along + 1]
    waves = waves[:, 1 : down + 1] + waves[:, -1 : -down - 1 : -1]
    if shape == SQUARE:
        waves += waves.swapaxes(1, 2).copy()
    return np.log(waves + FAINT_HASHED).reshape(len(waves), -1) @ _planes(down, along) > 0


def _waves(details: np.ndarray) -> np.ndarray:
    """Their transform, faded out towards the borders, where a moved copy shows other steel."""
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in details.shape[1:])) ** 0.25
    return fft.rfft2(details * window.astype(np.float32))


def _planes(down: int, along: int) -> np.ndarray:
    """Normals (down * along, BITS) of random planes, none of which sees a smooth trend.

    All steel shares that its waves are the weaker, the shorter they are.
    """
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : down * 1j, -1 : 1 : along * 1j])
    trends, _ = np.linalg.qr(np.stack([x**0, x, y, x * x, x * y, y * y], axis=1))
    normals = signs(down * along, BITS)
    return normals - trends.astype(np.float32) @ (trends.T.astype(np.float32) @ normals)


def align(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How well the details (M, H, W) of pairs agree, (M,) float32 up to 1, and how: (M, 3) int64.

    The agreement is the height of the peak of band-limited phase-only correlation, under the best
    map and shift. Those are map, down and right: `turned(second, map)`, moved by so many cells,
    lies on the first.
    """
    shape = first.shape[1:]
    here, upright = _phases(first), _phases(second)
    transposed = _phases(second.swapaxes(1, 2)) if shape == SQUARE else upright
    down, right = (np.arange(-n // REACH, n // REACH + 1) for n in shape)
    best, how = np.zeros(len(first), np.float32), np.zeros((len(first), 3), np.int64)
    for k in range(8 if shape == SQUARE else 4):
        there = transposed if k & 4 else upright
        if k & 3 in (1, 2):  # mirrored once
            there = np.roll(there[:, ::-1], 1, axis=1)
        # Half a turn conjugates the waves, which correlation does once more.
        peaks = fft.irfft2(here * (there if k & 1 else there.conj()), shape)
        y, x = down - (k >> 1 & 1), right - (k & 1)  # waves are mirrored about cell 0
        peaks = peaks[:, y[:, None], x].reshape(len(first), -1)
        highest, height = peaks.argmax(axis=1), peaks.max(axis=1)
        better = height > best
        y, x = np.divmod(highest[better], len(right))
        best[better] = height[better]
        how[better] = np.stack([np.full_like(y, k), down[y], right[x]], axis=1)
    return best, how


def _phases(details: np.ndarray) -> np.ndarray:
    """The details' waves at equal strength, those that align alone, of norm 1 as a picture."""
    _, height, width = details.shape
    down, along = ALIGNED[height, width]
    waves = _waves(details)
    waves /= np.abs(waves) + FAINT_ALIGNED
    waves[:, down + 1 : -down] = 0
    waves[:, :, along + 1 :] = 0
    energy = 2 * (np.abs(waves) ** 2).sum(axis=(1, 2)) - (np.abs(waves[:, :, 0]) ** 2).sum(axis=1)
    return waves * np.sqrt(height * width / np.maximum(energy, 1e-9))[:, None, None]
