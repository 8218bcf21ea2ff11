"""Excel workbooks: the one sheet of a file, or the first that is named; read by calamine, without formulas.

A workbook is a zip file, so its unpacked size is bounded before anything of it is unpacked.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, PasswordError

from contracts.refusal import Refusal
from site_agent.datasets.headers import Nameless, column_names
from site_agent.datasets.other_formats import other_archive

MAX_UNPACKED_BYTES = 1 << 30
_ROW = re.compile(rb"<(?:\w+:)?row\b[^>]*>")
_FILLED = re.compile(rb"<(?:\w+:)?[vt][ />]")
_HIDDEN = re.compile(rb"\bhidden=[\"'](?:1|true)[\"']")
_PLACE = re.compile(rb"\br=[\"'](\d{1,9})[\"']")
Cell = str | int | float | bool | None


def sheet_rows(path: Path, skip: int = 0) -> Iterator[tuple[int, list[Cell]]]:
    """(line, cells) of the only sheet that holds anything, from the header on; blank rows are left out.

    Raises: `dataset.damaged`, `.too_large`, `.locked`, `.no_rows`, `.which_sheet` or, at the end,
    `.hidden_rows`.
    """
    _refuse_bomb(path)
    try:
        with CalamineWorkbook.from_path(str(path)) as book:
            sheets = [book.get_sheet_by_name(name) for name in book.sheet_names]
            filled = [sheet for sheet in sheets if sheet.height]
            if len(filled) != 1:
                names = ", ".join(sheet.name[:40] for sheet in filled[:10])
                raise Refusal("dataset.which_sheet" if filled else "dataset.no_rows", sheets=names)
            first = (filled[0].start or (0, 0))[0]
            hidden, held = _hidden_rows(path), []
            for line, row in enumerate(filled[0].iter_rows(), first + 1):
                cells = [_plain(cell) for cell in row]
                if line > skip and any(cell not in (None, "") for cell in cells):
                    if line in hidden:
                        held.append(line)
                    yield line, cells
            if held:
                raise Refusal("dataset.hidden_rows", rows=len(held), first=held[0])
    except PasswordError as error:
        raise Refusal("dataset.locked", file=path.name) from error
    except (CalamineError, OSError) as error:
        raise Refusal("dataset.damaged") from error


def _refuse_bomb(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            if "xl/workbook.xml" not in archive.namelist():
                raise Refusal("dataset.other_format", file=path.name, what=other_archive(archive.namelist()))
            if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise Refusal("dataset.too_large", limit=MAX_UNPACKED_BYTES >> 30)
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:  # or of a version that nobody has
        raise Refusal("dataset.damaged") from error


def _hidden_rows(path: Path) -> set[int]:
    """The rows that a sheet with content does not show, filtered out or hidden: calamine does not say so.

    Raises: `dataset.damaged`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [name for name in archive.namelist() if name.lower().endswith(".xml")]
            return set[int]().union(*(_hidden_in(archive, name) for name in parts))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise Refusal("dataset.damaged") from error


def _hidden_in(archive: zipfile.ZipFile, part: str) -> set[int]:
    """The rows of a sheet with content; a part that is no sheet has none. A row without its number is the one
    behind the row before."""
    hidden: set[int] = set()
    filled, kept, row = False, b"", 0
    with archive.open(part) as sheet:
        while block := sheet.read(1 << 20):
            tags, end, kept = (kept + block).rpartition(b">")  # one may lie across a block's end
            filled = filled or _FILLED.search(tags + end) is not None
            for found in _ROW.findall(tags + end):
                place = _PLACE.search(found)
                row = int(place[1]) if place else row + 1
                if _HIDDEN.search(found):
                    hidden.add(row)
    return hidden if filled else set()


def _plain(cell: Any) -> Cell:
    """A sheet keeps whole numbers as floats; dates become ISO 8601; an empty cell is no text."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return str(cell)
    return None if cell == "" else cell


def header(cells: Sequence[Cell], path: Path, line: int) -> tuple[list[str | None], Nameless]:
    """The columns of a sheet's first row.

    Raises: as `column_names` does.
    """
    names = column_names(["" if cell is None else str(cell) for cell in cells], path.name)
    return names, Nameless(names, path.name, line)
