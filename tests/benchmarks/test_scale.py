"""The benchmark of scale: what is made has the copies it says, and every step is measured."""

import json

import numpy as np
import pytest

from benchmarks import scale
from common.dataset.near_duplicates import align


@pytest.fixture(autouse=True)
def few_models(monkeypatch) -> None:
    monkeypatch.setattr(scale, "MODELS", 4)


def test_the_last_tenth_are_copies_of_the_first() -> None:
    details = scale.made_details(50)
    assert (details.shape, details.dtype) == ((50, 32, 128), np.int8)
    assert np.array_equal(details, scale.made_details(50))
    agreement, how = align(details[:5], details[45:])
    assert agreement.min() > 0.6
    assert (abs(how[:, 2]) <= 8).all()
    assert align(details[:20], details[20:40])[0].max() < 0.3


def test_every_step_is_measured(monkeypatch, tmp_path, capsys) -> None:
    class Here:
        """Stands for the process that each measurement has of its own."""

        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> "Here":
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, function, *arguments) -> "Here":
            self.value = function(*arguments)
            return self

        def result(self) -> dict:
            return self.value

    monkeypatch.setattr(scale, "ProcessPoolExecutor", Here)
    out = tmp_path / "scale.json"
    options = ["--counts", "40", "80", "--images", "10", "--out", str(out)]
    assert scale.main(options) == 0
    result = json.loads(out.read_text())
    rows = {(row["step"], row["images"]): row for row in result["rows"]}
    whole = {(step, count) for step in scale.WHOLE for count in (40, 80)}
    assert set(rows) == whole | {(step, 10) for step in scale.ONE_BY_ONE}
    pairs = rows["near-duplicates", 80]
    assert (pairs["found"], pairs["false pairs"]) == (1, 0)
    split = rows["split", 80]
    assert split["train"] + split["val"] + split["test"] == 80
    assert rows["store at 128x800", 10]["bytes an image"] == 2 * 128 * 800
    assert rows["describe", 10]["bytes an image"] == 32 * 128
    assert set(result["exponents"]) == set(scale.WHOLE)
    assert "split: CPU seconds grow as the number of images to the" in capsys.readouterr().out


def test_the_exponent_is_a_slope() -> None:
    rows = [{"images": n, "cpu seconds": 3 * n**1.5} for n in (10, 100, 1000)]
    assert scale.exponent(rows) == pytest.approx(1.5)
    assert scale.exponent(rows[:1]) is None


def test_impossible_counts_are_refused() -> None:
    assert scale.main(["--counts", "5"]) == 2
    assert scale.main(["--images", "0"]) == 2
