"""From the invitation to the green site."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.utils import timezone

from attestation.development import create_platform
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from federation.attestation import log
from federation.audit.models import AuditEntry
from federation.people import services as people
from federation.people.models import Invitation, Role, User
from federation.sites import services
from federation.sites.models import EnrolmentToken, Site, SiteState
from tests.federation.cast import PASSWORD, Hospital, make_hospital
from tests.support.keys import approval_key


def link_token(message: Any) -> str:
    found = re.search(r"http://127\.0\.0\.1:8000/invitations/(\S+)/", message.body)
    assert found
    return found[1]


def command_token(command: str) -> str:
    return command.rsplit(" ", 1)[1]


@pytest.fixture
def invited(lena: User) -> User:
    """Dora accepted Lena's invitation and named her hospital."""
    people.invite(lena, "Dora@dorothea.example", Role.SITE_ADMIN)
    return people.accept_invitation(link_token(mail.outbox[0]), password=PASSWORD, site_name="St. Dorothea")


def request_of(key: SigningKey, tmp_path: Any, **changes: Any) -> dict[str, Any]:
    request = {
        "public_key": key.public,
        "approval_key": approval_key(key).public,
        "agent_version": "0.1",
        "runtime": "development",
        "platform_key_pem": create_platform(tmp_path / key.public[:8]).decode(),
    }
    return {**request, **changes}


def test_a_hospital_comes_by_invitation_and_turns_green(invited: User, tmp_path: Any) -> None:
    assert (invited.email, invited.role) == ("dora@dorothea.example", Role.SITE_ADMIN)
    site = invited.site
    assert site is not None and (site.name, site.state) == ("St. Dorothea", SiteState.INVITED)
    command = services.enrolment_command(invited, site)
    begins = "python -m site_agent enrol --coordinator http://127.0.0.1:8000 --log-key "
    assert command.startswith(f"{begins}{log.key_fingerprint()} --token ")
    hospital = Hospital(site, SigningKey.generate())
    body = {"token": command_token(command), **request_of(hospital.key, tmp_path)}
    answer = hospital.call("post", "enrol", body, token="")
    assert answer.status_code == 200, answer.content
    reported = answer.json()
    assert (reported["site"], reported["name"]) == (site.pk, "St. Dorothea")
    assert reported["pck_chain"].count("BEGIN CERTIFICATE") == 3
    site.refresh_from_db()
    assert (site.state, site.public_key, site.approval_key) == (
        SiteState.ENROLLED,
        hospital.key.public,
        approval_key(hospital.key).public,
    )
    beat = {"agent_version": "0.2", "runtime": "development", "checks": [{"name": "DNS", "outcome": "pass"}]}
    answer = hospital.call("post", "heartbeat", beat)
    assert answer.json()["state"] == "active"
    site.refresh_from_db()
    assert (site.state, site.agent_version) == (SiteState.ACTIVE, "0.2")
    assert site.last_seen is not None and site.checks[0]["name"] == "DNS"
    steps = [(event.from_state, event.to_state, event.actor) for event in site.events.all()]
    assert steps == [("invited", "enrolled", "system"), ("enrolled", "active", f"site:{site.pk}")]


def test_the_mailed_link_is_kept_only_as_a_hash(lena: User) -> None:
    people.invite(lena, "dora@dorothea.example", Role.SITE_ADMIN)
    token = link_token(mail.outbox[0])
    assert mail.outbox[0].to == ["dora@dorothea.example"]
    assert token not in str(list(Invitation.objects.values()))
    assert token not in str(list(AuditEntry.objects.values()))


def test_an_invitation_works_once_and_not_for_ever(lena: User) -> None:
    people.invite(lena, "dora@dorothea.example", Role.SITE_ADMIN)
    token = link_token(mail.outbox[0])
    with pytest.raises(Refusal, match=r"people\.bad_password"):
        people.accept_invitation(token, password="short", site_name="St. Dorothea")
    with pytest.raises(Refusal, match=r"site\.name_missing"):
        people.accept_invitation(token, password=PASSWORD, site_name="  ")
    make_hospital("St. Agatha")
    with pytest.raises(Refusal, match=r"site\.name_taken"):
        people.accept_invitation(token, password=PASSWORD, site_name="st. agatha")
    assert not User.objects.filter(email="dora@dorothea.example").exists()
    people.accept_invitation(token, password=PASSWORD, site_name="St. Dorothea")
    with pytest.raises(Refusal, match=r"invitation\.used"):
        people.accept_invitation(token, password=PASSWORD, site_name="St. Dorothea II")
    with pytest.raises(Refusal, match=r"invitation\.used"):
        people.find_invitation(token)
    people.invite(lena, "emma@emma.example", Role.SITE_ADMIN)
    late = link_token(mail.outbox[1])
    Invitation.objects.filter(email="emma@emma.example").update(expires=timezone.now())
    with pytest.raises(Refusal, match=r"invitation\.expired"):
        people.accept_invitation(late, password=PASSWORD, site_name="St. Emma")
    with pytest.raises(Refusal, match=r"invitation\.unknown"):
        people.accept_invitation("x" * 43, password=PASSWORD, site_name="St. Emma")


