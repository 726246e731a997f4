"""The fuzzer finds nothing for a few seconds, and finds what is planted; work grows linearly.

The planted bugs lie here too: functions that `python -m tests.fuzz --plant` calls by name.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from common import labels, rle
from common.labels import inspect
from common.rle import RLEError

ROOT = Path(__file__).parents[1]
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="needs atheris, which has wheels for Linux on x86_64 and Python 3.11 to 3.14 only",
)


def fuzz(out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """Runs the fuzzer as a command, with everything that it says in stdout."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *map(str, options), "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=240,
    )


@needs_atheris
@pytest.mark.parametrize(
    ("target", "modules"),
    [
        ("rle", ["common.rle"]), ("labels", ["common.labels", "common.tables"]),
        ("masks", ["data.label_maps"]), ("coco", ["data.from_coco", "data.coco_masks"]),
        ("labelme", ["data.from_labelme", "data.labelme_shapes"]), ("config", ["common.runs"]),
        ("split", ["common.dataset.splits"]), ("thresholds", ["common.thresholds"]),
        ("checkpoint", ["common.checkpoint"]), ("image", ["common.pixels"]),
    ],
)  # fmt: skip
def test_a_few_seconds_of_fuzzing_find_nothing(
    target: str, modules: list[str], tmp_path: Path
) -> None:
    done = fuzz(tmp_path, target, "--seconds", 4)
    assert done.returncode == 0, done.stdout[-4000:]
    assert all(f"Instrumenting {module}\n" in done.stdout for module in modules)
    assert int(re.search(r"INITED cov: (\d+)", done.stdout)[1]) > 20, "hardly any coverage"
    assert int(re.search(r"number_of_executed_units: (\d+)", done.stdout)[1]) > 10
    assert not list((tmp_path / target).glob("crash-*"))


def plant_an_error_for_one_word() -> None:
    """Escapes for a text that chance never writes: the watched comparison must lead there."""
    decode = rle.decode

    def broken(text, shape):
        if isinstance(text, str) and text[:6] == "walrus":
            raise IndexError("planted")
        return decode(text, shape)

    rle.decode = broken


def plant_a_wrong_last_pixel() -> None:
    """Loses the image's last pixel."""
    decode = rle.decode

    def broken(text, shape):
        mask = decode(text, shape)
        if mask.size:
            mask[-1, -1] = 0
        return mask

    rle.decode = broken


def plant_a_mask_of_overlapping_runs() -> None:
    """Takes what should be refused."""
    decode = rle.decode

    def broken(text, shape):
        try:
            return decode(text, shape)
        except RLEError as error:
            if "overlaps" in str(error):
                return np.zeros(shape, np.uint8)
            raise

    rle.decode = broken


def plant_quadratic_memory() -> None:
    """Wants a byte for each pair of characters."""
    decode = rle.decode

    def broken(text, shape):
        if isinstance(text, str):
            np.zeros(len(text) ** 2, np.uint8)
        return decode(text, shape)

    rle.decode = broken


def plant_quadratic_time() -> None:
    """Looks at every line for each line."""
    read_rows = labels.read_rows

    def broken(path, *formats):
        lines = path.read_bytes().split(b"\n")
        for line in lines:
            sum(other == line for other in lines)
        return read_rows(path, *formats)

    labels.read_rows = broken


def plant_an_unchecked_class() -> None:
    """Reads a class without asking whether it is a number."""
    labels._class_number = lambda text, *_: int(text)


