"""Run-length encoding: pycocotools' masks, Kaggle's conventions, every malformed text refused."""

import platform
import subprocess
import sys
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from common.rle import RLEError, decode, encode

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # in pycocotools

MASKS = arrays.arrays(
    np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)
)

FOUR_MASKS_AT_A_TIME = """
import resource
from common import rle

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def four():
    return [rle.decode("100000 100000") for defect_class in range(4)]

four()
before = faults()
for image in range(25):
    four()
print((faults() - before) / 100)
"""


def naive(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """Kaggle's definition, pixel by pixel."""
    numbers = [int(word) for word in rle.split()]
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    for start, length in zip(numbers[0::2], numbers[1::2], strict=True):
        for pixel in range(start, start + length):
            flat[pixel - 1] = 1
    return flat.reshape(shape, order="F")


def coco(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """pycocotools' mask, which it makes of alternate gap and run lengths, also down the columns."""
    coco_mask = pytest.importorskip("pycocotools.mask")
    numbers = np.array(rle.split(), dtype=int)
    edges = np.stack([numbers[0::2] - 1, numbers[0::2] - 1 + numbers[1::2]], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=shape[0] * shape[1]).tolist()
    return coco_mask.decode(coco_mask.frPyObjects({"size": list(shape), "counts": counts}, *shape))


def test_pixels_count_from_one_down_the_columns() -> None:
    np.testing.assert_array_equal(decode("1 2 5 2", (3, 2)), [[1, 0], [1, 1], [0, 1]])
    assert encode(np.array([[1, 0], [1, 1], [0, 1]], np.uint8)) == "1 2 5 2"


def test_the_default_size_is_severstals() -> None:
    mask = decode("1 256 409600 1")
    assert mask.shape == (256, 1600)
    assert mask[:, 0].all()
    assert mask[255, 1599] == 1
    assert mask.sum() == 257


def test_a_mask_is_a_new_writable_array_of_bytes() -> None:
    for rle in ("", "1 3"):
        first = decode(rle, (4, 5))
        assert first.dtype == np.uint8
        assert first.flags.f_contiguous
        first[:] = 1
        assert decode(rle, (4, 5)).sum() == len(rle)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other allocators keep memory as they do"
)
def test_masks_of_a_plain_process_reuse_each_others_memory() -> None:
    """By the pages that the kernel must fault in: a mask has 100; without care, 47 of them."""
    faults = subprocess.run(
        [sys.executable, "-c", FOUR_MASKS_AT_A_TIME], check=True, capture_output=True, text=True
    )
    assert float(faults.stdout) < 10


@pytest.mark.parametrize("nothing", ["", " \n", None, float("nan"), np.nan, np.float32("nan")])
def test_no_text_is_no_defect(nothing) -> None:
    mask = decode(nothing, (4, 5))
    assert mask.shape == (4, 5)
    assert not mask.any()


def test_any_usual_space_separates() -> None:
    np.testing.assert_array_equal(decode(" 1  2\t5\r\n2 ", (3, 2)), decode("1 2 5 2", (3, 2)))


@pytest.mark.parametrize(
    ("rle", "shape", "expected"),
    [
        ("1 20", (4, 5), "full"),
        ("20 1", (4, 5), "last pixel"),
        ("3 4", (4, 5), "over a column's end"),
        ("1 2 3 2", (4, 5), "runs that touch"),
        ("001 02", (4, 5), "leading zeros"),
    ],
)
def test_legal_extremes(rle: str, shape: tuple[int, int], expected: str) -> None:
    np.testing.assert_array_equal(decode(rle, shape), naive(rle, shape), err_msg=expected)


HUGE = "9" * 30


@pytest.mark.parametrize(
    ("rle", "said"),
    [
        ("1 2 3", r"odd count of numbers \(3\): pair 2 \(3\) has a start but no length"),
        ("7", r"odd count"),
        ("1 2 x 4", r"pair 2: 'x' is not a whole number"),
        ("1 2 3 4.0", r"pair 2: '4.0' is not"),
        ("1,2", r"pair 1: '1,2' is not"),
        ("+5 1", r"pair 1: '\+5' is not"),
        ("5 -1", r"pair 1: '-1' is not"),
        ("1e3 1", r"pair 1: '1e3' is not"),
        ("0x1 1", r"pair 1: '0x1' is not"),
        ("1_0 1", r"pair 1: '1_0' is not"),
        ("nan", r"pair 1: 'nan' is not"),
        ("1 ٢", r"pair 1: '\\u0662' is not"),
        ("² 1", r"pair 1: '\\xb2' is not"),
        ("1\x0b2", r"pair 1: '1\\x0b2' is not"),
        ("1\xa02 3 4", r"pair 1: '1\\xa02' is not"),
        ("1\0 2", r"pair 1: '1\\x00' is not"),
        ("0 3", r"pair 1 \(0 3\): start is less than 1"),
        ("1 1 3 0", r"pair 2 \(3 0\): length is less than 1"),
        ("5 1 3 1", r"pair 2 \(3 1\) is not sorted: it begins before pair 1 \(5 1\)"),
        ("1 3 3 2", r"pair 2 \(3 2\) overlaps pair 1 \(1 3\)"),
        ("1 1 3 2 3 2", r"pair 3 \(3 2\) overlaps pair 2 \(3 2\)"),
        ("1 1 20 2", r"pair 2 \(20 2\) goes past the end of a 4x5 image \(20 pixels\)"),
        ("21 1", r"pair 1 \(21 1\) goes past the end"),
        (f"1 {HUGE}", r"pair 1 \(1 99999999999999999999\.\.\.\) goes past the end"),
        (f"{HUGE} 1", r"pair 1 \(99999999999999999999\.\.\. 1\) goes past the end"),
        (f"1 1 {HUGE} {HUGE}", r"pair 2 .* goes past the end"),
        (f"{HUGE} 1 {HUGE} 1", r"pair 2 .* overlaps"),
        (12, r"is a text, got int 12"),
        (["1 2"], r"is a text, got list"),
        (1.5, r"is a text, got float 1\.5"),
    ],
)
def test_a_malformed_text_is_refused_with_its_pair(rle, said: str) -> None:
    with pytest.raises(RLEError, match=said):
        decode(rle, (4, 5))


def test_an_image_without_pixels_holds_no_run() -> None:
    assert decode("", (0, 5)).shape == (0, 5)
    assert encode(np.zeros((0, 5), np.uint8)) == ""
    with pytest.raises(RLEError, match="past the end"):
        decode("1 1", (0, 5))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_encode_takes_any_type_and_memory_order(dtype: type) -> None:
    mask = decode("2 3 8 5", (4, 5)).astype(dtype)
    for form in (mask, np.ascontiguousarray(mask), np.repeat(mask, 2, axis=1)[:, ::2]):
        assert encode(form) == "2 3 8 5"


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros(4), r"two dimensions .* got shape \(4,\)"),
        (np.zeros((1, 4, 4)), r"two dimensions"),
        (np.array([[0, 2]]), "only 0 and 1"),
        (np.array([[0, 255]], np.uint8), "only 0 and 1"),
        (np.array([[0, -1]]), "only 0 and 1"),
        (np.array([[0.5, 1]]), "only 0 and 1"),
        (np.array([[np.nan, 1]]), "only 0 and 1"),
    ],
)
def test_encode_refuses_what_is_no_binary_mask(mask: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encode(mask)


@given(MASKS)
def test_decode_inverts_encode(mask: np.ndarray) -> None:
    rle = encode(mask)
    np.testing.assert_array_equal(decode(rle, mask.shape), mask)
    np.testing.assert_array_equal(naive(rle, mask.shape), mask)


@given(MASKS)
def test_masks_agree_with_pycocotools(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(coco(encode(mask), mask.shape), mask)


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="0123456789 -+.\n"),
        st.lists(st.integers(-2, 40)).map(lambda numbers: " ".join(map(str, numbers))),
        st.none() | st.floats() | st.integers() | st.binary(),
    )
)
def test_anything_is_either_a_mask_or_an_rle_error(rle) -> None:
    try:
        mask = decode(rle, (5, 6))
    except RLEError:
        pass
    else:
        expected = naive(rle, (5, 6)) if isinstance(rle, str) else np.zeros((5, 6))
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("end", ["", " x", " 1", f" {HUGE} 1", " 1 1", " 0 1"])
def test_memory_is_linear_in_the_text(end: str) -> None:
    """Megabytes of text, valid or wrong at the very end, in some multiple of their size."""
    rle = " ".join(f"{2 * i + 1} 1" for i in range(200_000)) + end
    tracemalloc.start()
    with pytest.raises(RLEError, match=r"^.{10,150}$") if end else nullcontext():
        decode(rle, (1, 400_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * len(rle)


def test_real_masks(real_data: Path) -> None:
    """Each real mask as pycocotools sees it, and encoded again to the very same text."""
    table = pd.read_csv(real_data / "severstal_masks" / "train.csv")
    for rle in table["EncodedPixels"].iloc[::12]:
        mask = decode(rle)
        np.testing.assert_array_equal(coco(rle, mask.shape), mask)
        assert encode(mask) == rle
