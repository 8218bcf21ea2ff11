"""Readers: a file becomes records and faults, all with line numbers. Nothing is skipped silently.

A record that begins on line 7 and has a line break inside of quotes is record 7; in Parquet, which has no
lines, the number is that of the row. A fault says where and what kind, never what stood there.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow
import pyarrow.parquet

from contracts.refusal import Refusal
from site_agent.datasets.conll import sentences
from site_agent.datasets.formats import MAX_FIELD, Format, open_text
from site_agent.datasets.headers import Nameless, bare_names, column_names
from site_agent.datasets.workbooks import header, sheet_rows

MIXED = "its columns are not those of the file's first row"
REPEATED = "the column names stand here once more"
DEEPEST = 4
"""Objects within objects, of which the fields are columns."""
_DOS_END = "\x1a"
"""What DOS and programs that write as it did put behind the last line: a line without an end."""
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Nested:
    """Stands for a list, an object, or a type that is no text: conversations and choices are lists; else it
    may stand in a column that we do not use. `kind` is the type's name where the file has one for the whole
    column."""

    kind: str = ""
    held: Any = None

    @property
    def value(self) -> Any:
        """What it holds, as JSON has it; a cell of a Parquet file is read only now."""
        return self.held.as_py() if isinstance(self.held, pyarrow.Scalar) else self.held


@dataclass(frozen=True)
class Record:
    """One row as it stands in the file. `line` counts from 1; `nameless` says that its first column has no
    name, and something in it (headers.py)."""

    line: int
    values: dict[str, Value | Nested]
    nameless: bool = False


@dataclass(frozen=True)
class Fault:
    """A row that cannot be used: its line and the reason, without content."""

    line: int
    reason: str


def read(path: Path, found: Format) -> Iterator[Record | Fault]:
    """All rows of the file in order.

    Raises: a `dataset.` code where the rest cannot be read at all.
    """
    readers = {
        "jsonl": _json_lines,
        "delimited": _delimited,
        "parquet": _parquet,
        "xlsx": _workbook,
        "conll": _conll,
    }
    try:
        yield from readers[found.name](path, found)
    except UnicodeError as error:
        raise Refusal("dataset.unknown_encoding", encoding=found.encoding) from error
    except OSError as error:
        raise Refusal("dataset.unreadable", file=path.name, fault=error.strerror or "unknown") from error


_ENDS = ("\n", "\r")


class _DuplicateKey(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DuplicateKey
    return found


def _json_lines(path: Path, found: Format) -> Iterator[Record | Fault]:
    """A field of an object in a row is a column too, called `object.field`, where the first row has it."""
    columns: set[str] | None = None
    within: dict[str, tuple[str, ...]] = {}
    with open_text(path, found, newline="") as text:
        line = 0
        while raw := text.readline(MAX_FIELD + 1):
            line += 1
            if len(raw) > MAX_FIELD and not raw.endswith(_ENDS):
                while (rest := text.readline(MAX_FIELD)) and not rest.endswith(_ENDS):
                    pass
                yield Fault(line, f"the line is longer than {MAX_FIELD:,} characters")
                continue
            held = raw.strip()  # of RFC 7464's U+001E before each object, too
            if not held or raw == _DOS_END:
                continue
            row = _json_row(held, line)
            if isinstance(row, Fault):
                yield row
                continue
            if columns is None:
                columns = set(row)
                within = {name: way for name, way in _ways_within(row) if name not in columns}
            if set(row) != columns:
                yield Fault(line, MIXED)
                continue
            cells = row | {name: _at(row, way) for name, way in within.items()}
            yield Record(line, {name: _plain(cell) for name, cell in cells.items()})


def _ways_within(row: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The fields of its objects, by name, and how each is reached."""
    for name, cell in row.items():
        if isinstance(cell, dict) and len(before) < DEEPEST:
            yield from _ways_within(cell, (*before, name))
        elif before:
            yield ".".join((*before, name)), (*before, name)


def _at(row: dict[str, Any], way: tuple[str, ...]) -> Any:
    """What lies there; None where nothing does."""
    found: Any = row
    for name in way:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _json_row(raw: str, line: int) -> dict[str, Any] | Fault:
    try:
        value = json.loads(raw, object_pairs_hook=_object)
    except _DuplicateKey:
        return Fault(line, "a name stands twice in the object")
    except (ValueError, RecursionError):
        return Fault(line, "not valid JSON")
    if not isinstance(value, dict) or not value:
        return Fault(line, "not a JSON object")
    return value


