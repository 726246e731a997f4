"""The tables of a data set as people have them: every row is read, or a problem with its line.

Columns go by their names, in any order and beside others; commas, semicolons or tabs part them;
the text is UTF-8 or, with its mark, UTF-16.
"""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from common.errors import UserError

DELIMITERS = (",", ";", "\t")
csv.field_size_limit(2**31 - 1)  # a large image's mask is a long text
SINGLE = 3  # problems of one kind that are listed one by one


class LabelError(UserError):
    """A data set that cannot be used as it is; the message names the file and the row."""


def read_rows(path: Path, *formats: list[str]) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Rows (line in the file, fields in the order of the format) and what is wrong with others.

    formats: lists of column names; the header must hold one of them. Blank lines are passed over.
    Raises LabelError where the file is missing, no text, or lacks columns.
    """
    try:
        with path.open("rb") as file:
            marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        lines = path.read_text(encoding="utf-16" if marked else "utf-8-sig").split("\n")
    except FileNotFoundError:
        raise LabelError(f"{path} is missing.") from None
    except UnicodeError as error:
        raise LabelError(
            f"cannot read {path} as a table: {error}\nSave it as CSV in UTF-8."
        ) from error
    except OSError as error:
        raise LabelError(f"cannot read {path} as a table: {error.strerror or error}") from error
    delimiter, header = _header(lines[0], formats)
    wanted = [[_plain(column) for column in columns] for columns in formats]
    columns = next((known for known in wanted if set(known) <= set(header)), None)
    expected = " or ".join(",".join(known) for known in formats)
    if columns is None:
        raise LabelError(f"{path} has the columns {lines[0][:80]!r}; expected {expected}.")
    if doubled := [column for column in columns if header.count(column) > 1]:
        raise LabelError(f"{path} has the column {doubled[0]!r} twice; expected {expected}.")
    order = [header.index(column) for column in columns]
    rows, problems = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = _fields(line, delimiter)
        if len(fields) == len(header):
            rows.append((number, [fields[k] for k in order]))
        else:
            where = f"{path}, line {number} ({fields[0][:80]})"
            problems.append((where, f"{len(fields)} fields instead of {len(header)}"))
    return rows, list(summed_up(problems))


def summed_up(problems: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Problems (where, what) as lines; many that begin alike, up to a colon, are one with a count.

    A table made in another way than ours is wrong in thousands of rows, and wrong once.
    """
    alike: dict[str, list[str]] = {}
    for where, what in problems:
        alike.setdefault(what.partition(":")[0], []).append(f"{where}: {what}")
    for lines in alike.values():
        if len(lines) <= SINGLE:
            yield from lines
        else:
            yield f"{lines[0]} (and {len(lines) - 1} more rows like it)"


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as text, lines ended by a line feed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def same(name: str) -> str:
    """Equal for names that a file system may take for one: of any case and any Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def can_stand(name: str) -> bool:
    """Whether a file's name can stand in a table: it is Unicode and has no line break."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return len(name.splitlines()) == 1


def matcher(names: Iterable[str]) -> Callable[[str], str | None]:
    """Finds which of the file names a table means: that very name, or the only one like it.

    Spreadsheets and file systems change case, Unicode form and blanks around. None where there is
    no such name, or several.
    """
    exact = set(names)
    alike: dict[str, str | None] = {}
    for name in exact:
        key = same(name.strip())
        alike[key] = None if key in alike else name
    return lambda name: name if name in exact else alike.get(same(name.strip()))


def near_miss(names: Iterable[str]) -> Callable[[str], str]:
    """Tells which file an unknown name may stand for: of another ending or folder."""
    stems = {same(PurePosixPath(name).stem): name for name in names}

    def tell(name: str) -> str:
        base = PurePosixPath(name.strip().replace("\\", "/"))
        near = stems.get(same(base.stem)) or stems.get(same(base.name))
        return f": it holds {near}" if near else ""

    return tell


def _header(line: str, formats: Iterable[list[str]]) -> tuple[str, list[str]]:
    """The delimiter by which the most known columns show, and the columns."""
    known = {_plain(column) for columns in formats for column in columns}
    found = {mark: [_plain(field) for field in _fields(line, mark)] for mark in DELIMITERS}
    mark = max(DELIMITERS, key=lambda mark: len(known.intersection(found[mark])))
    return mark, found[mark]


def _plain(column: str) -> str:
    return column.strip().casefold()


def _fields(line: str, delimiter: str) -> list[str]:
    """Fields of one line; quotes are rare and cost more. A quote left open is kept as it is."""
    if '"' in line:
        try:
            return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
        except csv.Error:
            pass
    return line.split(delimiter)
