"""Bars are drawn for those who watch."""

import io
import sys
import time

import pytest

from common.progress import in_threads, tqdm


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal


class NotebookStream(Stream):
    __module__ = "ipykernel.iostream"


@pytest.mark.parametrize(
    ("stream", "drawn"), [(Stream(False), 0), (Stream(True), 1), (NotebookStream(False), 1)]
)
def test_a_bar_is_drawn_on_a_terminal_and_in_a_notebook(monkeypatch, stream, drawn: int):
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(tqdm(range(3), "counting")) == [0, 1, 2]
    assert ("counting" in stream.getvalue()) == drawn
    list(tqdm(range(3), "hidden", disable=True))
    assert "hidden" not in stream.getvalue()


def test_a_closed_stderr_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(tqdm(range(3))) == [0, 1, 2]


def test_threads_keep_the_order_and_begin_nothing_after_an_error():
    assert list(in_threads(str, range(50), threads=3)) == list(map(str, range(50)))
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise ValueError("of the work")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="of the work"):
        list(in_threads(work, range(500), threads=1))
    assert len(begun) < 500
