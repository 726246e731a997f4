"""Image files of every kind read as grey bytes, and every way in which one can be damaged."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.pixels import EXTENSIONS, read_image
from common.tables import LabelError


def picture(shape: tuple[int, int] = (6, 10), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize("ending", sorted(EXTENSIONS))
def test_every_ending_is_read_as_it_was_written(tmp_path: Path, ending: str) -> None:
    """By OpenCV, or by PIL what that cannot write; lossy formats within a few grey levels."""
    image = np.add.outer(np.arange(40), np.arange(60) * 3).astype(np.uint8)
    path = tmp_path / f"a{ending}"
    if ending == ".pbm":
        image = np.where(image > 99, 255, 0).astype(np.uint8)
    if ending in (".gif", ".ppm"):
        Image.fromarray(image).convert("RGB" if ending == ".ppm" else "P").save(path)
    else:
        lossless = [cv2.IMWRITE_WEBP_QUALITY, 101, cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
        assert cv2.imwrite(str(path), image, lossless)
    lossy = ending in (".avif", ".jpe", ".jpeg", ".jpg")
    np.testing.assert_allclose(read_image(path).astype(int), image, atol=4 if lossy else 0)


def test_colour_and_sixteen_bits_become_grey_bytes(tmp_path: Path) -> None:
    image = picture((32, 40))
    cv2.imwrite(str(tmp_path / "colour.png"), np.dstack([image] * 3))
    np.testing.assert_array_equal(read_image(tmp_path / "colour.png"), image)
    deep = image.astype(np.uint16) * 256 + 200
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), image)
    cv2.imwrite(str(tmp_path / "real.tif"), image.astype(np.float32))
    with pytest.raises(LabelError, match=r"real\.tif has float32 pixels; 8 or 16 bits"):
        read_image(tmp_path / "real.tif")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_image_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    cv2.imwrite(str(path), picture((64, 400)))
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100)  # padding after the end is no harm
    assert read_image(path).shape == (64, 400)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(LabelError, match=rf"cut\{suffix} is (truncated|not an image)"):
        read_image(path)


def test_a_jpeg_whose_pixels_are_all_there_is_read(tmp_path: Path) -> None:
    """Also without its end marker, and with another picture's beginning behind it."""
    path = tmp_path / "x.jpg"
    cv2.imwrite(str(path), picture((64, 400)))
    whole, expected = path.read_bytes(), read_image(path)
    for content in (whole[:-2], whole[:-1], whole + b"\xff\xd8\xff\xda\0\0 and more"):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_image(path), expected)
    for missing in range(5, 60):
        path.write_bytes(whole[:-missing])
        with pytest.raises(LabelError, match="truncated"):
            read_image(path)
    progressive = cv2.imencode(".jpg", picture((64, 400)), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
    path.write_bytes(progressive.tobytes()[:-2])
    with pytest.raises(LabelError, match="truncated"):
        read_image(path)


def test_a_whole_thumbnail_does_not_hide_that_the_image_is_cut(tmp_path: Path) -> None:
    """Cameras put a small JPEG, with its own end marker, into the header of the large one."""
    small, large = (cv2.imencode(".jpg", picture(s))[1].tobytes() for s in ((8, 8), (64, 400)))
    segment = b"Exif\0\0" + small
    header = b"\xff\xd8\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    path = tmp_path / "camera.jpg"
    path.write_bytes(header + large[2:])
    assert read_image(path).shape == (64, 400)
    path.write_bytes(header + large[2:-50])
    with pytest.raises(LabelError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xd9", b"\x89PNG IEND\xaeB`\x82"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(LabelError, match=r"x\.jpg is (truncated|not an image)"):
        read_image(tmp_path / "x.jpg")
    with pytest.raises(LabelError, match=r"cannot read .*y\.jpg"):
        read_image(tmp_path / "y.jpg")


def test_a_png_whose_chunk_promises_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    whole = cv2.imencode(".png", picture((32, 40)))[1].tobytes()
    start = whole.index(b"IDAT") - 4
    (tmp_path / "x.png").write_bytes(whole[:start] + b"\x7f" + whole[start + 1 :])
    with pytest.raises(LabelError, match=r"x\.png is truncated"):  # not what OpenCV says of it
        read_image(tmp_path / "x.png")
    end = whole.index(b"IEND") - 4
    last_of_57 = whole[:start] + b"\0\0\0\x39IEND" + b"\x0c" * 69  # no pixels, and no end
    for spoilt in (last_of_57, whole[:end] + b"\0\0\0\x39" + whole[end + 4 :] + bytes(57)):
        (tmp_path / "x.png").write_bytes(spoilt)
        with pytest.raises(LabelError, match=r"x\.png is truncated"):
            read_image(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(whole + b"further bytes")
    assert read_image(tmp_path / "y.png").shape == (32, 40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=80), st.sampled_from([".jpg", ".png", ".bmp", ".tif"]), st.data())
def test_any_bytes_are_either_an_image_or_a_label_error(tmp_path: Path, tail: bytes, suffix, data):
    whole = cv2.imencode(suffix, picture())[1].tobytes()
    kept = data.draw(st.integers(0, len(whole)))
    path = tmp_path / f"x{suffix}"
    path.write_bytes(whole[:kept] + tail)
    try:
        image = read_image(path)
    except LabelError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 2
