"""Two at once: a once-only thing is given to one of them. Real threads, connections and database file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.utils import timezone

from attestation.development import create_platform
from contracts.bound_request import bind_request
from contracts.log import growth, merkle
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from federation.attestation import log, nonces
from federation.attestation.models import LogEntry
from federation.sites import services
from federation.sites.authentication import authenticate
from federation.sites.models import EnrolmentToken, Site, SiteState
from federation.tokens import new_token
from tests.federation.cast import make_hospital

RACERS = 6


@pytest.fixture(scope="module", autouse=True)
def real_database(tmp_path_factory: Any, django_db_setup: Any, django_db_blocker: Any) -> Iterator[None]:
    """A database that waits, as an installation's does; SQLite in memory refuses at once instead."""
    with django_db_blocker.unblock():
        if connection.vendor != "sqlite":
            yield
            call_command("flush", interactive=False, verbosity=0)
            return
        kept, wrapper = connections.settings["default"], connections["default"]
        name = tmp_path_factory.mktemp("database") / "coordinator.sqlite3"
        connections.settings["default"] = {**kept, "NAME": name}
        connections["default"] = connections.create_connection("default")
        call_command("migrate", verbosity=0)
        yield
        connection.close()
        connections.settings["default"], connections["default"] = kept, wrapper


def race(attempt: Callable[[int], Any]) -> list[str]:
    """Run it in RACERS threads at the same moment; "ok" or the refusal's code of each."""
    barrier = Barrier(RACERS)

    def run(number: int) -> str:
        try:
            barrier.wait()
            attempt(number)
        except Refusal as refusal:
            return refusal.code
        finally:
            connection.close()
        return "ok"

    with ThreadPoolExecutor(RACERS) as pool:
        return sorted(pool.map(run, range(RACERS)))


def test_one_nonce_answers_one_of_many() -> None:
    value = nonces.issue("test")
    assert race(lambda _: nonces.consume(value, "test")) == ["nonce.used"] * (RACERS - 1) + ["ok"]


def test_one_jwt_lets_one_of_many_in() -> None:
    token = make_hospital("St. Anna").token()
    bound = bind_request("POST", "heartbeat", b"")
    assert race(lambda _: authenticate(token, bound)) == ["auth.replayed"] * (RACERS - 1) + ["ok"]


def test_one_enrolment_token_enrols_one_of_many(tmp_path: Any) -> None:
    site = Site.objects.create(name="St. Dorothea", state=SiteState.INVITED)
    token, hashed = new_token()
    EnrolmentToken.objects.create(
        site=site, token_hash=hashed, expires=timezone.now() + timezone.timedelta(hours=1)
    )
    keys = [SigningKey.generate().public for _ in range(RACERS)]
    platform = create_platform(tmp_path / "platform").decode()

    def enrol(number: int) -> None:
        services.enrol(
            token,
            public_key=keys[number],
            approval_key=SigningKey.generate().public,
            agent_version="0.1",
            runtime="development",
            platform_key_pem=platform,
        )

    assert race(enrol) == ["enrolment.token_used"] * (RACERS - 1) + ["ok"]
    site.refresh_from_db()
    assert site.public_key in keys and site.events.count() == 1


def test_concurrent_appends_make_one_gapless_tree() -> None:
    assert (
        race(lambda number: [log.append("test.entry", {"n": number, "i": i}) for i in range(5)])
        == ["ok"] * RACERS
    )
    rows = list(LogEntry.objects.order_by("index"))
    assert [row.index for row in rows] == list(range(RACERS * 5))
    memory = growth.MemoryStore()
    size = 0
    for row in rows:
        size = growth.append(memory, size, merkle.leaf_hash(row.data.encode()))
    assert log.checkpoint().root == growth.root(memory, size).hex()