def test_a_second_admin_joins_a_named_hospital(alice: User) -> None:
    people.invite(alice, "anton@anna.example", Role.SITE_ADMIN, alice.site)
    anton = people.accept_invitation(link_token(mail.outbox[0]), password=PASSWORD, site_name="Mine now")
    assert anton.site == alice.site and anton.site.name == "St. Anna"


def test_nobody_is_kept_when_the_mail_cannot_be_sent(lena: User, monkeypatch: Any) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr(people, "send_mail", broken)
    with pytest.raises(Refusal, match=r"invitation\.mail_failed"):
        people.invite(lena, "dora@dorothea.example", Role.SITE_ADMIN)
    assert not Invitation.objects.exists() and not Site.objects.exists()


@pytest.mark.parametrize(
    ("who", "role", "own_site", "allowed"),
    [
        ("olga", Role.OPERATOR, False, True),
        ("olga", Role.SITE_ADMIN, False, True),
        ("lena", Role.SITE_ADMIN, False, True),
        ("lena", Role.LEAD, False, False),
        ("lena", Role.SITE_ADMIN, True, False),
        ("alice", Role.SITE_ADMIN, True, True),
        ("alice", Role.SITE_ADMIN, False, False),
        ("bob", Role.SITE_ADMIN, True, False),
        ("alice", Role.AUDITOR, False, False),
        ("audrey", Role.SITE_ADMIN, False, False),
    ],
)
def test_who_may_invite_whom(
    request: Any, anna: Hospital, who: str, role: str, own_site: bool, allowed: bool
) -> None:
    site = anna.site if own_site else None
    by = request.getfixturevalue(who)
    if allowed:
        assert people.invite(by, "new@example.org", role, site).role == role
    else:
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            people.invite(by, "new@example.org", role, site)
        assert not Invitation.objects.exists()


