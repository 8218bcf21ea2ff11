"""Taking a dataset in: read, check every row, split where there is no split, and keep it normalised.

The kept file has one JSON object a line (contracts/rows.py), UTF-8, mode 0600. It exists only if
every row of the sources was either kept or counted and named.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from contracts.agents_api.datasets import THRESHOLD
from contracts.kinds import SEVERAL, TAGGED
from contracts.manifest_options import MOST_SEVERAL
from contracts.refusal import Refusal
from contracts.row_writing import write_row
from contracts.rows import Split, read_row
from site_agent.datasets.codes import whole_numbers
from site_agent.datasets.columns import MAX_LABELS, Columns, infer, reads_as_text, split_of_name
from site_agent.datasets.conversations import unread
from site_agent.datasets.drafting import Drafted, RowHashes, missing
from site_agent.datasets.findings import Findings, find, leaking, repeated
from site_agent.datasets.formats import Format, detect
from site_agent.datasets.missing import looks_missing
from site_agent.datasets.readers import MIXED, Fault, Record, read
from site_agent.datasets.rows import Found, each, label_of, normalise, renamed, with_label
from site_agent.datasets.splits import HELD_OUT, assign, complete
from site_agent.files import replacing
from site_agent.formatting import printable

SAMPLE_ROWS = 1000
MAX_ROWS = 2_000_000
MAX_KEPT_BYTES = 2 << 30
LEAST_ROWS = 10
SHOWN_FAULTS = 50
PROGRESS_ROWS = 1_000


@dataclass(frozen=True)
class Wishes:
    """What the user says instead of leaving it to be inferred, of `columns` as much as they name."""

    columns: Columns = field(default_factory=Columns)
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
    languages: tuple[str, ...] = ()


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

    `rows` are the kept ones. `faults` are the first of `fault_count` skipped rows. Nothing is read from the
    columns `unused` (and of turns, from what is named beside them). `dropped`
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
    rows: RowHashes = field(default_factory=RowHashes)
    unused_texts: tuple[str, ...] = ()
    sites: Counter[str] = field(default_factory=Counter)
    other_sites: int = 0
    faults: list[FaultAt] = field(default_factory=list)
    fault_count: int = 0

    @property
    def labels(self) -> Counter[str]:
        """How many rows each label has."""
        return self.rows.counts

    @property
    def splits(self) -> Counter[str]:
        """How many rows each split has."""
        return Counter(self.rows.splits)


def take_in(
    files: Sequence[Path], target: Path, wishes: Wishes, progress: Callable[[int], None] | None = None
) -> Intake:
    """Read `files` into the normalised file `target`. Nothing is kept if anything is refused. `progress` is
    told how many rows have been read, now and then.

    Raises: `BadRows` (all rows were looked at) or another `dataset.` code.
    """
    intake = Intake()
    draft = target.with_name(f".{target.name}.draft")
    drafted = Drafted()
    try:
        with replacing(draft) as file:
            for found in _rows(files, wishes, intake):
                drafted.add(found)
                file.write(write_row(found.row))
                if progress is not None and len(drafted) % PROGRESS_ROWS == 0:
                    progress(len(drafted))
                if len(drafted) > MAX_ROWS or len(drafted.labels) > MAX_LABELS:
                    break
                if file.tell() > MAX_KEPT_BYTES:
                    raise Refusal("dataset.too_large", limit=MAX_KEPT_BYTES >> 30)
        _check_drafted(drafted, intake, wishes)
        if intake.columns is None or intake.columns.kind != TAGGED:
            intake.codes = whole_numbers(drafted.labels)
        labels = [_renamed(label, intake.codes) for label in drafted.rows.labels]
        strata = [label.partition("\n")[0] for label in labels]
        splits, intake.splits_from = _splits(drafted.given, drafted.rows.texts, strata, intake.columns)
        everything = replace(drafted.rows, labels=labels, splits=splits)
        kept = _kept(everything, wishes, intake)
        intake.rows = everything.only(kept)
        intake.findings = find(intake.rows, drafted.missing_texts, intake.unused_texts)
        _check(intake, len(set(intake.rows.texts)))
        _write(draft, target, everything, kept)
    finally:
        draft.unlink(missing_ok=True)
    return intake


def _kept(rows: RowHashes, wishes: Wishes, intake: Intake) -> list[bool]:
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
        counts = rows.only(kept).counts
        rare = {label for label, count in counts.items() if count < THRESHOLD}
        drop("rare labels", [not rare.isdisjoint(each(label)) for label in rows.labels])
    return kept


def _splits(
    given: Sequence[Split | None], texts: list[bytes], labels: list[str], columns: Columns | None
) -> tuple[list[Split], str]:
    """The split of each row, and where it comes from, in words."""
    named = [split for split in given if split is not None]
    if len(named) < len(given) or len(set(named)) == 1:
        how = "stratified by label, equal texts" if any(labels) else "rows of one text, or prompt,"
        return assign(texts, labels), f"made here: 80/10/10, {how} stay together"
    source = "its column" if columns and columns.split else "the files' names"
    if "train" not in named:
        raise Refusal("dataset.no_train")
    lacking = [split for split in HELD_OUT if split not in named]
    if not lacking:
        return named, source
    taken = f"{source}; it has no {' or '.join(lacking)} rows, so 10 % of train are taken for that"
    return complete(named, texts, labels), taken


def _write(draft: Path, target: Path, rows: RowHashes, kept: list[bool]) -> None:
    """Copy the rows that are kept from the draft to their place, each with its label and split."""
    with draft.open("rb") as source, replacing(target) as file:
        for line, label, split, keep in zip(source, rows.labels, rows.splits, kept, strict=True):
            if keep:
                file.write(write_row(with_label(read_row(line), label, split)))


def _renamed(said: str, names: Mapping[str, str]) -> str:
    """A label, or several, each by its other name where it has one."""
    return "\n".join(names.get(label, label) for label in each(said))


def _rows(files: Sequence[Path], wishes: Wishes, intake: Intake) -> Iterator[Found]:
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
        intake.columns = columns = _columns(sample, wishes, intake.columns)
        left = [name for name in sample[0].values if name not in columns.used]
        nameless = ["the first column, which has no name"] if any(each.nameless for each in sample) else []
        intake.unused = (*nameless, *left, *_unread(sample, columns))
        intake.unused_texts = tuple(name for name in left if reads_as_text(sample, name))
        split = split_of_name(path.name) if intake.columns.split is None and len(files) > 1 else None
        for record in itertools.chain(head, records):
            row = _row(record, intake, wishes, split)
            if isinstance(row, Found):
                yield row
            elif row is not None:
                intake.fault_count += 1
                if len(intake.faults) < SHOWN_FAULTS:
                    intake.faults.append(FaultAt(path.name, row.line, row.reason))


def _columns(sample: list[Record], wishes: Wishes, before: Columns | None) -> Columns:
    """The first file decides; the others must have the same columns."""
    if before is None:
        return infer(sample, wishes.columns)
    return replace(infer(sample, before), guessed=before.guessed)


def _unread(sample: list[Record], columns: Columns) -> list[str]:
    """What turns of a conversation hold that nobody reads."""
    name = columns.messages
    if name is None:
        return []
    return [f"{name}: {key}" for key in sorted(set().union(*(unread(r.values.get(name)) for r in sample)))]


def _row(record: Record | Fault, intake: Intake, wishes: Wishes, split: Split | None) -> Found | Fault | None:
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
    found = normalise(record, intake.columns, split)
    if isinstance(found, Fault):
        return found
    label = label_of(found.row)
    if wishes.drop_missing_labels and any(map(looks_missing, each(label))):
        intake.dropped["missing labels"] += 1
        return None
    if wishes.drop_missing_texts and missing(found.row):
        intake.dropped["missing texts"] += 1
        return None
    if meant := wishes.label_map.keys() & set(each(label)):
        intake.mapped |= meant
        return Found(renamed(found.row, wishes.label_map), found.split)
    return found


def _check_drafted(drafted: Drafted, intake: Intake, wishes: Wishes) -> None:
    if intake.fault_count and not wishes.skip_bad:
        raise BadRows(intake.faults, intake.fault_count)
    if len(drafted) > MAX_ROWS:
        raise Refusal("dataset.too_many_rows", limit=MAX_ROWS)
    missed = sorted(set(wishes.label_map) - intake.mapped)
    if missed:
        raise Refusal("dataset.unknown_label", label=printable(missed[0], 100))
    _refuse_too_many_labels(intake, len(drafted.labels), len(drafted))


def _check(intake: Intake, distinct: int) -> None:
    rows = len(intake.rows.texts)
    if rows < LEAST_ROWS or distinct < LEAST_ROWS // 2:
        raise Refusal("dataset.too_small", rows=rows, least=LEAST_ROWS)
    _refuse_too_many_labels(intake, len(intake.labels), rows)


def _refuse_too_many_labels(intake: Intake, labels: int, rows: int) -> None:
    several = intake.columns is not None and intake.columns.kind == SEVERAL
    most = MOST_SEVERAL if several else MAX_LABELS
    if labels > min(most, rows // 2):
        raise Refusal("dataset.too_many_labels", labels=labels, rows=rows, limit=most)
