"""What cannot be written to the log does not happen: with a log that really fails, in the database itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection

from contracts.policy import SgxReference
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.services import launch
from federation.attestation import appraisals, gate, log, references, reviews
from federation.attestation.models import (
    AppraisalRecord,
    CollateralFloor,
    LogEntry,
    Reference,
    Review,
    Root,
    StoredEvidence,
)
from federation.people.models import User
from federation.studies import services
from federation.studies.models import Approval, Study
from tests.federation.cast import Hospital
from tests.federation.development import expected, make_platform

VALUE = SgxReference(program="split_server", mrenclave="a" * 64)


@contextmanager
def full_disk() -> Iterator[None]:
    """From here on the database refuses new log entries, as it does on a full disk."""
    if connection.vendor == "postgresql":
        make = (
            "CREATE FUNCTION no_entry() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'disk full'; END $$"
            " LANGUAGE plpgsql; CREATE TRIGGER no_entry BEFORE INSERT ON attestation_logentry"
            " EXECUTE FUNCTION no_entry()"
        )
        drop = "DROP TRIGGER no_entry ON attestation_logentry; DROP FUNCTION no_entry"
    else:
        make = (
            "CREATE TRIGGER no_entry BEFORE INSERT ON attestation_logentry"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        drop = "DROP TRIGGER no_entry"
    with connection.cursor() as cursor:
        cursor.execute(make)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(drop)


@contextmanager
def nothing_is_written(*models: Any) -> Iterator[None]:
    """The action fails, and no row of any of these appears, changes or goes."""

    def rows() -> list[Any]:
        return [list(model.objects.order_by("pk").values()) for model in (*models, LogEntry, StoredEvidence)]

    before = rows()
    with full_disk(), pytest.raises(DatabaseError, match="disk full"):
        yield
    assert rows() == before
    assert log.size() == LogEntry.objects.count()


@pytest.fixture
def run(ready: Study, lena: User) -> Run:
    return launch(lena, ready)


@pytest.mark.parametrize("measurement", [None, "e" * 64])
def test_a_verdict_accepted_or_refused(
    run: Run, measurement: str | None, settings: Any, tmp_path: Path
) -> None:
    evidence = make_platform(settings, tmp_path).evidence(run, measurement=measurement)
    with nothing_is_written(AppraisalRecord, CollateralFloor, Review):
        appraisals.judge(evidence, run=run, expected=expected(evidence), at=int(time.time()))


def test_a_sites_approval(frozen: Study, anna: Hospital) -> None:
    with nothing_is_written(Approval, Study):
        services.sign_approval(anna.as_agent(), frozen.manifest_hash, anna.sign(frozen.manifest_hash))


def test_a_reference_value_and_its_suspension(reference_values: None, olga: User) -> None:
    with nothing_is_written(Reference):
        references.add(olga, VALUE, root=Root.DEVELOPMENT, reason="first")
    with nothing_is_written(Reference):
        references.suspend(olga, Reference.objects.order_by("pk")[0], "a bug")


def test_a_review_and_the_vote_that_would_end_it(reference_values: None, olga: User, audrey: User) -> None:
    value = SgxReference(program="aggregator", mrenclave="e" * 64)
    with nothing_is_written(Review):
        reviews.propose(olga, value, root=Root.DEVELOPMENT, reason="release 2")
    review = reviews.propose(olga, value, root=Root.DEVELOPMENT, reason="release 2")
    reviews.vote(olga, review, approves=True)
    with nothing_is_written(Review, Reference):
        reviews.vote(audrey, review, approves=True)


def test_a_release_of_keys(run: Run, anna: Hospital) -> None:
    with nothing_is_written():
        gate.log_admission(
            manifest=run.manifest_hash, run=run.pk, site=anna.site.pk, enclave="e-1", signing_key="a" * 64,
            measurement="b" * 64,
        )  # fmt: skip
