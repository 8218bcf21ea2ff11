"""The release of a run: who may ask, whose signature counts, and what the run page says meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from contracts.canonical import canonical
from contracts.manifest import Release as Rule
from contracts.manifest import parse
from contracts.receipts import NO_RECEIPT, Receipt, ReceiptInput
from contracts.refusal import Refusal
from contracts.releases import Released, sign_release
from contracts.sealed.hpke import HpkeKey
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey
from enclave_jobs.releases import queries, services
from enclave_jobs.releases.models import Release
from enclave_jobs.runs.models import Round, Run
from enclave_jobs.runs.services import launch
from federation.attestation.models import LogEntry
from federation.audit.models import AuditEntry
from federation.people.models import User
from federation.studies.models import Study
from tests.federation.cast import Hospital
from tests.support.approvals import release_approval


def finished(lena: User, ready: Study, rule: str, anna: Hospital, approvals: int = 2) -> Run:
    """A finished run; its manifest's rule stands for what the sites had signed."""
    run = launch(lena, ready)
    manifest = msgspec.structs.replace(parse(run.manifest.encode()), release=Rule(rule, approvals))  # type: ignore[arg-type]
    fields = {"manifest": canonical(manifest).decode(), "manifest_hash": manifest.hash, "state": "finished"}
    Run.objects.filter(pk=run.pk).update(**fields)
    run.study.approvals.update(manifest_hash=manifest.hash)
    run.refresh_from_db()
    made = Receipt(
        version=1, manifest=manifest.hash, run=run.pk, round=1, roster="0" * 64,
        inputs=(ReceiptInput(anna.site.pk, "1" * 64, 10, 5),), output=None, state="2" * 64,
        metrics={"pooled": {}}, previous=NO_RECEIPT, program="aggregator", measurement="3" * 64,
        development=True, issued=1,
    )  # fmt: skip
    signed = sign_receipt(made, SigningKey.generate())
    Round.objects.create(
        run=run, number=1, state="published", state_blob="2" * 64, receipt=msgspec.to_builtins(signed)
    )
    return run


def order(run: Run, hospital: Hospital, signer: Hospital | None = None, receipt: str = "") -> Any:
    """The hospital's order, signed by itself or by another."""
    manifest = parse(run.manifest.encode())
    receipt = receipt or Release.objects.get(run=run).receipt
    key = (signer or hospital).key
    own = HpkeKey.generate().public
    return services.approve(
        hospital.as_agent(), run, receipt, release_approval(manifest, receipt, hospital.site.pk, key, own)
    )


def let_out(run: Run) -> Release:
    """What the conductor reports when the enclave has released."""
    release, manifest = Release.objects.get(run=run), parse(run.manifest.encode())
    given = queries.release_approvals(release)
    sites = tuple(sorted(given))
    said = Released(
        1, manifest.hash, run.pk, release.receipt, manifest.release.rule, "a" * 64, 4711, "b" * 64, sites,  # type: ignore[arg-type]
        sites if manifest.release.rule == "sealed-to-sites" else (), "aggregator", "3" * 64, True, 1,
    )  # fmt: skip
    assert services.released(release, sign_release(said, SigningKey.generate()), given)
    release.refresh_from_db()
    return release