def _plain(cell: Any) -> Value | Nested:
    return Nested(held=cell) if isinstance(cell, dict | list) else cell


def _delimited(path: Path, found: Format) -> Iterator[Record | Fault]:
    csv.field_size_limit(MAX_FIELD)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if found.quotes else csv.QUOTE_NONE
    with open_text(path, found, newline="") as text:
        for _ in range(found.skip):
            text.readline(MAX_FIELD)
        lines = (line for line in text if line != _DOS_END)
        reader = csv.reader(
            lines, delimiter=found.delimiter, quoting=quoting, strict=True, skipinitialspace=found.spaced
        )
        columns: list[str | None] | None = None
        while True:
            line = reader.line_num + 1 + found.skip
            try:
                cells = next(reader, None)
            except csv.Error as error:
                # After this nobody can say where the next row begins, so the rest cannot be skipped over.
                raise Refusal("dataset.broken_quotes", line=line) from error
            if cells is None:
                return
            if not any(cells):
                continue  # spreadsheets write lines of nothing but delimiters below their last row
            if columns is None:
                columns = column_names(cells, path.name)
                nameless = Nameless(columns, path.name, line)
            elif len(cells) != len(columns):
                yield Fault(line, MIXED)
            elif bare_names(cells) == columns:
                yield Fault(line, REPEATED)
            else:
                nameless.check(cells)
                yield _of_table(line, columns, cells)


def _conll(path: Path, found: Format) -> Iterator[Record | Fault]:
    with open_text(path, found, newline="") as text:
        for line, tokens, tags in sentences(text):
            if tags is None:
                yield Fault(line, "a line has no tag, or there are too many")
            else:
                yield Record(line, {"tokens": Nested(held=tokens), "tags": Nested(held=tags)})


def _workbook(path: Path, found: Format) -> Iterator[Record | Fault]:
    columns: list[str | None] | None = None
    for line, cells in sheet_rows(path, found.skip):
        if columns is None:
            columns, nameless = header(cells, path, line)
        elif [cell or None for cell in cells] == columns:
            yield Fault(line, REPEATED)
        else:
            nameless.check(["" if cell is None else str(cell) for cell in cells])
            yield _of_table(line, columns, cells)


def _parquet(path: Path, found: Format) -> Iterator[Record | Fault]:
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        column_names([name or " " for name in names], path.name)
        line = 0
        for batch in file.iter_batches(batch_size=1024):
            cells = [_column(column) for column in batch.columns]
            for row in zip(*cells, strict=True):
                line += 1
                yield Record(line, dict(zip(names, row, strict=True)))
    except (pyarrow.ArrowException, OSError) as error:
        raise Refusal("dataset.damaged") from error


def _column(column: pyarrow.Array) -> list[Value | Nested]:
    if isinstance(column, pyarrow.DictionaryArray):
        column = column.dictionary_decode()
    kind = column.type
    if _is_text(kind):
        # Parquet does not check its strings, so they are decoded here, one by one.
        return [
            None if cell is None else cell.decode("utf-8", "surrogateescape")
            for cell in column.cast(pyarrow.large_binary()).to_pylist()
        ]
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind) or pyarrow.types.is_null(kind):
        return column.to_pylist()
    if pyarrow.types.is_floating(kind):
        return [None if cell is None or math.isnan(cell) else float(cell) for cell in column.to_pylist()]
    if pyarrow.types.is_decimal(kind):
        return [None if cell is None else _whole(cell) for cell in column.to_pylist()]
    return [Nested(str(kind), cell) for cell in column]


def _is_text(kind: pyarrow.DataType) -> bool:
    """Strings of every layout, and bytes without a type: Hive and old Spark write texts so. What is not UTF-8
    is named by its line."""
    types = pyarrow.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
    )


def _whole(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _of_table(line: int, columns: Sequence[str | None], cells: Sequence[Value | Nested]) -> Record:
    nameless = columns[0] is None and cells[0] not in (None, "")
    return Record(line, named(columns, cells), nameless)


def named(columns: Sequence[str | None], cells: Sequence[Value | Nested]) -> dict[str, Value | Nested]:
    """The cells of the columns that have a name."""
    return {name: cell for name, cell in zip(columns, cells, strict=True) if name is not None}
