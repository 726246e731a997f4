"""Bars are drawn for those who watch."""

import io
import sys

import pytest

from common.progress import tqdm


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