class TestEnrolmentToken:
    @pytest.fixture
    def token(self, invited: User) -> str:
        return command_token(services.enrolment_command(invited, invited.site))  # type: ignore[arg-type]

    def refused(self, token: str, code: str, request: dict[str, Any]) -> None:
        before = list(Site.objects.values())
        with pytest.raises(Refusal) as refusal:
            services.enrol(token, **request)
        assert refusal.value.code == code
        assert list(Site.objects.values()) == before

    def test_it_is_kept_only_as_a_hash(self, token: str) -> None:
        assert token not in str(list(EnrolmentToken.objects.values()))

    def test_it_is_good_once(self, token: str, tmp_path: Any) -> None:
        services.enrol(token, **request_of(SigningKey.generate(), tmp_path))
        self.refused(token, "enrolment.token_used", request_of(SigningKey.generate(), tmp_path))

    def test_the_same_agent_may_ask_again_until_it_was_heard_of(self, token: str, tmp_path: Any) -> None:
        request = request_of(SigningKey.generate(), tmp_path)
        first = services.enrol(token, **request)
        assert services.enrol(token, **request) == first
        Site.objects.filter(pk=first.site.pk).update(state=SiteState.ACTIVE)
        self.refused(token, "enrolment.token_used", request)

    def test_it_expires(self, token: str, tmp_path: Any) -> None:
        EnrolmentToken.objects.update(expires=timezone.now())
        self.refused(token, "enrolment.token_expired", request_of(SigningKey.generate(), tmp_path))

    def test_a_made_up_one_is_not_known(self, token: str, tmp_path: Any) -> None:
        self.refused(token[:-1], "enrolment.unknown_token", request_of(SigningKey.generate(), tmp_path))

    def test_the_same_command_is_shown_again_while_it_is_good(
        self, token: str, invited: User, settings: Any
    ) -> None:
        site = invited.site
        assert site is not None
        made = AuditEntry.objects.count()
        assert command_token(services.enrolment_command(invited, site)) == token
        assert AuditEntry.objects.count() == made
        settings.SECRET_KEY = "another installation's"  # who has the database alone
        assert command_token(services.enrolment_command(invited, site)) != token
        EnrolmentToken.objects.update(expires=timezone.now())
        last = command_token(services.enrolment_command(invited, site))
        assert last != token and EnrolmentToken.objects.count() == 1

    def test_a_new_command_makes_the_old_one_worthless(
        self, token: str, invited: User, tmp_path: Any
    ) -> None:
        services.enrolment_command(invited, invited.site, fresh=True)  # type: ignore[arg-type]
        self.refused(token, "enrolment.unknown_token", request_of(SigningKey.generate(), tmp_path))

    def test_it_survives_a_refused_request(self, token: str, tmp_path: Any, anna: Hospital) -> None:
        good = request_of(SigningKey.generate(), tmp_path)
        self.refused(token, "enrolment.bad_key", {**good, "public_key": "zz" * 32})
        self.refused(token, "enrolment.bad_key", {**good, "approval_key": good["public_key"]})
        self.refused(token, "enrolment.key_taken", {**good, "public_key": anna.key.public})
        self.refused(token, "enrolment.key_taken", {**good, "approval_key": approval_key(anna.key).public})
        hardware = {"runtime": "sgx", "platform_key_pem": None, "development_key": True}
        self.refused(token, "approval_key.development", {**good, **hardware})
        self.refused(token, "enrolment.runtime", {**good, "runtime": "abacus"})
        self.refused(token, "enrolment.platform_key", {**good, "platform_key_pem": None})
        self.refused(token, "development.bad_request", {**good, "platform_key_pem": "nonsense"})
        assert services.enrol(token, **good).site.state == SiteState.ENROLLED

    def test_development_is_refused_where_it_is_switched_off(
        self, token: str, tmp_path: Any, settings: Any
    ) -> None:
        settings.ENCLAVE_RUNTIMES = ["sgx"]
        self.refused(token, "enrolment.runtime", request_of(SigningKey.generate(), tmp_path))

    def test_only_the_hospitals_own_admin_gets_a_command(
        self, invited: User, olga: User, lena: User, alice: User
    ) -> None:
        for stranger in (olga, lena, alice):
            with pytest.raises(Refusal, match=r"auth\.forbidden"):
                services.enrolment_command(stranger, invited.site)  # type: ignore[arg-type]

    def test_an_enrolled_site_gets_no_further_command(self, alice: User) -> None:
        with pytest.raises(Refusal, match=r"site\.wrong_state"):
            services.enrolment_command(alice, alice.site)  # type: ignore[arg-type]


class TestAnotherApprovalKey:
    """Its passphrase was lost: the agent alone cannot set another one."""

    def test_the_sites_admin_lets_its_agent_replace_it_once(self, alice: User, anna: Hospital) -> None:
        assert alice.site is not None
        before = Site.objects.get(pk=anna.site.pk)
        token = command_token(services.replacement_command(alice, alice.site))
        new, later = SigningKey.generate().public, SigningKey.generate().public
        for _ in range(2):  # the answer may have been lost
            answer = anna.call("post", "approval-key", {"token": token, "approval_key": new})
            assert answer.json() == {"approval_key": new}, answer.content
        answer = anna.call("post", "approval-key", {"token": token, "approval_key": later})
        assert answer.json()["code"] == "enrolment.token_used"
        site = Site.objects.get(pk=anna.site.pk)
        assert (site.public_key, site.approval_key) == (before.public_key, new)
        assert site.fingerprint != before.fingerprint, "the others confirm it again"

    def test_no_other_key_passes_for_one(self, alice: User, anna: Hospital, barbara: Hospital) -> None:
        assert alice.site is not None
        token = command_token(services.replacement_command(alice, alice.site))
        for hospital, key, code in (
            (anna, anna.key.public, "enrolment.bad_key"),
            (anna, approval_key(barbara.key).public, "enrolment.key_taken"),
            (barbara, SigningKey.generate().public, "enrolment.unknown_token"),
        ):
            answer = hospital.call("post", "approval-key", {"token": token, "approval_key": key})
            assert answer.json()["code"] == code

    def test_only_the_hospitals_own_admin_gets_the_command(
        self, olga: User, lena: User, anna: Hospital
    ) -> None:
        for stranger in (olga, lena):
            with pytest.raises(Refusal, match=r"auth\.forbidden"):
                services.replacement_command(stranger, anna.site)