def code_of(act: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        act()
    return refusal.value.code


def page(client: Client, run: Run) -> str:
    text: str = client.get(reverse("study", args=[run.study_id])).content.decode()
    return text


@pytest.fixture
def lead(lena: User) -> Client:
    browser = Client()
    browser.force_login(lena)
    return browser


@pytest.mark.parametrize("rule", ["nothing", "serve-only"])
def test_a_rule_that_lets_nothing_out_is_said_and_no_form_is_shown(
    lead: Client, lena: User, ready: Study, anna: Hospital, rule: str
) -> None:
    run = finished(lena, ready, rule, anna)
    assert code_of(lambda: services.ask(lena, run)) == "release.not_allowed"
    shown = page(lead, run)
    assert "its parameters leave no enclave" in shown and "confirm-release" not in shown


def test_the_section_follows_the_run_by_itself_until_somebody_may_type_in_it(
    lead: Client, lena: User, ready: Study, anna: Hospital
) -> None:
    run = finished(lena, ready, "export", anna)
    fragment = reverse("run-release", args=[run.pk])
    Run.objects.filter(pk=run.pk).update(state="running")
    assert f'hx-get="{fragment}"' in page(lead, run)
    assert lead.get(fragment).status_code == 200
    Run.objects.filter(pk=run.pk).update(state="finished", finished_at=timezone.now())
    answer = lead.get(fragment)
    assert (answer.status_code, b"confirm-release" in answer.content) == (286, True)
    lead.post(reverse("run-release-ask", args=[run.pk]), {"confirm": run.study.name})
    assert lead.get(fragment).status_code == 200


def test_a_release_goes_from_the_leads_question_over_signatures_to_every_hospital_that_signed(
    lead: Client, lena: User, ludo: User, olga: User, ready: Study, anna: Hospital, barbara: Hospital
) -> None:
    run = finished(lena, ready, "sealed-to-sites", anna, approvals=1)
    assert code_of(lambda: order(run, anna, receipt="9" * 64)) == "release.not_asked"
    for other in (ludo, olga):
        assert code_of(lambda other=other: services.ask(other, run)) == "auth.forbidden"
    asked = reverse("run-release-ask", args=[run.pk])
    lead.post(asked, {"confirm": "something else"})
    assert not Release.objects.exists()
    assert "cannot be undone" in page(lead, run)
    lead.post(asked, {"confirm": run.study.name})
    assert Release.objects.get().state == "waiting" and "0 of 1 signatures" in page(lead, run)
    assert code_of(lambda: services.ask(lena, run)) == "release.asked"

    assert code_of(lambda: order(run, anna, signer=barbara)) == "release.bad_approval"
    assert code_of(lambda: order(run, anna, receipt="9" * 64)) == "release.wrong_receipt"
    order(run, anna)
    assert Release.objects.get().state == "releasing" and "attested, and lets" in page(lead, run)
    let_out(run)
    assert "site_agent release" in page(lead, run) and "b" * 64 in page(lead, run)
    order(run, barbara)
    assert Release.objects.get().state == "releasing", "a late signature gets a copy of its own"
    let_out(run)
    assert LogEntry.objects.filter(kind="release").count() == 2
    assert code_of(lambda: services.exported(lena, run)) == "release.not_allowed"


def test_an_export_is_downloaded_by_its_lead_alone_and_each_time_is_on_record(
    lead: Client, lena: User, ludo: User, olga: User, ready: Study, anna: Hospital, barbara: Hospital,
    settings: Any, tmp_path: Path,
) -> None:  # fmt: skip
    settings.BLOB_DIR = tmp_path
    run = finished(lena, ready, "export", anna)
    assert "its operator can read them" in page(lead, run)
    services.ask(lena, run)
    order(run, anna)
    assert code_of(lambda: services.exported(lena, run)) == "release.waiting"
    order(run, barbara)
    let_out(run)
    assert code_of(lambda: services.exported(lena, run)) == "release.gone"
    (tmp_path / "aa").mkdir()
    (tmp_path / "aa" / ("a" * 64)).write_bytes(b"PK package")
    for other in (ludo, olga):
        assert code_of(lambda other=other: services.exported(other, run)) == "auth.forbidden"
    answer = lead.post(reverse("run-release-download", args=[run.pk]))
    assert b"".join(answer.streaming_content) == b"PK package"  # type: ignore[attr-defined]
    assert answer["Content-Disposition"].endswith('adapter.zip"')
    (entry,) = AuditEntry.objects.filter(action="release.downloaded")
    assert entry.facts["sha256"] == "a" * 64
    # What is no package of ours starts no study, and the page says why.
    page_after = lead.post(reverse("run-release-start", args=[run.pk]), follow=True)
    assert "start.bad_package" in page_after.content.decode()


def test_a_release_that_failed_is_tried_again_with_the_orders_that_are_there(
    lena: User, ready: Study, anna: Hospital
) -> None:
    run = finished(lena, ready, "export", anna, approvals=1)
    services.ask(lena, run)
    order(run, anna)
    services.fail(Release.objects.get(), "release.no_state")
    services.ask(lena, run)
    assert Release.objects.get().state == "releasing"


def test_a_run_of_an_older_format_does_not_hide_the_releases_of_the_others(
    lena: User, ready: Study, anna: Hospital
) -> None:
    run = finished(lena, ready, "export", anna)
    services.ask(lena, run)
    Run.objects.filter(pk=run.pk).update(manifest='{"version": 0, "release": {"approvals": 2}}')
    reported = anna.call("GET", "releases")
    assert reported.status_code == 200 and reported.json()[0]["needed"] == 2
