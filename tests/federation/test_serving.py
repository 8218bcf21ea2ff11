"""Serving: who may ask for it, whose signatures it waits for, and how fast a hospital may ask."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from django.test import Client

from contracts.canonical import canonical
from contracts.manifest import Release, Spf, Split, parse
from contracts.receipts import NO_RECEIPT, Receipt, ReceiptInput
from contracts.refusal import Refusal
from contracts.releases import SERVE
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey
from enclave_jobs.runs.models import Round, Run, RunState
from enclave_jobs.runs.services import launch
from enclave_jobs.serving import queries, services
from enclave_jobs.serving.models import Service, ServiceState, Use
from federation.attestation.models import LogEntry
from federation.notices.services import send_due
from federation.people.models import User
from federation.studies.models import Study
from tests.federation.cast import Hospital
from tests.support.approvals import release_approval


def finished(lena: User, ready: Study, rule: str = "serve-only", approvals: int = 1, **changes: Any) -> Run:
    """A finished run whose manifest is Method 2's. The stored one stands for what the sites had signed."""
    run = launch(lena, ready)
    split = {
        "method": "method-2",
        "adapter": Spf(25.0, 25.0),
        "split": Split(1),
        "release": Release(rule, approvals),
    }  # type: ignore[arg-type]
    manifest = msgspec.structs.replace(parse(run.manifest.encode()), **{**split, **changes})
    fields = {
        "manifest": canonical(manifest).decode(),
        "manifest_hash": manifest.hash,
        "state": RunState.FINISHED,
    }
    Run.objects.filter(pk=run.pk).update(**fields)
    run.refresh_from_db()
    run.study.approvals.update(manifest_hash=manifest.hash)
    made = Receipt(
        version=1, manifest=manifest.hash, run=run.pk, round=1, roster="0" * 64,
        inputs=(ReceiptInput(manifest.sites[0].id, "1" * 64, 10, 5),), output=None, state="2" * 64,
        metrics={"pooled": {}}, previous=NO_RECEIPT, program="split_server", measurement="3" * 64,
        development=True, issued=1,
    )  # fmt: skip
    signed = msgspec.to_builtins(sign_receipt(made, SigningKey.generate()))
    Round.objects.create(run=run, number=1, state="published", state_blob="2" * 64, receipt=signed)
    return run


def order(run: Run, hospital: Hospital, rule: str = SERVE, **changes: Any) -> Service:
    """The hospital signs."""
    receipt = changes.pop("receipt", None) or Service.objects.get(run=run).receipt
    reported = {"manifest": parse(run.manifest.encode()), "signer": hospital, **changes}
    given = release_approval(
        reported["manifest"], receipt, hospital.site.pk, reported["signer"].key, rule=rule
    )
    return services.approve(hospital.as_agent(), run, receipt, given)


def started(lena: User, run: Run, *signers: Hospital) -> Service:
    """Asked for, and signed for."""
    services.start(lena, run)
    for hospital in signers:
        order(run, hospital)
    return Service.objects.get(run=run)


def code_of(act: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        act()
    return refusal.value.code


def test_only_the_studys_lead_switches_and_the_operator_may_stop(
    lena: User, ludo: User, olga: User, alice: User, anna: Hospital, ready: Study
) -> None:
    run = finished(lena, ready)
    for other in (ludo, alice, olga):
        assert code_of(lambda other=other: services.start(other, run)) == "auth.forbidden"
    assert services.start(lena, run).state == ServiceState.WAITING
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
    run = launch(lena, ready)
    assert code_of(lambda: services.start(lena, run)) == "serving.not_method_2"


def test_a_hospital_asks_only_while_the_model_is_served_and_it_is_not_revoked(
    lena: User, anna: Hospital, barbara: Hospital, ready: Study
) -> None:
    run = finished(lena, ready)
    asking = lambda: services.require_use(run, anna.site)  # noqa: E731
    assert code_of(asking) == "serving.off"
    services.start(lena, run)
    assert code_of(asking) == "serving.waiting"
    service = order(run, anna)
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
    services.ready(started(lena, run, anna), "enclave-1")
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
    services.ready(started(lena, run, anna), "enclave-1")
    use = services.require_use(run, anna.site)
    services.count(use, sessions=1, bytes=10)
    services.count(use, bytes=20, texts=3, tokens=40)
    found = Use.objects.get(site=anna.site)
    assert (found.sessions, found.requests, found.bytes, found.texts, found.tokens) == (1, 2, 30, 3, 40)
    assert Use.objects.get(site=barbara.site).requests == 0


def test_two_of_three_signatures_start_nothing_and_a_stranger_s_or_an_other_one_s_are_refused(
    lena: User, anna: Hospital, barbara: Hospital, clara: Hospital, ready: Study
) -> None:
    run = finished(lena, ready, approvals=2)
    assert code_of(lambda: order(run, anna, receipt="0" * 64)) == "serving.not_asked"
    services.start(lena, run)
    assert order(run, anna).state == ServiceState.WAITING
    assert order(run, anna).state == ServiceState.WAITING  # the same one again
    assert not LogEntry.objects.filter(kind="serving").exists()
    manifest = parse(run.manifest.encode())
    other = msgspec.structs.replace(manifest, study="Another study")
    assert code_of(lambda: order(run, barbara, manifest=other)) == "release.bad_approval"
    assert code_of(lambda: order(run, barbara, signer=anna)) == "release.bad_approval"
    assert code_of(lambda: order(run, barbara, receipt="8" * 64)) == "release.wrong_receipt"
    assert code_of(lambda: order(run, clara)) == "manifest.unknown_site"
    assert Service.objects.get().state == ServiceState.WAITING
    assert order(run, barbara).state == ServiceState.STARTING
    assert LogEntry.objects.filter(kind="serving").count() == 1


def test_what_was_signed_counts_when_the_lead_asks_again_and_an_order_to_export_does_not(
    lena: User, anna: Hospital, ready: Study
) -> None:
    run = finished(lena, ready, rule="export")
    services.start(lena, run)
    assert code_of(lambda: order(run, anna, rule="export")) == "release.bad_approval"
    order(run, anna)
    services.stop(lena, run)
    assert code_of(lambda: order(run, anna)) == "serving.not_asked"
    assert services.start(lena, run).state == ServiceState.STARTING


def test_a_hospital_that_is_asked_finds_it_under_what_waits_and_by_mail(
    client: Client, lena: User, alice: User, anna: Hospital, ready: Study, mailoutbox: list[Any]
) -> None:
    run = finished(lena, ready)
    client.force_login(alice)
    waiting = f"Sign that “{run.study.name}” is served"
    assert waiting not in client.get("/").content.decode()
    services.start(lena, run)
    assert waiting in client.get("/").content.decode()
    send_due()
    (mail,) = [mail for mail in mailoutbox if "serve its model" in mail.subject and mail.to == [alice.email]]
    assert "What may come out, and to whom" in mail.body
    order(run, anna)
    assert waiting not in client.get("/").content.decode()
