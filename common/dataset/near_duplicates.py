"""Which images show the same piece of steel: re-encoded, brighter, slightly shifted copies.

Two looks at a thumbnail, freed of the light that all strips of a camera share, must agree. The
perceptual hash is the signs of its slow waves (discrete cosine transform, as in Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): encoding, brightness
and small shifts leave them alone, and bland strips differ in them as much as marked ones. The
detail is each cell against its surroundings. Both are whole numbers, so that their products do not
depend on the order of addition: the same pairs come out on every machine.
"""

from __future__ import annotations

import cv2
import numpy as np

ROWS, COLUMNS = 32, 128  # of the thumbnail
WAVES = (slice(1, 9), slice(1, 33))  # of the transform; the zeroth hold light and black borders
FAINT, STRONG = 1 / 32, 4.0  # grey levels: unit of the detail, and where it is cut off

# On real and generated strips, copies (JPEG quality 50, 25 % darker, 25 grey levels brighter,
# shifted by two pixels each way) reach 0.66 and 0.64, different strips at most 0.41 and 0.36, and
# no pair more than 0.22 in both.
SAME_HASH, SAME_DETAIL = 0.35, 0.5


def describe(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash (256,) of -1, 0, 1 and detail (4096,) of a grey image (H, W) uint8; both int8."""
    thumbnail = cv2.resize(image.astype(np.float32), (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    marks = _without_light(thumbnail)
    signs = np.sign(cv2.dct(marks)[WAVES].round(3))
    detail = (marks - cv2.GaussianBlur(marks, (0, 0), 2)).clip(-STRONG, STRONG) / FAINT
    return signs.astype(np.int8).ravel(), detail.clip(-127, 127).round().astype(np.int8).ravel()


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


def pairs(hashes: np.ndarray, details: np.ndarray, block: int = 1024) -> np.ndarray:
    """Near-duplicates, (M, 2) int64 rows i < j, from the descriptions (N, 256) and (N, 4096).

    Every pair of hashes is compared, a block of rows at a time; details only where hashes agree.
    """
    signs, length, size = hashes.astype(np.float32), _lengths(hashes), _lengths(details)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), block):
        rows, columns = slice(start, start + block), slice(start, None)
        cosine = signs[rows] @ signs[columns].T / length[rows, None] / length[columns]
        candidates = np.argwhere(np.triu(cosine >= SAME_HASH, 1)) + start
        for some in np.array_split(candidates, len(candidates) // block + 1):
            i, j = some.T
            product = np.einsum("nk,nk->n", details[i], details[j], dtype=np.int64)
            found.append(some[product / size[i] / size[j] >= SAME_DETAIL])
    return np.concatenate(found)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Norms (N,) float32; 1 for the empty description of an image that shows nothing."""
    squares = np.einsum("nk,nk->n", vectors, vectors, dtype=np.int64)
    return np.sqrt(np.maximum(squares, 1)).astype(np.float32)
