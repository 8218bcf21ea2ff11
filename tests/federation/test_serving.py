"""Serving's switch: who may use it, for which runs, and how fast a hospital may ask."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.canonical import canonical
from contracts.manifest import Release, Spf, Split, parse
from contracts.refusal import Refusal
from federation.people.models import User
from federation.serving import queries, services
from federation.serving.models import Service, ServiceState, Use
from federation.studies import services as studies
from federation.studies.models import Run, RunState, Study
from tests.federation.cast import Hospital


def finished(lena: User, ready: Study, rule: str = "serve-only", **changes: Any) -> Run:
    """A finished run whose manifest is Method 2's. The stored one stands for what the sites had signed."""
    run = studies.launch(lena, ready)
    split = {"method": "method-2", "adapter": Spf(25.0, 25.0), "split": Split(1), "release": Release(rule, 1)}  # type: ignore[arg-type]
    manifest = msgspec.structs.replace(parse(run.manifest.encode()), **{**split, **changes})
    fields = {
        "manifest": canonical(manifest).decode(),
        "manifest_hash": manifest.hash,
        "state": RunState.FINISHED,
    }
    Run.objects.filter(pk=run.pk).update(**fields)
    run.refresh_from_db()
    return run


def code_of(act: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        act()
    return refusal.value.code


def test_only_the_studys_lead_switches_and_the_operator_may_stop(
    lena: User, ludo: User, olga: User, alice: User, ready: Study
) -> None:
    run = finished(lena, ready)
    for other in (ludo, alice, olga):
        assert code_of(lambda other=other: services.start(other, run)) == "auth.forbidden"
    services.start(lena, run)
    assert code_of(lambda: services.start(lena, run)) == "run.wrong_state"
    assert code_of(lambda: services.stop(ludo, run)) == "auth.forbidden"
    services.stop(olga, run)
    assert Service.objects.get().state == ServiceState.OFF
    assert code_of(lambda: services.stop(lena, run)) == "serving.off"


def test_a_run_that_may_not_be_served_never_is(lena: User, ready: Study) -> None:
    run = finished(lena, ready, rule="nothing")
    assert code_of(lambda: services.start(lena, run)) == "serving.not_allowed"
    Run.objects.filter(pk=run.pk).update(state=RunState.RUNNING)
    manifest = parse(run.manifest.encode())
    served = msgspec.structs.replace(manifest, release=Release("export", 1))
    Run.objects.filter(pk=run.pk).update(manifest=canonical(served).decode(), manifest_hash=served.hash)
    run.refresh_from_db()
    assert code_of(lambda: services.start(lena, run)) == "serving.unfinished"
    assert not Service.objects.exists()


def test_method_1_has_no_tail_to_serve(lena: User, ready: Study) -> None:
    run = studies.launch(lena, ready)
    assert code_of(lambda: services.start(lena, run)) == "serving.not_method_2"


def test_a_hospital_asks_only_while_the_model_is_served_and_it_is_not_revoked(
    lena: User, anna: Hospital, barbara: Hospital, ready: Study
) -> None:
    run = finished(lena, ready)
    asking = lambda: services.require_use(run, anna.site)  # noqa: E731
    assert code_of(asking) == "serving.off"
    service = services.start(lena, run)
    assert code_of(asking) == "serving.starting"
    assert services.ready(service, "enclave-1")
    assert asking().service.enclave == "enclave-1"
    services.revoke(lena, run, anna.site, "too curious")
    assert code_of(asking) == "serving.revoked"
    assert queries.revoked_sites(service) == [anna.site.pk]
    assert [row.run_id for row in queries.served_to(barbara.site)] == [run.pk]
    assert queries.served_to(anna.site) == []
    services.allow(lena, run, anna.site)
    asking()
    services.lost(service, "program.died")
    assert code_of(asking) == "serving.starting"
    services.fail(service, "run.state_lost")
    assert code_of(asking) == "serving.failed"


def test_a_hospital_asks_at_most_so_often_a_minute_and_others_are_not_slowed(
    lena: User, anna: Hospital, barbara: Hospital, ready: Study, settings: Any, monkeypatch: Any
) -> None:
    settings.SERVING_REQUESTS_A_MINUTE = 3
    run = finished(lena, ready)
    services.ready(services.start(lena, run), "enclave-1")
    now = [6000.0]
    monkeypatch.setattr(services.time, "time", lambda: now[0])
    for _ in range(3):
        services.require_use(run, anna.site)
    assert code_of(lambda: services.require_use(run, anna.site)) == "serving.too_fast"
    services.require_use(run, barbara.site)
    now[0] += 60
    services.require_use(run, anna.site)


def test_counts_add_up_for_each_hospital(lena: User, anna: Hospital, barbara: Hospital, ready: Study) -> None:
    run = finished(lena, ready)
    services.ready(services.start(lena, run), "enclave-1")
    use = services.require_use(run, anna.site)
    services.count(use, sessions=1, bytes=10)
    services.count(use, bytes=20, texts=3, tokens=40)
    found = Use.objects.get(site=anna.site)
    assert (found.sessions, found.requests, found.bytes, found.texts, found.tokens) == (1, 2, 30, 3, 40)
    assert Use.objects.get(site=barbara.site).requests == 0
