"""What the pages say, and what they never lose."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from federation.people.models import Invitation, User
from federation.studies.models import Study
from frontend.middleware import POLICY
from frontend.names import typed_name
from tests.federation.cast import PASSWORD, Hospital
from tests.frontend.page_reader import signed_in


def test_the_policy_allows_no_inline_script_and_nothing_from_elsewhere(lead: Client) -> None:
    response = lead.get("/")
    assert response.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY and "http" not in POLICY
    assert not re.search(r"<script(?![^>]* src=)|\son[a-z]+=|javascript:|\sstyle=", response.content.decode())


def test_an_invitation_makes_an_account_and_names_the_hospital(lead: Client) -> None:
    lead.post(reverse("site-invite"), {"email": "New@Hospital.example"})
    link = re.search(r"https?://\S+/invitations/\S+", str(mail.outbox[-1].body))
    assert link is not None
    path = "/" + link.group(0).split("/", 3)[3]
    guest = Client()
    page = guest.get(path)
    assert "Name of the hospital" in page.content.decode()
    form = {"site_name": "St. Dora", "password": PASSWORD}
    welcome = guest.post(path, form, follow=True).content.decode()
    assert "St. Dora" in welcome and 'id="enrol-python-1"' in welcome, "the command, without a click"
    again = Client().get(path)
    assert again.status_code == 410
    assert "invitation.used" in again.content.decode()


def test_several_hospitals_are_invited_at_once_and_none_where_one_address_is_none(lead: Client) -> None:
    address, wrong = reverse("site-invite"), "one@hospital.example, two@"
    refused = lead.post(address, {"email": wrong})
    assert refused.status_code == 422 and not mail.outbox and wrong in refused.content.decode()
    given = {"email": "one@hospital.example,two@clinic.example, one@hospital.example"}
    reported = lead.post(address, given, follow=True)
    assert [sent.to for sent in mail.outbox] == [["one@hospital.example"], ["two@clinic.example"]]
    assert "on its way to two@clinic.example" in reported.content.decode()


def test_whom_a_link_was_sent_to_is_not_asked_for_again_where_a_later_address_is_refused(
    lead: Client, olga: User
) -> None:
    given = {"email": f"one@hospital.example, One@Hospital.example, {olga.email}, two@clinic.example"}
    refused = lead.post(reverse("site-invite"), given)
    assert refused.status_code == 422 and [sent.to for sent in mail.outbox] == [["one@hospital.example"]]
    reported = refused.content.decode()
    assert f'value="{olga.email}, two@clinic.example"' in reported and "invitation.account_exists" in reported
    assert "on its way to one@hospital.example" in reported
    assert lead.post(reverse("site-invite"), {"email": " , "}).status_code == 422, "nobody"


def test_a_weak_password_is_refused_and_what_was_typed_stays(lead: Client) -> None:
    lead.post(reverse("site-invite"), {"email": "new@hospital.example"})
    path = "/" + str(mail.outbox[-1].body).split("http", 1)[1].split("/", 3)[3].split()[0]
    page = Client().post(path, {"site_name": "St. Dora", "password": "short"})
    assert page.status_code == 422
    assert "people.bad_password" in page.content.decode() and 'value="St. Dora"' in page.content.decode()


@pytest.mark.parametrize(
    ("wanted", "spoken", "word"), [("de-CH,de;q=0.9", "de", "Studien"), ("fr", "en", "Studies")]
)
def test_a_page_says_the_language_that_it_is_in(lead: Client, wanted: str, spoken: str, word: str) -> None:
    page = lead.get("/", headers={"accept-language": wanted})
    assert f'<html lang="{spoken}">' in page.content.decode() and page.headers["Content-Language"] == spoken
    assert word in page.content.decode()


def command_on(client: Client, anna: Hospital) -> str:
    page = client.get(reverse("site", args=[anna.site.pk])).content.decode()
    found = re.search(r"--token (fs_[\w-]{43})", page)
    return found[1] if found else ""


@pytest.mark.parametrize("name", ["site-enrolment", "site-approval-key"])
def test_a_command_survives_a_reload_and_is_shown_to_the_hospitals_admin_alone(
    name: str, alice: User, olga: User, anna: Hospital
) -> None:
    if name == "site-enrolment":
        anna.site.state = "invited"
        anna.site.save()
    admin, operator = signed_in(alice), signed_in(olga)
    assert not command_on(admin, anna)
    address = reverse(name, args=[anna.site.pk])
    assert admin.post(address).status_code == 302
    token = command_on(admin, anna)
    admin.post(address)  # the form of another tab, or the page loaded again
    assert token and command_on(admin, anna) == token and not command_on(operator, anna)
    admin.post(address, {"fresh": "yes"})
    assert command_on(admin, anna) not in ("", token)


def test_suspending_asks_says_who_may_undo_it_and_keeps_the_reason(alice: User, anna: Hospital) -> None:
    admin, page = signed_in(alice), reverse("site", args=[anna.site.pk])
    assert "every other admin of this hospital" in admin.get(page).content.decode()
    address = reverse("site-transition", args=[anna.site.pk, "suspend"])
    admin.post(address)
    anna.site.refresh_from_db()
    assert anna.site.state == "active"
    admin.post(address, {"sure": "yes", "why": "new  firewall"})
    said = admin.get(page).content.decode()
    assert "Suspended by the hospital itself" in said and "new firewall" in said
    admin.post(reverse("site-transition", args=[anna.site.pk, "resume"]))
    anna.site.refresh_from_db()
    assert anna.site.state == "active"


def test_a_lead_sees_whom_he_invited_and_sends_it_again_or_takes_it_back(
    lead: Client, ludo: User, mailoutbox: list[Any]
) -> None:
    lead.post(reverse("site-invite"), {"email": "new@hospital.example"})
    sites = reverse("sites")
    page = lead.get(sites).content.decode()
    assert "new@hospital.example" in page and "unnamed site" not in page
    assert "new@hospital.example" not in signed_in(ludo).get(sites).content.decode()
    (invitation,) = Invitation.objects.filter(email="new@hospital.example")
    renew = reverse("person-invitation", args=[invitation.pk, "renew"])
    assert signed_in(ludo).post(renew).status_code == 404
    assert lead.post(renew).headers["Location"] == sites and len(mailoutbox) == 2
    lead.post(reverse("person-invitation", args=[invitation.pk, "withdraw"]))
    lead.get(sites)  # what was done is told once
    assert "new@hospital.example" not in lead.get(sites).content.decode()


@pytest.mark.parametrize("typed", ["St. Anna", " St.  Anna ", "St. A\u200fnna"])
def test_a_name_with_marks_that_nobody_sees_can_be_typed(typed: str) -> None:
    assert typed_name(typed, "St. \u200fAnna\u200e") and not typed_name("St. Ann", "St. Anna")
    assert not typed_name("", "\u200f")


def test_revoking_wants_the_name_typed(olga: User, anna: Hospital) -> None:
    client = Client()
    client.force_login(olga)
    address = reverse("site-transition", args=[anna.site.pk, "revoke"])
    client.post(address, {"confirm": "St. Ann"})
    anna.site.refresh_from_db()
    assert anna.site.state == "active"
    client.post(address, {"confirm": "St. Anna"})
    anna.site.refresh_from_db()
    assert anna.site.state == "revoked"


def test_cancelling_a_study_wants_its_name_typed_and_leaves_it_to_be_cloned(
    lead: Client, frozen: Study
) -> None:
    address = reverse("study-cancel", args=[frozen.pk])
    lead.post(address, {"confirm": "Triag"})
    frozen.refresh_from_db()
    assert frozen.state == "approving"
    lead.post(address, {"confirm": frozen.name})
    frozen.refresh_from_db()
    page = lead.get(reverse("study", args=[frozen.pk])).content.decode()
    assert frozen.state == "cancelled" and address not in page and "Clone" in page


def test_an_operator_may_cancel_a_study_and_a_hospital_may_not(
    frozen: Study, olga: User, alice: User
) -> None:
    for who, state in ((alice, "approving"), (olga, "cancelled")):
        client = Client()
        client.force_login(who)
        client.post(reverse("study-cancel", args=[frozen.pk]), {"confirm": frozen.name})
        frozen.refresh_from_db()
        assert frozen.state == state


def test_the_fingerprint_on_the_page_is_the_manifests(lead: Client, frozen: Study) -> None:
    page = lead.get(reverse("study", args=[frozen.pk])).content.decode()
    shown = re.search(r'class="fingerprint"[^>]*>([0-9a-f ]+)<', page)
    assert shown is not None
    assert shown.group(1).replace(" ", "") == frozen.manifest_hash


@pytest.mark.parametrize("who", ["alice", "lena"])
def test_everybody_sees_the_pooled_curve_and_nobody_that_of_one_hospital(
    world: dict[str, Any], who: str, request: pytest.FixtureRequest
) -> None:
    from enclave_jobs.runs.models import Round

    metrics = {"pooled": {"accuracy": 0.5, "loss": 1.0, "rows": 30}}
    Round.objects.create(run_id=world["run_id"], number=1, state="published", metrics=metrics)
    client = Client()
    client.force_login(request.getfixturevalue(who))
    data = client.get(reverse("run-curves", args=[world["run_id"]])).json()
    assert [line["name"] for line in data["accuracy"]] == ["pooled"]


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("too_few_sites", "not published: too few hospitals were scored"),
        ("too_few_rows", "not published: too few rows were scored"),
        ("another_set", "not published: other hospitals than before were scored"),
        ("not_pooled", "not published: others, or these same parameters, may have been scored before"),
    ],
)
def test_the_run_page_says_why_scores_are_not_published(
    world: dict[str, Any], lead: Client, why: str, said: str
) -> None:
    from enclave_jobs.runs.models import Round

    receipt = {"receipt": {"metrics": {}, "scoring": {"sites": [], "withheld": why}}}
    Round.objects.create(run_id=world["run_id"], number=1, state="published", receipt=receipt)
    for page in ("run", "run-live", "run-history"):
        assert said in lead.get(reverse(page, args=[world["run_id"]])).content.decode()


@pytest.mark.parametrize("path", ["/nothing-here", "/studies/unknown"])
def test_a_page_that_is_not_there_says_so_kindly(lead: Client, path: str) -> None:
    page = lead.get(path)
    assert page.status_code == 404
    assert "There is nothing here" in page.content.decode()


def test_an_unknown_address_of_the_api_answers_as_the_api_does() -> None:
    answer = Client().get("/api/nothing-here")
    assert (answer.status_code, answer.json()["code"]) == (404, "request.not_found")


MEASURES = {
    "online_seconds": 12.5, "offline_seconds": 200.0, "wait_seconds": 3.25, "pads_used": 1234,
    "pads_inline": 7, "pads_left": 0, "checks": 77, "bytes_out": 5 << 20, "bytes_back": 6 << 20,
    "peak_memory": 300 << 20, "model_bytes": 90 << 20,
}  # fmt: skip


def test_the_run_page_tells_what_a_round_costs_and_which_accelerator_was_wrong(
    world: dict[str, Any], lead: Client, alice: User, anna: Hospital, barbara: Hospital
) -> None:
    from enclave_jobs.runs.models import Contribution, Round
    from federation.studies.events import apply

    row = Round.objects.create(run_id=world["run_id"], number=10, state="collecting")
    Contribution.objects.create(round=row, site=barbara.site, state="submitted", measures=MEASURES)
    wrong = Contribution.objects.create(round=row, site=anna.site, state="working")
    facts = {"accelerator": "H200 of cellar-3", "layer": "encoder.0.query", "direction": "backward"}
    apply(wrong, "working", "refused", facts={**facts, "code": "masking.wrong_product"},
          error_code="masking.wrong_product")  # fmt: skip
    Contribution.objects.filter(pk=wrong.pk).update(facts=facts)
    page = lead.get(reverse("run", args=[world["run_id"]])).content.decode()
    for shown in ("12.5 s", "3 min 20 s", "3.25 s", "1,234, 7, 0", "5.0 MiB, 6.0 MiB", "300 MiB (90.0 MiB)"):
        assert shown in page
    assert page.count("The accelerator H200 of cellar-3 answered a wrong product") == 2
    client = Client()
    client.force_login(alice)
    other = client.get(reverse("run", args=[world["run_id"]])).content.decode()
    assert "12.5 s" not in other and "cellar-3" in other


def test_the_run_page_tells_how_a_round_was_averaged_and_what_privacy_it_has_spent(
    world: dict[str, Any], lead: Client
) -> None:
    from enclave_jobs.runs.models import Round

    averaging = {"rule": "stack-svd", "cohort": 2, "clip": 0.5, "clipped": 1, "capped": 0, "noise": None}
    steps = {"site": "anna", "rate": 0.1, "steps": 100}
    privacy = {
        "unit": "record", "mechanism": "poisson-sampled-gaussian", "noise": 1.0, "delta": 1e-5, "rounds": 1,
        "sites": [steps, {**steps, "site": "berta", "steps": 10}],
    }  # fmt: skip
    reported = {"pooled": {}, "averaging": {"deviation": 0.01234}}
    Round.objects.filter(run_id=world["run_id"]).delete()
    for number, receipt in enumerate(
        (
            {"averaging": averaging, "privacy": privacy, "metrics": reported},
            {"averaging": {**averaging, "clipped": None}, "privacy": None, "metrics": {"pooled": {}}},
        ),
        start=1,
    ):
        Round.objects.create(
            run_id=world["run_id"], number=number, state="published", receipt={"receipt": receipt}
        )
    page = lead.get(reverse("run", args=[world["run_id"]])).content.decode()
    for shown in ("stack-svd", "0.0123", "7.90", "per row, δ 1e-05", "no noise", "hidden"):
        assert shown in page
    assert "PLAINTEXT" not in page


def test_a_page_that_breaks_gives_a_reference_that_stands_in_the_log(
    lead: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a row with a secret")

    monkeypatch.setattr("federation.sites.permissions.visible_to", broken)
    lead.raise_request_exception = False
    page = lead.get(reverse("sites"))
    assert page.status_code == 500
    text = page.content.decode()
    reference = re.search(r"\b[0-9a-f]{12}\b", text)
    assert reference is not None and "secret" not in text
    assert any(reference.group(0) in record.getMessage() for record in caplog.records)


def test_a_form_that_is_too_old_is_explained(lena: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(lena)
    page = client.post(reverse("site-invite"), {"email": "new@hospital.example"})
    assert page.status_code == 403 and "This form was too old" in page.content.decode()


def test_a_page_that_is_not_yours_says_who_you_are_and_whom_to_ask(lead: Client, lena: User) -> None:
    text = lead.get(reverse("people")).content.decode()
    assert lena.email in text and "study lead" in text and reverse("people") in text