class TestGoverning:
    def test_a_site_is_suspended_taken_back_and_revoked(self, olga: User, anna: Hospital) -> None:
        services.suspend(olga, anna.site, "key under suspicion")
        services.resume(olga, anna.site, "cleared")
        services.revoke(olga, anna.site, "left the consortium")
        anna.site.refresh_from_db()
        assert anna.site.state == SiteState.REVOKED
        notes = [event.note for event in anna.site.events.all()]
        assert notes == ["key under suspicion", "cleared", "left the consortium"]
        with pytest.raises(Refusal, match=r"site\.wrong_state"):
            services.resume(olga, anna.site, "too late")

    def test_whoever_stopped_a_site_lets_it_work_again_and_nobody_else(
        self, alice: User, olga: User, anna: Hospital, barbara: Hospital
    ) -> None:
        site = anna.site
        for stops, cannot in ((alice, olga), (olga, alice)):
            services.suspend(stops, site, "maintenance")
            site.refresh_from_db()
            with pytest.raises(Refusal, match=r"auth\.forbidden"):
                services.resume(cannot, site, "done")
            services.resume(stops, site, "done")
            site.refresh_from_db()
            assert (site.state, site.suspended_by) == (SiteState.ACTIVE, "")
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            services.suspend(alice, barbara.site, "envy")

    def test_the_agent_is_told_who_suspended_its_site(self, alice: User, anna: Hospital) -> None:
        services.suspend(alice, anna.site, "maintenance")
        answer = anna.call("post", "heartbeat", {"agent_version": "0.1", "runtime": "development"}).json()
        assert answer["code"] == "auth.site_suspended"
        assert answer["message"] == "This site is suspended, by the hospital itself."
        assert "on the site's page" in answer["hint"]

    def test_a_revoked_sites_platform_is_on_the_revocation_list(
        self, invited: User, olga: User, tmp_path: Any, settings: Any
    ) -> None:
        site = invited.site
        assert site is not None
        token = command_token(services.enrolment_command(invited, site))
        services.enrol(token, **request_of(SigningKey.generate(), tmp_path))
        site.refresh_from_db()
        services.revoke(olga, site, "gone")
        assert len((settings.DEVELOPMENT_ROOT_DIR / "revoked.json").read_text()) > len("{}")


def test_the_first_operator_is_made_at_the_command_line(db: None, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    call_command("create_operator", "--email", "Olga@Coordinator.example", "--password-stdin")
    olga = User.objects.get()
    assert (olga.email, olga.role) == ("olga@coordinator.example", Role.OPERATOR)
    assert olga.check_password(PASSWORD)
    assert PASSWORD not in capsys.readouterr().out


def test_the_same_command_invites_the_first_lead(
    db: None, monkeypatch: Any, capsys: Any, mailoutbox: list[Any]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n" * 2))
    made = ("create_operator", "--password-stdin", "--email", "olga@coordinator.example", "--invite-lead")
    with pytest.raises(CommandError, match=r"the operator is made, but nobody is invited: .*bad_email"):
        call_command(*made, "nobody")
    User.objects.all().delete()
    call_command(*made, "lena@study.example")
    (mail,) = mailoutbox
    assert mail.to == ["lena@study.example"] and "/invitations/" in mail.body
    assert "on its way to lena@study.example" in capsys.readouterr().out


class TestAnInvitationOfAHospital:
    def test_whoever_sent_it_sends_it_again_and_takes_it_back_with_the_place(
        self, lena: User, ludo: User
    ) -> None:
        invitation = people.invite(lena, "Dora@dorothea.example", Role.SITE_ADMIN)
        first = invitation.token_hash
        for action in (people.renew_invitation, people.withdraw_invitation):
            with pytest.raises(Refusal, match=r"auth\.forbidden"):
                action(ludo, invitation)
        people.renew_invitation(lena, invitation)
        invitation.refresh_from_db()
        assert invitation.token_hash != first
        people.withdraw_invitation(lena, invitation)
        assert not Invitation.objects.exists() and not Site.objects.filter(name="").exists()

    def test_a_hospital_that_has_come_stays(self, invited: User, lena: User) -> None:
        site = invited.site
        later = people.invite(invited, "colleague@dorothea.example", Role.SITE_ADMIN, site)
        people.withdraw_invitation(invited, later)
        assert Site.objects.filter(pk=site.pk).exists()  # type: ignore[union-attr]
