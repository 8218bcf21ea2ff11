"""Floors: the coordinator keeps the highest numbers that it accepted, and never goes back behind them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation.development import collateral, revoke_platform
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.services import launch
from federation.attestation import appraisals, floors
from federation.attestation.models import AppraisalRecord, CollateralFloor
from federation.people.models import User
from federation.studies.models import Study
from tests.federation.development import expected, make_platform


@dataclass
class Shown:
    """The numbers that an accepted appraisal tells of."""

    tcb_evaluation: int | None = 0
    qe_evaluation: int | None = 0
    root_ca_crl_number: int | None = 0
    pck_crl_number: int | None = 0
    root_sha256: str | None = "a" * 64
    fmspc: str | None = "00906ed50000"
    ca: str | None = "platform"


def kept() -> tuple[int, ...]:
    row = CollateralFloor.objects.get()
    return tuple(getattr(row, name) for name in floors.NUMBERS)


@pytest.mark.django_db
class TestNumbers:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(*[st.integers(0, 40)] * 4), min_size=1, max_size=6))
    def test_each_number_is_the_highest_ever_shown(self, shown: list[tuple[int, ...]]) -> None:
        CollateralFloor.objects.all().delete()
        for numbers in shown:
            floors.rise(Shown(*numbers))
        assert kept() == tuple(max(column) for column in zip(*shown, strict=True))
        assert floors.load().of("a" * 64, "00906ed50000", "platform").pck_crl_number == kept()[3]

    def test_each_kind_of_platform_has_its_own_and_what_shows_none_changes_none(self) -> None:
        floors.rise(Shown(7, 7, 7, 7))
        floors.rise(Shown(3, 3, 3, 3, fmspc="00606a000000"))
        floors.rise(Shown(9, 9, 9, 9, fmspc=None))
        assert sorted(CollateralFloor.objects.values_list("tcb_evaluation", flat=True)) == [3, 7]


class TestJudging:
    @pytest.fixture
    def run(self, ready: Study, lena: User) -> Run:
        return launch(lena, ready)

    def test_an_older_revocation_list_than_was_accepted_is_refused_though_it_is_still_in_date(
        self, run: Run, settings: Any, tmp_path: Path
    ) -> None:
        now = int(time.time())
        old = collateral(settings.DEVELOPMENT_ROOT_DIR, now)
        host = make_platform(settings, tmp_path)
        revoke_platform(
            settings.DEVELOPMENT_ROOT_DIR, make_platform(settings, tmp_path, "b").pck_chain, at=now
        )

        def judge(fields: dict[str, str]) -> Any:
            evidence = host.evidence(run, fields=fields)
            return appraisals.judge(evidence, run=run, expected=expected(evidence), at=now)

        assert judge(old).verdict == "accepted"
        assert judge(collateral(settings.DEVELOPMENT_ROOT_DIR, now)).verdict == "accepted"
        late = judge(old)
        assert (late.verdict, late.code) == ("refused", "attest.crl_floor")
        assert list(AppraisalRecord.objects.values_list("code", flat=True)) == ["attest.crl_floor", "", ""]
        assert kept()[3] == 2

    def test_a_refused_verdict_raises_nothing(self, run: Run, settings: Any, tmp_path: Path) -> None:
        evidence = make_platform(settings, tmp_path).evidence(run, measurement="e" * 64)
        verdict = appraisals.judge(evidence, run=run, expected=expected(evidence), at=int(time.time()))
        assert verdict.code == "attest.measurement"
        assert not CollateralFloor.objects.exists()


class TestRace:
    @pytest.fixture
    def real_database(self, tmp_path: Path, django_db_setup: Any, django_db_blocker: Any) -> Iterator[None]:
        """A database file that several threads write to, as an installation's workers do."""
        with django_db_blocker.unblock():
            if connection.vendor != "sqlite":
                yield
                call_command("flush", interactive=False, verbosity=0)
                return
            before, wrapper = connections.settings["default"], connections["default"]
            connections.settings["default"] = {**before, "NAME": tmp_path / "coordinator.sqlite3"}
            connections["default"] = connections.create_connection("default")
            call_command("migrate", verbosity=0)
            yield
            connection.close()
            connections.settings["default"], connections["default"] = before, wrapper

    def test_of_many_at_once_none_takes_back_what_another_raised(self, real_database: None) -> None:
        barrier, numbers = Barrier(6), list(range(1, 61))
        random.Random(7).shuffle(numbers)

        def writer(part: int) -> None:
            try:
                barrier.wait()
                for number in numbers[part::6]:
                    floors.rise(Shown(number, 61 - number, number, number))
            finally:
                connection.close()

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(writer, range(6)))
        assert kept() == (60, 60, 60, 60)
