"""Taking a dataset in: read, check every row, split where there is no split, and keep it normalised.

The kept file has one JSON object a line, {"label", "split", "text"}, UTF-8, mode 0600. It exists only if
every row of the sources was either kept or counted and named.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from contracts.refusal import Refusal
from site_agent.datasets.codes import whole_numbers
from site_agent.datasets.columns import MAX_LABELS, Columns, infer, split_of_name
from site_agent.datasets.findings import Findings, Rows, find, leaking, repeated
from site_agent.datasets.formats import Format, detect
from site_agent.datasets.missing import looks_missing
from site_agent.datasets.readers import MIXED, Fault, Record, read
from site_agent.datasets.rows import Row, normalise
from site_agent.datasets.splits import assign
from site_agent.datasets.suppression import THRESHOLD
from site_agent.files import replacing
from site_agent.words import printable

SAMPLE_ROWS = 1000
MAX_ROWS = 2_000_000
MAX_KEPT_BYTES = 2 << 30
LEAST_ROWS = 10
SHOWN_FAULTS = 50
PROGRESS_ROWS = 1_000


@dataclass(frozen=True)
class Wishes:
    """What the user says instead of leaving it to be inferred."""

    text: str | None = None
    label: str | None = None
    split: str | None = None
    site: str | None = None
    only_sites: tuple[str, ...] = ()
    encoding: str | None = None
    skip_lines: int = 0
    skip_bad: bool = False
    drop_missing_labels: bool = False
    drop_missing_texts: bool = False
    drop_duplicates: bool = False
    drop_leaks: bool = False
    drop_rare_labels: bool = False
    label_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FaultAt:
    """A fault with the name of its file."""

    file: str
    line: int
    reason: str


class BadRows(Refusal):
    """Rows that cannot be used. `faults` are the first of them, `count` says how many there are."""

    def __init__(self, faults: Sequence[FaultAt], count: int) -> None:
        mixed = all(fault.reason == MIXED for fault in faults)
        lines = ", ".join(str(fault.line) for fault in faults[:10]) + (" …" if count > 10 else "")
        super().__init__("dataset.mixed_columns" if mixed else "dataset.bad_rows", count=count, lines=lines)
        self.faults = tuple(faults)
        self.count = count


@dataclass
class Intake:
    """What was read, inferred, kept and left out.

    `faults` are the first of `fault_count` skipped rows. Nothing is read from the columns `unused`. `dropped`
    counts the rows that were left out by wish, by kind; `mapped` are the labels that were renamed, `codes`
    what labels that are numbers are read as (1.0: 1).
    """

    formats: list[tuple[str, Format]] = field(default_factory=list)
    columns: Columns | None = None
    unused: tuple[str, ...] = ()
    findings: Findings | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    mapped: set[str] = field(default_factory=set)
    codes: dict[str, str] = field(default_factory=dict)
    splits_from: str = ""
    labels: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    sites: Counter[str] = field(default_factory=Counter)
    other_sites: int = 0
    faults: list[FaultAt] = field(default_factory=list)
    fault_count: int = 0

    @property
    def rows(self) -> int:
        return len(self.lengths)


def take_in(
    files: Sequence[Path], target: Path, wishes: Wishes, progress: Callable[[int], None] | None = None
) -> Intake:
    """Read `files` into the normalised file `target`. Nothing is kept if anything is refused. `progress` is
    told how many rows have been read, now and then.

    Refuses with `BadRows` (all rows were looked at) or with another `dataset.` code.
    """
    intake = Intake()
    draft = target.with_name(f".{target.name}.draft")
    drafted = _Drafted()
    try:
        with replacing(draft) as file:
            for row in _rows(files, wishes, intake):
                drafted.add(row)
                file.write(_line(row))
                if progress is not None and len(drafted.labels) % PROGRESS_ROWS == 0:
                    progress(len(drafted.labels))
                if len(drafted.labels) > MAX_ROWS or len(drafted.counts) > MAX_LABELS:
                    break
                if file.tell() > MAX_KEPT_BYTES:
                    raise Refusal("dataset.too_large", limit=MAX_KEPT_BYTES >> 30)
        _check_drafted(drafted, intake, wishes)
        intake.codes = whole_numbers(drafted.counts)
        labels = [intake.codes.get(label, label) for label in drafted.labels]
        splits, intake.splits_from = _splits(drafted.splits, drafted.texts, labels, intake.columns)
        everything = Rows(drafted.texts, labels, splits, drafted.lengths)
        kept = _kept(everything, wishes, intake)
        rows = everything.only(kept)
        intake.labels, intake.splits, intake.lengths = (
            Counter(rows.labels),
            Counter(rows.splits),
            rows.lengths,
        )
        intake.findings = find(rows, drafted.missing_texts)
        _check(intake, len(set(rows.texts)))
        _write(draft, target, everything, kept)
    finally:
        draft.unlink(missing_ok=True)
    return intake


@dataclass
class _Drafted:
    """Of each drafted row: a hash of its text, its label, its split, and its length in characters."""

    texts: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    missing_texts: int = 0

    def add(self, row: Row) -> None:
        self.texts.append(hashlib.sha256(row.text.encode()).digest()[:16])
        self.labels.append(row.label)
        self.splits.append(row.split)
        self.lengths.append(len(row.text))
        self.counts[row.label] += 1
        self.missing_texts += looks_missing(row.text)


def _kept(rows: Rows, wishes: Wishes, intake: Intake) -> list[bool]:
    """Which rows are kept; the others are counted by why they are not."""
    kept = [True] * len(rows.labels)

    def drop(kind: str, places: Sequence[bool]) -> None:
        for place, found in enumerate(places):
            if found and kept[place]:
                kept[place] = False
                intake.dropped[kind] += 1

    if wishes.drop_duplicates:
        drop("duplicates", repeated(rows))
    if wishes.drop_leaks:
        drop("leaks", leaking(rows.texts, rows.splits))
    if wishes.drop_rare_labels:
        counts = Counter(rows.only(kept).labels)
        drop("rare labels", [counts[label] < THRESHOLD for label in rows.labels])
    return kept


def _splits(
    given: list[str | None], texts: list[bytes], labels: list[str], columns: Columns | None
) -> tuple[list[str], str]:
    """The split of each row, and where it comes from, in words. Training uses train, and evaluation test."""
    named = [split for split in given if split is not None]
    if len(named) < len(given) or len(set(named)) == 1:
        return assign(texts, labels), "made here: 80/10/10, stratified by label, equal texts stay together"
    source = "its column" if columns and columns.split else "the files' names"
    if "train" not in named:
        raise Refusal("dataset.no_train")
    if "test" in named:
        return named, source
    renamed = ["test" if split == "validation" else split for split in named]
    return renamed, f"{source}; there are no test rows, so the validation rows are the test"


def _write(draft: Path, target: Path, rows: Rows, kept: list[bool]) -> None:
    """Copy the rows that are kept from the draft to their place, each with its label and split."""
    with draft.open("rb") as source, replacing(target) as file:
        for line, label, split, keep in zip(source, rows.labels, rows.splits, kept, strict=True):
            if keep:
                file.write(_line(Row(msgspec.json.decode(line, type=Row).text, label, split)))


def _line(row: Row) -> bytes:
    return msgspec.json.encode({"label": row.label, "split": row.split, "text": row.text}) + b"\n"


def _rows(files: Sequence[Path], wishes: Wishes, intake: Intake) -> Iterator[Row]:
    """Every usable row of every file; the others are counted in `intake`."""
    for path in files:
        found = detect(path, wishes.encoding, wishes.skip_lines)
        intake.formats.append((path.name, found))
        records = read(path, found)
        head = list(itertools.islice(records, SAMPLE_ROWS))
        sample = [record for record in head if isinstance(record, Record)]
        if not sample and head:
            # Nothing could be read, so the faults say more than "no rows" would.
            faults = [
                FaultAt(path.name, fault.line, fault.reason) for fault in head if isinstance(fault, Fault)
            ]
            raise BadRows(faults[:SHOWN_FAULTS], len(faults) + sum(1 for _ in records))
        intake.columns = _columns(sample, wishes, intake.columns)
        intake.unused = tuple(name for name in sample[0].values if name not in intake.columns.used)
        split = split_of_name(path.name) if intake.columns.split is None and len(files) > 1 else None
        for record in itertools.chain(head, records):
            row = _row(record, intake, wishes, split)
            if isinstance(row, Row):
                yield row
            elif row is not None:
                intake.fault_count += 1
                if len(intake.faults) < SHOWN_FAULTS:
                    intake.faults.append(FaultAt(path.name, row.line, row.reason))


def _columns(sample: list[Record], wishes: Wishes, before: Columns | None) -> Columns:
    """The first file decides; the others must have the same columns."""
    if before is None:
        return infer(sample, text=wishes.text, label=wishes.label, split=wishes.split, site=wishes.site)
    again = infer(sample, text=before.text, label=before.label, split=before.split, site=before.site)
    return replace(again, guessed=before.guessed)


def _row(record: Record | Fault, intake: Intake, wishes: Wishes, split: str | None) -> Row | Fault | None:
    """The row, its fault, or None if it belongs to a site that was not asked for."""
    if isinstance(record, Fault) or intake.columns is None:
        return record if isinstance(record, Fault) else None
    if intake.columns.site is not None:
        site = str(record.values.get(intake.columns.site)).strip()
        if wishes.only_sites and site not in wishes.only_sites:
            intake.other_sites += 1
            return None
        intake.sites[site] += 1
    elif wishes.only_sites:
        raise Refusal("dataset.no_site_column")
    row = normalise(record, intake.columns, split)
    if isinstance(row, Fault):
        return row
    if wishes.drop_missing_labels and looks_missing(row.label):
        intake.dropped["missing labels"] += 1
        return None
    if wishes.drop_missing_texts and looks_missing(row.text):
        intake.dropped["missing texts"] += 1
        return None
    if row.label in wishes.label_map:
        intake.mapped.add(row.label)
        return Row(row.text, wishes.label_map[row.label], row.split)
    return row


def _check_drafted(drafted: _Drafted, intake: Intake, wishes: Wishes) -> None:
    if intake.fault_count and not wishes.skip_bad:
        raise BadRows(intake.faults, intake.fault_count)
    if len(drafted.labels) > MAX_ROWS:
        raise Refusal("dataset.too_many_rows", limit=MAX_ROWS)
    missed = sorted(set(wishes.label_map) - intake.mapped)
    if missed:
        raise Refusal("dataset.unknown_label", label=printable(missed[0], 100))
    _refuse_too_many_labels(len(drafted.counts), len(drafted.labels))


def _check(intake: Intake, distinct: int) -> None:
    if intake.rows < LEAST_ROWS or distinct < LEAST_ROWS // 2:
        raise Refusal("dataset.too_small", rows=intake.rows, least=LEAST_ROWS)
    _refuse_too_many_labels(len(intake.labels), intake.rows)


def _refuse_too_many_labels(labels: int, rows: int) -> None:
    if labels > min(MAX_LABELS, rows // 2):
        raise Refusal("dataset.too_many_labels", labels=labels, rows=rows, limit=MAX_LABELS)