@needs_atheris
@pytest.mark.parametrize(
    ("target", "plant", "said"),
    [
        ("rle", plant_an_error_for_one_word, "IndexError: planted"),
        ("rle", plant_a_wrong_last_pixel, "AssertionError: another mask than the definition's"),
        ("rle", plant_a_mask_of_overlapping_runs, "AssertionError: a mask of what is no run-"),
        ("rle", plant_quadratic_memory, "AssertionError: .* bytes of memory for an input of"),
        ("labels", plant_quadratic_time, "AssertionError: .* s for an input of"),
        ("labels", plant_an_unchecked_class, "ValueError: invalid literal for int"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_bug_is_found_and_its_input_kept(
    target: str, plant: Callable[[], None], said: str, tmp_path: Path
) -> None:
    name = f"tests.test_fuzz:{plant.__name__}"
    # A seed repeats its run: this one finds each in less than two thousand inputs.
    found = fuzz(tmp_path, target, "--seconds", 120, "--seed", 4, "--plant", name)
    assert found.returncode != 0
    assert re.search(said, found.stdout), found.stdout[-4000:]
    (crash,) = (tmp_path / target).glob("crash-*")
    again = fuzz(tmp_path, target, crash, "--plant", name)
    assert again.returncode != 0
    assert re.search(said, again.stdout)
    assert fuzz(tmp_path, target, crash).returncode == 0  # the bug is the planted one


def test_without_atheris_the_fuzzer_says_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['atheris'] = None; from tests.fuzz import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "rle", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "pip install atheris" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def steps(function: Callable[[], object]) -> int:
    """Lines of Python and calls, also of C functions, until `function` is done.

    A count is the same on every machine, however busy, where a time is not.
    """
    count = 0

    def look(*_):
        nonlocal count
        count += 1
        return look

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(look)
    sys.setprofile(look)
    try:
        with suppress(RLEError):
            function()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return count


@pytest.mark.parametrize("end", ["", " x", " 1", f" {'9' * 30} 1", " 1 1", " 0 1"])
def test_the_steps_of_decoding_grow_linearly_with_the_runs(end: str) -> None:
    few, many = (
        steps(
            partial(rle.decode, " ".join(f"{2 * i + 1} 1" for i in range(runs)) + end, (1, 40_000))
        )
        for runs in (2_000, 20_000)
    )
    assert many < 11 * few
    if not end:  # numpy does all the work
        assert many == few


ROWS = {
    "good": ("train.csv", "{name},{k},1 2 5 2\n"),
    "old format": ("train.csv", "{name}_{k},1 2 5 2\n"),
    "quoted": ("train.csv", '{name},"{k}","1 2 5 2"\n'),
    "duplicates": ("train.csv", "0.png,1,1 2 5 2\n"),
    "no such image": ("train.csv", "x{name},{k},1 2\n"),
    "malformed": ("train.csv", "{name},{k},1 2 x\n"),
    "other fields": ("train.csv", "x\n"),
    "open quotes": ("train.csv", '"\n'),
    "blank": ("train.csv", "\n"),
    "groups": ("groups.csv", "{name},coil\n"),
    "two groups": ("groups.csv", "{name},coil {k}\n"),
}


@pytest.mark.parametrize(("table", "row"), ROWS.values(), ids=ROWS)
def test_the_work_of_reading_labels_grows_linearly_with_the_rows(
    table: str, row: str, tmp_path: Path
) -> None:
    """Steps, and memory, of ten times the rows; the folder's fifty images stay."""
    (tmp_path / "train_images").mkdir()
    for i in range(50):
        (tmp_path / "train_images" / f"{i}.png").touch()
    headers = {"train.csv": "ImageId,ClassId,EncodedPixels\n", "groups.csv": "image,group\n"}
    if "_" in row:
        headers["train.csv"] = "ImageId_ClassId,EncodedPixels\n"
    for name, header in headers.items():
        (tmp_path / name).write_text(header)
    costs = []
    for rows in (1_000, 10_000):
        lines = (row.format(name=f"{i % 50}.png", k=i // 50 + 1) for i in range(rows))
        (tmp_path / table).write_text(headers[table] + "".join(lines))
        tracemalloc.start()
        inspect(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        costs.append((steps(partial(inspect, tmp_path)), peak))
    (few, small), (many, large) = costs
    assert many < 11 * few
    assert large < 20 * small  # longer numbers and spare room of lists; quadratic were 100
