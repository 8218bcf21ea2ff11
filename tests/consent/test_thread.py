"""The thread between a study's lead and a hospital: what is said, by whom, what it does, and what is left of
it in the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from contracts.refusal import Refusal
from enclave_jobs.releases import services as releases
from federation.attestation.models import LogEntry
from federation.notices.services import send_due
from federation.people.models import User
from federation.plain import LIMIT, plain
from federation.studies import services as studies
from federation.studies.models import Study, StudyState
from federation.threads import permissions, services
from federation.threads.models import Message
from federation.threads.queries import decline_of, declines_in_force
from manifest_summary.summary import summary
from tests.attacks.hospital import attacked_hospital
from tests.consent.test_one_text import KINDS
from tests.federation.cast import Hospital
from tests.frontend.test_release_section import finished, order
from tests.support.proofs import freeze as freeze_tried

LINK = "\x1b]8;;https://evil.example\x07link\x1b]8;;\x07"
HOSTILE = f"safe\x1b[31m red{LINK} \u202etxet\u202c \u2067x\u2069 \x9b2Jz\x00"
PLAIN = "safe redlink txet x z"


def code_of(act: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        act()
    return refusal.value.code


def says(study: Study, hospital: Hospital, by: Any, kind: str = "message", text: str = "Why?") -> Message:
    return services.write(by, study, hospital.site, kind, text, study.manifest_hash)


def page(client: Client, user: User, name: str, *arguments: Any) -> str:
    client.force_login(user)
    return client.get(reverse(name, args=arguments), follow=True).content.decode()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (HOSTILE, PLAIN),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("\ttab and \ufeffzero\u200bwidth \U000e0041tag", "tab and zerowidth tag"),
        ("<b>https://example.org</b> **x**", "<b>https://example.org</b> **x**"),
        ("e\u0301", "\u00e9"),
        ("\x1b", ""),
    ],
)
def test_a_text_is_plain(written: str, read: str) -> None:
    assert plain(written) == read


def test_question_and_answer_reach_the_other_side_by_page_and_mail_and_no_other_hospital(
    frozen: Study, lena: User, alice: User, bob: User, anna: Hospital, client: Client, mailoutbox: list[Any]
) -> None:
    send_due()
    mailoutbox.clear()
    says(frozen, anna, alice, text=HOSTILE)
    services.answer(lena, frozen, anna.site, "Because <b>so</b>: https://example.org")
    send_due()
    assert [mail.to for mail in mailoutbox] == [[lena.email], [alice.email]]
    assert all("\x1b" not in mail.body and PLAIN not in mail.body for mail in mailoutbox)  # erasable texts
    for user in (lena, alice):
        shown = page(client, user, "study", frozen.pk)
        assert PLAIN in shown and "\x1b" not in shown and "\u202e" not in shown
        assert "&lt;b&gt;so&lt;/b&gt;" in shown and 'href="https://example.org' not in shown
        assert "No patients' data here" in shown
    assert PLAIN not in page(client, bob, "study", frozen.pk)
    assert f"Answer St. Anna in “{frozen.name}”" not in page(client, lena, "home")  # answered already
    says(frozen, anna, alice, text="And then?")
    assert f"Answer St. Anna in “{frozen.name}”" in page(client, lena, "home")


def test_the_log_has_a_salted_hash_and_an_erased_text_is_gone_for_good(
    frozen: Study, lena: User, ludo: User, alice: User, bob: User, anna: Hospital, client: Client
) -> None:
    said = says(frozen, anna, alice, text="Ward 7 has only 12 rows")
    entry = json.loads(LogEntry.objects.get(kind="message").data)
    assert entry["body"]["message"] == said.digest == services.digest(said.salt, said.text)
    assert "Ward 7" not in json.dumps(entry) and said.salt not in json.dumps(entry)
    for other in (lena, ludo, bob):
        assert code_of(lambda other=other: services.erase(other, said)) == "auth.forbidden"
        assert not permissions.can_erase(other, said)
    client.force_login(bob)
    assert client.post(reverse("study-thread-erase", args=[frozen.pk, said.pk])).status_code == 404
    client.force_login(alice)
    client.post(reverse("study-thread-erase", args=[frozen.pk, said.pk]))
    said.refresh_from_db()
    assert (said.text, said.salt, bool(said.erased_at)) == ("", "", True)
    assert "Ward 7" not in page(client, lena, "study", frozen.pk)
    assert said.digest[:16] in page(client, lena, "study", frozen.pk)
    assert code_of(lambda: services.erase(alice, said)) == "auth.forbidden"


def test_a_message_over_the_limit_or_without_text_is_refused_and_what_was_typed_is_kept(
    frozen: Study, alice: User, anna: Hospital, client: Client
) -> None:
    says(frozen, anna, alice, text="x" * LIMIT)
    assert code_of(lambda: says(frozen, anna, alice, text="x" * (LIMIT + 1))) == "thread.too_long"
    assert code_of(lambda: says(frozen, anna, alice, text="\u202e\x1b[0m \n")) == "thread.empty"
    client.force_login(alice)
    answer = client.post(
        reverse("study-thread", args=[frozen.pk]), {"kind": "message", "text": "y" * (LIMIT + 1)}
    )
    assert answer.status_code == 422 and "y" * (LIMIT + 1) in answer.content.decode()


def test_a_decline_is_said_plainly_counts_once_and_can_be_taken_back_or_signed_over(
    frozen: Study, lena: User, alice: User, anna: Hospital, barbara: Hospital, client: Client
) -> None:
    stale = frozen.manifest_hash
    says(frozen, anna, alice, "decline", "No legal basis")
    assert code_of(lambda: says(frozen, anna, alice, "decline", "Again")) == "thread.declined"
    shown = page(client, lena, "study", frozen.pk)
    assert (
        "St. Anna has declined the study." in shown
        and "No legal basis" in shown
        and "it can still sign" in shown
    )
    says(frozen, anna, alice, "reconsider", "There is one")
    assert code_of(lambda: says(frozen, anna, alice, "reconsider", "x")) == "thread.not_declined"
    says(frozen, anna, alice, "decline", "After all not")
    studies.sign_approval(anna.as_agent(), stale, anna.sign(stale))
    assert declines_in_force(frozen) == []
    assert code_of(lambda: says(frozen, anna, alice, "decline", "Too late")) == "thread.signed"
    # A decline of a manifest that is not asked about any more, sent again, decides nothing.
    studies.reopen(lena, frozen)
    freeze_tried(lena, frozen)
    replayed = lambda: services.write(alice, frozen, anna.site, "decline", "x", stale)  # noqa: E731
    assert code_of(replayed) == "approval.stale_manifest"
    assert decline_of(frozen, anna.site) is None


def test_a_wish_for_changes_brings_the_draft_back_and_the_next_question_shows_what_differs(
    frozen: Study, lena: User, alice: User, anna: Hospital, barbara: Hospital, client: Client
) -> None:
    before = frozen.manifest_hash
    studies.sign_approval(barbara.as_agent(), before, barbara.sign(before))
    says(frozen, anna, alice, "changes", "Two rounds, please")
    frozen.refresh_from_db()
    assert (frozen.state, frozen.manifest_hash) == (StudyState.DRAFT, "")
    client.force_login(alice)
    assert client.get(reverse("study", args=[frozen.pk])).status_code == 404  # a draft is its lead's
    assert "Two rounds, please" in page(client, alice, "study-thread", frozen.pk)
    frozen.settings = {**frozen.settings, "rounds": 2}
    frozen.save()
    freeze_tried(lena, frozen)
    shown = page(client, alice, "study", frozen.pk)
    assert "Compared with what your hospital asked to change" in shown and "Training: Rounds" in shown


def test_who_is_not_asked_or_speaks_for_another_says_nothing(
    frozen: Study,
    lena: User,
    ludo: User,
    olga: User,
    alice: User,
    bob: User,
    carol: User,
    anna: Hospital,
    clara: Hospital,
) -> None:
    for by in (lena, olga, carol, clara.as_agent(), bob):
        assert code_of(lambda by=by: says(frozen, anna, by)) == "auth.forbidden"
    for by in (ludo, olga, alice):
        assert code_of(lambda by=by: services.answer(by, frozen, anna.site, "x")) == "auth.forbidden"
    assert code_of(lambda: services.answer(lena, frozen, clara.site, "x")) == "thread.not_asked"
    for about in ("release", "serving", "nonsense"):
        act = lambda about=about: services.write(alice, frozen, anna.site, "message", "x", "", about)  # noqa: E731
        assert code_of(act) == "thread.not_asked"
    assert not Message.objects.exists() and not LogEntry.objects.filter(kind="message").exists()


def test_the_agent_reads_asks_and_declines_and_sees_what_was_changed_behind_its_back(
    frozen: Study, alice: User, lena: User, anna: Hospital, clara: Hospital
) -> None:
    services.answer(lena, frozen, anna.site, "Please sign by Friday")
    (thread,) = anna.call("get", "threads").json()
    assert [said["text"] for said in thread["messages"]] == ["Please sign by Friday"]
    assert clara.call("get", "threads").json() == []
    body = {"study": frozen.pk, "kind": "decline", "about": "study", "text": "No", "manifest_hash": "0" * 64}
    assert anna.call("post", "threads", body).json()["code"] == "approval.stale_manifest"
    reported = anna.call("post", "threads", {**body, "manifest_hash": frozen.manifest_hash}).json()
    assert reported["declined"] and reported["messages"][-1]["by"] == ""
    assert clara.call("post", "threads", body).json()["code"] == "thread.not_asked"


def test_a_release_is_asked_about_declined_and_signed_after_all(
    ready: Study, lena: User, alice: User, anna: Hospital, client: Client
) -> None:
    run = finished(lena, ready, "export", anna)
    study = run.study
    study.refresh_from_db()
    releases.ask(lena, run)
    for kind in ("message", "decline"):
        services.write(alice, study, anna.site, kind, "Who gets it?", study.manifest_hash, "release")
    assert [(one.site, one.about) for one in declines_in_force(study)] == [(anna.site, "release")]
    assert "St. Anna has declined the release." in page(client, lena, "study-thread", study.pk)
    again = lambda: services.write(alice, study, anna.site, "decline", "x", study.manifest_hash, "release")  # noqa: E731
    assert code_of(again) == "thread.declined"
    order(run, anna)
    assert declines_in_force(study) == [] and code_of(again) == "thread.signed"


def test_a_decline_is_seen_by_whoever_is_about_to_sign(
    frozen: Study, alice: User, anna: Hospital, barbara: Hospital, tmp_path: Path
) -> None:
    """In the coordinator's answer, and on the agent's terminal above the question."""

    def declined(hospital: Hospital) -> list[bool]:
        return [item["declined"] for item in hospital.call("GET", "approvals").json()]

    says(frozen, anna, alice, "decline", "No legal basis")
    assert (declined(anna), declined(barbara)) == ([True], [False])
    says(frozen, anna, alice, "reconsider", "There is one")
    assert declined(anna) == [False]
    with attacked_hospital(tmp_path) as made:
        manifest = made.manifest()
        made.offer(manifest, declined=True)
        status, said = made.approves(manifest)
        assert status == 0 and "DECLINED: your hospital has declined this" in said
    with attacked_hospital(tmp_path / "other") as made:
        made.offer(made.manifest())
        assert "DECLINED" not in made.approves(made.manifest())[1]


def test_method_2_is_told_without_what_only_method_1_has() -> None:
    for name, manifest in KINDS.items():
        reported = {fact.name for section in summary(manifest, (40,)) for fact in section.facts}
        assert ({"Placement", "A hospital's enclave may begin"} <= reported) == (
            manifest.method == "method-1"
        ), name
