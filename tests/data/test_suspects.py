"""What is worth a look: each kind is found where it was planted, and a clean set has none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.rle import encode
from data.check import main
from data.image_files import Facts, facts

HEIGHT, WIDTH = 64, 160


def strip(seed: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image and the mask of its bright ellipse, which lies left of and above the middle."""
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    middle = (int(width * random.uniform(0.22, 0.3)), int(height * random.uniform(0.25, 0.35)))
    cv2.ellipse(mask, middle, (width // 8, height // 5), 0, 0, 360, 1, -1)
    noise = cv2.GaussianBlur(random.normal(0, 40, mask.shape), (0, 0), 2)
    return np.clip(90 + noise + 80.0 * mask, 0, 255).astype(np.uint8), mask


def make(
    root: Path,
    text: Callable[[np.ndarray], str] = encode,
    turn: Callable[[np.ndarray], np.ndarray] = lambda image: image,
    count: int = 24,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Path:
    """A data set of `count` defective strips; text: writes a mask, turn: what befell an image."""
    (root / "train_images").mkdir(parents=True)
    rows = []
    for i in range(count):
        image, mask = strip(i, *size)
        cv2.imwrite(str(root / "train_images" / f"{i:02d}.png"), turn(image))
        rows.append(f"{i:02d}.png,{1 + i % 2},{text(mask)}\n")
    write(root, rows)
    return root


def write(root: Path, rows: list[str]) -> None:
    (root / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n" + "".join(rows))


def rows(root: Path) -> list[str]:
    return (root / "train.csv").read_text().splitlines(keepends=True)[1:]


def worth(root: Path, capsys: pytest.CaptureFixture, *options: str) -> list[str]:
    """The lines of the section; nothing in it is an error."""
    assert main([str(root), *options]) == 0
    said = capsys.readouterr().out
    assert said.endswith("nothing is wrong\n")
    start = "worth a look: "
    return [line.removeprefix(start) for line in said.splitlines() if line.startswith(start)]


def along_rows(mask: np.ndarray) -> str:
    return encode(mask.T)


def from_zero(mask: np.ndarray) -> str:
    numbers = np.array(encode(mask).split(), int)
    numbers[0::2] -= 1
    return " ".join(map(str, numbers))


def enlarged(times: float, image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=times, fy=times)


def test_a_clean_set_has_nothing_worth_a_look(tmp_path: Path, capsys) -> None:
    assert worth(make(tmp_path / "a"), capsys) == []


@pytest.mark.parametrize(
    ("text", "turn", "said"),
    [
        (along_rows, lambda image: image, "masks that hold together only when read along the rows"),
        (encode, lambda image: np.rot90(image), "masks that hold together only when read along"),
        (encode, partial(enlarged, 1.5), "masks that seem drawn on images of another height (64 "),
        (encode, partial(enlarged, 2), "masks that seem drawn on images of another height (64 pix"),
        (encode, np.fliplr, "masks that fit their images' edges better mirrored left to right"),
        (encode, np.flipud, "masks that fit their images' edges better mirrored top to bottom"),
        (
            encode,
            lambda a: a[::-1, ::-1],
            "masks that fit their images' edges better turned by 180",
        ),
    ],
)
def test_masks_of_other_images_are_suspected(tmp_path: Path, text, turn, said, capsys) -> None:
    lines = worth(make(tmp_path / "a", text, turn), capsys)
    assert len(lines) == 1
    assert lines[0].startswith(said)
    assert ": 24, such as " in lines[0]


@pytest.mark.parametrize(("text", "count"), [(encode, 0), (from_zero, 1)])
def test_run_lengths_from_zero_show_at_the_upper_edge(tmp_path: Path, text, count, capsys) -> None:
    root = make(tmp_path / "a", count=0)
    masks = []
    for i in range(3):
        image, mask = strip(i)
        cv2.imwrite(str(root / "train_images" / f"{i}.png"), image[18:])  # through the ellipse
        masks.append(f"{i}.png,1,{text(mask[18:])}\n")
    write(root, masks)
    lines = worth(root, capsys)
    assert len(lines) == count
    for line in lines:
        assert line.startswith("run lengths that may count from 0 instead of 1 (")
        assert ": 3, such as " in line


def test_square_masks_along_the_rows_are_told_by_the_edges(tmp_path: Path, capsys) -> None:
    root = make(tmp_path / "a", lambda mask: encode(mask.T), size=(96, 96), turn=np.asarray)
    lines = worth(root, capsys)
    assert len(lines) == 1
    assert "edges better transposed (or written along the rows)" in lines[0]


def test_a_single_mirrored_image_is_found_and_drawn_first(tmp_path: Path, capsys) -> None:
    root = make(tmp_path / "a")
    image, _ = strip(7)
    cv2.imwrite(str(root / "train_images" / "07.png"), image[:, ::-1])
    (line,) = worth(root, capsys, "--overlays", str(tmp_path / "o"))
    assert line == "masks that fit their images' edges better mirrored or turned: 1, such as 07.png"
    drawn = sorted(path.name for path in (tmp_path / "o" / "suspects").iterdir())
    assert len(drawn) == 24
    assert drawn[0] == "001-07.png"
    picture = cv2.imread(str(tmp_path / "o" / "suspects" / drawn[0]))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert np.ptp(picture.astype(int), axis=2).any()  # the truth is in colour


def test_cells_that_a_spreadsheet_cut(tmp_path: Path, capsys) -> None:
    root = make(tmp_path / "a", count=2)
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000), dtype=np.uint8)
    cv2.imwrite(str(root / "train_images" / "x.png"), noise)
    text = "99990 5 " + " ".join(f"{start} 5" for start in range(100_000, 140_000, 10))
    write(root, [*rows(root), f"x.png,1,{text[:32_767]}\n"])  # ends with a whole pair
    lines = worth(root, capsys)
    assert "masks cut at 32,767 characters, where a spreadsheet cuts: 1, such as x.png" in lines


def test_what_files_say_beside_their_pixels(tmp_path: Path, capsys) -> None:
    root = make(tmp_path / "a", count=2)
    folder = root / "train_images"
    image, _ = strip(50)
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(image).save(folder / "exif.jpg", exif=turned)
    Image.fromarray(image.astype(np.uint16) * 257).save(folder / "white.tif", tiffinfo={262: 0})
    whole = cv2.imencode(".jpg", strip(51)[0])[1].tobytes()
    middle = len(whole) // 2
    (folder / "damaged.jpg").write_bytes(whole[:middle] + bytes(60) + whole[middle + 60 :])
    (folder / "good.jpg").write_bytes(whole + b"further bytes")
    (folder / "endless.jpg").write_bytes(cv2.imencode(".jpg", strip(52)[0])[1].tobytes()[:-2])
    (folder / "below").mkdir()
    cv2.imwrite(str(folder / "below" / "x.png"), image)
    (folder / "x.heic").write_bytes(b"x")
    assert worth(root, capsys) == [
        "images damaged inside, as the JPEG decoder warns: 1, such as damaged.jpg",
        "images that EXIF turns; programs that do not look there lay masks otherwise: 1, such as "
        "exif.jpg",
        "16-bit TIFF files with white as 0, read inverted: 1, such as white.tif",
        "images in subfolders, which are passed over: 1, such as below/x.png",
        "files passed over for their endings, .heic (1): 1, such as x.heic",
    ]
    assert facts(folder / "good.jpg") == facts(folder / "endless.jpg") == Facts()


def test_twelve_bits_in_sixteen(tmp_path: Path, capsys) -> None:
    root = make(tmp_path / "a", turn=lambda image: image.astype(np.uint16) * 16 + 15, count=3)
    (line,) = worth(root, capsys)
    assert "none uses more than 12 bits; they are read as such" in line
    deep = strip(9)[0].astype(np.uint16) * 256
    cv2.imwrite(str(root / "train_images" / "deep.png"), deep)
    assert worth(root, capsys) == []


def test_a_class_far_from_the_others_and_no_defect_at_all(tmp_path: Path, capsys) -> None:
    root = make(tmp_path / "a")
    own = rows(root)
    write(root, [own[0].replace("00.png,1", "00.png,11"), *own[1:]])
    said = "class 11, far from the others and hardly used (a slip?): 1, such as 00.png"
    assert worth(root, capsys) == [said]
    (root / "classes.csv").write_text("class,name\n11,rust\n")
    assert worth(root, capsys) == []
    (root / "classes.csv").unlink()
    write(root, [])
    assert worth(root, capsys) == ["no image has a defect: train.csv holds no mask"]


def test_one_picture_with_masks_and_without(tmp_path: Path, capsys) -> None:
    root = make(tmp_path / "a", count=3)
    cv2.imwrite(str(root / "train_images" / "copy.png"), strip(1)[0][:, ::-1])
    (line,) = worth(root, capsys)
    assert line.startswith("images whose picture is there with masks and without: 2, such as")
    assert {"01.png", "copy.png"} <= set(line.replace(",", " ").split())
