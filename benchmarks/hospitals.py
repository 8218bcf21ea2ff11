"""Public data sets as hospitals: who holds which rows in a benchmark or in the demo.

A folder holds `train.jsonl.gz` and `test.jsonl.gz`, one {"text", "label", "site"?} a line. With `site`, rows
stay with their source, so that hospitals differ as they do in life; without it they are dealt out evenly.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from contracts.row_writing import write_row
from contracts.rows import TextLabel, read_row
from enclave.training.row_reader import SiteRows

MEDQUAD = {
    "genetics-clinic": ("GHR",),
    "rare-disease-centre": ("GARD", "NINDS"),
    "general-hospital": ("CDC", "CancerGov", "MPlus_Health_Topics", "NHLBI", "NIDDK", "SeniorHealth"),
}
"""NIH web collections by what a hospital of that kind would see: Genetics Home Reference; rare diseases and
neurology; common diseases, heart, diabetes, cancer, old age and public health. About 2500 to 3100 training
rows each, and strongly different labels: only the first knows "genetic changes", a tenth of all rows."""


@dataclass(frozen=True)
class _Record:
    row: TextLabel
    site: str | None


def hospitals(
    folder: Path, *, rows: int | None, test_rows: int | None = None, seed: int = 0, count: int = 3
) -> dict[str, SiteRows]:
    """Site id -> rows, in site-id order; at most `rows` training and `test_rows` test rows each, drawn by
    `seed`, and none for validation. The test rows do not depend on `rows`."""
    train, test = (_read(folder / f"{name}.jsonl.gz") for name in ("train", "test"))
    members = _members(train, folder.name, count)
    dealt_train, dealt_test = _deal(train, members, seed, count), _deal(test, members, seed + 1, count)
    return {
        site: SiteRows([*dealt_train[site][:rows]], [], [*dealt_test[site][:test_rows]])
        for site in sorted(dealt_train)
    }


def write(rows: SiteRows, file: Path) -> None:
    """Write a site's rows as the site agent normalises them: a file for `site_agent dataset add`."""
    with file.open("wb") as lines:
        for split, members in (("train", rows.train), ("validation", rows.validation), ("test", rows.test)):
            for row in members:
                lines.write(write_row(structs.replace(row, split=split)))


def read_site(file: Path) -> SiteRows:
    """Read what `write` or a site agent wrote."""
    splits: dict[str, list[TextLabel]] = {"train": [], "validation": [], "test": []}
    with file.open("rb") as lines:
        for row in map(read_row, lines):
            splits[row.split].append(row)
    return SiteRows(splits["train"], splits["validation"], splits["test"])


def label_names(sites: Mapping[str, SiteRows]) -> tuple[str, ...]:
    """All labels of all sites, sorted."""
    every = [row for rows in sites.values() for row in [*rows.train, *rows.test]]
    return tuple(sorted({row.label for row in every if isinstance(row, TextLabel)}))


def _read(file: Path) -> list[_Record]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    split = "test" if file.name.startswith("test") else "train"
    return [
        _Record(TextLabel(record["text"], record["label"], split), record.get("site")) for record in records
    ]


def _members(records: list[_Record], name: str, count: int) -> dict[str, str] | None:
    """Source -> hospital. Unknown sources join, largest first, the hospital that is smallest so far."""
    sizes = Counter(record.site for record in records if record.site)
    if not sizes:
        return None
    if name == "medquad-qtype" and count == len(MEDQUAD):
        return {source: hospital for hospital, sources in MEDQUAD.items() for source in sources}
    load: Counter[str] = Counter({f"hospital-{number + 1}": 0 for number in range(count)})
    members = {}
    for source, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        members[source] = min(load, key=lambda hospital: (load[hospital], hospital))
        load[members[source]] += size
    return members


def _deal(
    records: list[_Record], members: dict[str, str] | None, seed: int, count: int
) -> dict[str, list[TextLabel]]:
    shuffled = list(records)
    random.Random(seed).shuffle(shuffled)
    dealt: dict[str, list[TextLabel]] = {}
    for number, record in enumerate(shuffled):
        if members is None:
            hospital = f"hospital-{number % count + 1}"
        else:
            hospital = members.get(record.site or "", min(members.values()))
        dealt.setdefault(hospital, []).append(record.row)
    return dealt
