"""The log's columns for searching: what they say is in the entry, and they can be made again from it."""

from __future__ import annotations

import json
from typing import Any

from contracts.receipts import NO_RECEIPT
from contracts.roster import Roster, RosterEntry
from enclave_jobs.runs.services import launch
from federation.attestation import log, queries
from federation.attestation.models import LogEntry
from federation.attestation.queries import LogFilter
from federation.people.models import User
from federation.studies.models import Study
from tests.federation.cast import Hospital
from transparency_log.entry import RosterFixedBody

COLUMNS = ("study_id", "program", "verdict", "code")


def found() -> dict[int, Any]:
    rows = LogEntry.objects.order_by("index")
    mentions = {row.index: sorted(row.mentions.values_list("site_id", flat=True)) for row in rows}
    return {row.index: (*(getattr(row, name) for name in COLUMNS), mentions[row.index]) for row in rows}


def test_an_entry_is_found_by_every_site_that_it_tells_of(
    ready: Study, lena: User, anna: Hospital, barbara: Hospital, clara: Hospital
) -> None:
    run = launch(lena, ready)
    inputs = tuple(RosterEntry(hospital.site.pk, "a" * 64) for hospital in (anna, barbara))
    roster = Roster(run.manifest_hash, 1, inputs, NO_RECEIPT, True)
    row = log.append("roster.fixed", RosterFixedBody(roster))
    assert row.study_id == ready.pk
    for hospital in (anna, barbara):
        wanted = LogFilter(site=hospital.site.pk, kind="roster.fixed")
        assert queries.log_page(LogEntry.objects.all(), wanted) == [row]
    assert queries.log_page(LogEntry.objects.all(), LogFilter(site=clara.site.pk)) == []


def test_an_entry_that_names_what_is_not_here_is_kept_all_the_same(db: None) -> None:
    row = log.append("test.entry", {"site": "nobody", "study": "none", "manifest": "0" * 64, "program": 7})
    assert (row.study_id, row.program, row.mentions.count()) == (None, "", 0)
    assert json.loads(row.data)["body"]["site"] == "nobody"
