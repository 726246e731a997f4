"""The tables of a data set, read strictly: every row is good, or a problem with its line."""

from __future__ import annotations

import csv
from pathlib import Path

from common.errors import UserError


class LabelError(UserError):
    """A data set that cannot be used as it is; the message names the file and the row."""


def read_rows(path: Path, *formats: list[str]) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Rows (line in the file, fields in the order of the format) and what is wrong with others.

    formats: lists of column names; the header must hold one of them, in any order. Blank lines
    are passed over. Raises LabelError where the file is missing, no text, or has other columns.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise LabelError(f"{path} is missing.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"cannot read {path} as a table: {error}") from error
    header = _fields(lines[0])
    columns = next((known for known in formats if sorted(known) == sorted(header)), None)
    if columns is None:
        expected = " or ".join(",".join(known) for known in formats)
        raise LabelError(f"{path} has the columns {','.join(header)[:80]!r}; expected {expected}.")
    order = [header.index(column) for column in columns]
    rows, problems = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = _fields(line)
        if len(fields) == len(header):
            rows.append((number, [fields[k] for k in order]))
        else:
            problems.append(
                f"{path}, line {number} ({fields[0][:80]}): {len(fields)} fields instead of "
                f"{len(header)}"
            )
    return rows, problems


def _fields(line: str) -> list[str]:
    """Fields of one line; quotes are rare and cost more. A quote left open is kept as it is."""
    if '"' in line:
        try:
            return next(csv.reader([line], strict=True))
        except csv.Error:
            pass
    return line.split(",")
