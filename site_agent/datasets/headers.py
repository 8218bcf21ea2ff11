"""The first line of a table: which columns it names, and what is wrong with it where it does not.

A file without a header line would make a patient's note into a column name, so a name that cannot be one is
refused, by its place and never by its content.
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.refusal import Refusal

MAX_COLUMNS = 500
MAX_NAME = 64


def column_names(cells: Sequence[str], file: str) -> list[str | None]:
    """The names in a header line; None for a column without one.

    Raises: `dataset.no_header`, `dataset.doubled_column` or `dataset.too_many_columns`.
    """
    if len(cells) > MAX_COLUMNS:
        raise Refusal("dataset.too_many_columns", file=file, columns=len(cells), limit=MAX_COLUMNS)
    names = bare_names(cells)
    seen: set[str] = set()
    for place, name in enumerate(names, 1):
        if name is None:
            continue
        if len(name) > MAX_NAME or name.replace(".", "").isdigit():
            fault = f"longer than {MAX_NAME} characters" if len(name) > MAX_NAME else "a number"
            raise Refusal("dataset.no_header", file=file, column=place, fault=fault)
        if name in seen:
            raise Refusal("dataset.doubled_column", file=file, column=name)
        seen.add(name)
    if not seen:
        raise Refusal("dataset.no_header", file=file, column=1, fault="empty")
    return names


def bare_names(cells: Sequence[str]) -> list[str | None]:
    """The names in these cells, without blanks and the mark that a file begins with; None for none."""
    # Quotes behind a mark are none to the reader of the table.
    bare = (cell.strip("\ufeff").strip('"') if cell.startswith("\ufeff") else cell for cell in cells)
    return [cell.strip() or None for cell in bare]


class Nameless:
    """Columns without a name: the first may hold anything (an index that pandas wrote), others only nothing.

    A trailing comma makes a nameless column of empty cells, which is certain; a nameless column with content
    means that the line is not the header but a title above it.
    """

    def __init__(self, names: Sequence[str | None], file: str, header_line: int) -> None:
        self._empty = [place for place, name in enumerate(names) if name is None and place > 0]
        self._named = sum(name is not None for name in names)
        self._of, self._file, self._line = len(names), file, header_line

    def check(self, cells: Sequence[str]) -> None:
        """Raises: `dataset.title_lines` for a row with content in a column that has no name."""
        if any(cells[place].strip() for place in self._empty):
            raise Refusal(
                "dataset.title_lines", file=self._file, line=self._line, named=self._named, columns=self._of
            )
