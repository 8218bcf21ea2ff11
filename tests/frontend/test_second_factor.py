"""Signing in with a second factor, and what becomes of somebody who lost it."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticToken

from contracts.refusal import Refusal
from federation.audit.models import AuditEntry
from federation.people import second_factor, services
from federation.people.models import Authenticator, Invitation, Role, User
from tests.federation.cast import PASSWORD


def code_of(user: User, ahead: int = 0) -> str:
    """What the person's app shows `ahead` times 30 seconds from now."""
    device = Authenticator.objects.get(user=user)
    return f"{totp(device.bin_key, t0=-30 * ahead):06d}"


@pytest.fixture
def codes(olga: User) -> list[str]:
    """Olga's second factor is on; these are her recovery codes."""
    second_factor.begin(olga)
    return second_factor.confirm(olga, code_of(olga))


def password_given(user: User, **extra: str) -> Client:
    client = Client()
    answer = client.post(reverse("sign-in"), {"username": user.email, "password": PASSWORD, **extra})
    assert answer.status_code == 302 and answer.headers["Location"] == reverse("sign-in-code")
    return client


def is_in(client: Client) -> bool:
    return client.get(reverse("home")).status_code == 200


class TestSettingUp:
    def test_the_page_shows_a_key_that_makes_the_right_codes_and_then_the_recovery_codes_once(
        self, olga: User
    ) -> None:
        client = Client()
        client.force_login(olga)
        address = reverse("second-factor")
        page = client.get(address).content.decode()
        shown = re.search(r'id="secret">([A-Z2-7 ]+)<', page)
        assert shown is not None and "<svg" in page
        import base64

        key = base64.b32decode(shown.group(1).replace(" ", ""))
        wrong = client.post(address, {"code": "000000"})
        assert wrong.status_code == 422 and not second_factor.is_on(olga)
        Authenticator.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
        done = client.post(address, {"code": f"{totp(key):06d}"}).content.decode()
        assert second_factor.is_on(olga)
        found = re.findall(r"\b[a-z2-9]{5}-[a-z2-9]{5}-[a-z2-9]{5}\b", done)
        assert len(set(found)) == 10
        assert found[0] not in client.get(reverse("account")).content.decode()

    def test_the_database_has_neither_the_key_nor_the_codes(self, olga: User, codes: list[str]) -> None:
        device = Authenticator.objects.get(user=olga)
        assert device.bin_key != bytes.fromhex(device.key)
        kept = set(StaticToken.objects.values_list("token", flat=True))
        assert len(kept) == 10
        assert not kept & {part for code in codes for part in (code, code.replace("-", ""))}

    def test_another_key_in_the_state_folder_makes_other_codes(
        self, olga: User, codes: list[str], settings: Any
    ) -> None:
        before = Authenticator.objects.get(user=olga).bin_key
        settings.SECOND_FACTOR_KEY = "another"
        assert Authenticator.objects.get(user=olga).bin_key != before


class TestSigningIn:
    def test_the_password_alone_opens_nothing(self, olga: User, codes: list[str]) -> None:
        client = password_given(olga)
        assert not is_in(client)
        assert client.get(reverse("people")).status_code == 302

    def test_the_password_and_the_code_open_the_page_that_was_asked_for(
        self, olga: User, codes: list[str]
    ) -> None:
        client = password_given(olga, next="/people")
        answer = client.post(reverse("sign-in-code"), {"code": code_of(olga, ahead=1)})
        assert (answer.status_code, answer.headers["Location"]) == (302, "/people")
        assert is_in(client)

    def test_a_code_works_once(self, olga: User, codes: list[str]) -> None:
        code = code_of(olga, ahead=1)
        assert password_given(olga).post(reverse("sign-in-code"), {"code": code}).status_code == 302
        again = password_given(olga).post(reverse("sign-in-code"), {"code": code})
        assert again.status_code == 422 and "second_factor.wrong" in again.content.decode()

    def test_a_recovery_code_works_once_in_any_spelling(self, olga: User, codes: list[str]) -> None:
        client = password_given(olga)
        spelt = codes[0].upper().replace("-", " ")
        assert client.post(reverse("sign-in-code"), {"code": spelt}).status_code == 302 and is_in(client)
        assert second_factor.state_of(olga).codes_left == 9
        again = password_given(olga)
        assert again.post(reverse("sign-in-code"), {"code": codes[0]}).status_code == 422
        assert AuditEntry.objects.get(action="second_factor.recovery_code_used").facts == {"left": 9}

    def test_after_wrong_codes_even_the_right_one_has_to_wait(self, olga: User, codes: list[str]) -> None:
        client = password_given(olga)
        for _ in range(3):
            Authenticator.objects.update(throttling_failure_timestamp=None)
            client.post(reverse("sign-in-code"), {"code": "000000"})
        page = client.post(reverse("sign-in-code"), {"code": code_of(olga, ahead=1)})
        assert page.status_code == 422 and "second_factor.wait" in page.content.decode()
        assert not is_in(client)

    @pytest.mark.parametrize("code", ["", " ", "١٢٣٤٥٦", "1_2345", "-12345", "0x1234", "1" * 41])
    def test_what_is_no_code_is_refused(self, olga: User, codes: list[str], code: str) -> None:
        assert password_given(olga).post(reverse("sign-in-code"), {"code": code}).status_code == 422

    def test_the_password_is_forgotten_after_five_minutes_and_when_it_changes(
        self, olga: User, codes: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late, changed = password_given(olga), password_given(olga)
        real = time.time
        with monkeypatch.context() as patch:
            patch.setattr("frontend.views.signing_in.time.time", lambda: real() + 301)
            assert late.get(reverse("sign-in-code")).headers["Location"] == reverse("sign-in")
        services.change_password(olga, PASSWORD, "an entirely different sentence")
        assert changed.get(reverse("sign-in-code")).headers["Location"] == reverse("sign-in")

    def test_without_a_password_there_is_no_page_for_a_code(self, olga: User, codes: list[str]) -> None:
        answer = Client().post(reverse("sign-in-code"), {"code": code_of(olga, ahead=1)})
        assert answer.headers["Location"] == reverse("sign-in")


class TestRequired:
    @pytest.fixture(autouse=True)
    def demanded(self, settings: Any) -> None:
        settings.SECOND_FACTOR_ROLES = ["operator"]

    def test_a_role_that_must_have_one_sets_it_up_before_anything_opens(self, olga: User, lena: User) -> None:
        client = Client()
        client.force_login(olga)
        for name in ("home", "people", "account", "password"):
            assert client.get(reverse(name)).headers["Location"] == reverse("second-factor")
        assert client.get(reverse("second-factor")).status_code == 200
        other = Client()
        other.force_login(lena)
        assert is_in(other)
        second_factor.begin(olga)
        second_factor.confirm(olga, code_of(olga))
        assert is_in(client)

    def test_it_cannot_be_turned_off(self, olga: User, codes: list[str]) -> None:
        with pytest.raises(Refusal, match=r"second_factor\.required"):
            second_factor.turn_off(olga, code_of(olga, ahead=1))


class TestReset:
    def test_an_operator_resets_it_for_somebody_who_lost_it(self, olga: User, codes: list[str]) -> None:
        other = User.objects.create_user("otto@coordinator.example", PASSWORD, role=Role.OPERATOR)
        client = Client()
        client.force_login(other)
        address = reverse("person-change", args=[olga.pk, "reset"])
        client.post(address, {"confirm": "olga"})
        assert second_factor.is_on(olga)
        client.post(address, {"confirm": olga.email})
        assert not second_factor.is_on(olga) and not StaticToken.objects.exists()
        signed = Client()
        signed.post(reverse("sign-in"), {"username": olga.email, "password": PASSWORD})
        assert is_in(signed)
        assert AuditEntry.objects.get(action="second_factor.reset").actor == other.email

    def test_nobody_resets_his_own_and_nobody_else_resets_anyones(
        self, olga: User, audrey: User, lena: User, codes: list[str]
    ) -> None:
        for person in (olga, audrey, lena):
            with pytest.raises(Refusal, match=r"auth\.forbidden"):
                second_factor.reset(person, olga)


class TestPeople:
    def test_a_closed_account_is_signed_out_at_once_and_opens_again(self, olga: User, lena: User) -> None:
        client, operator = Client(), Client()
        client.force_login(lena)
        operator.force_login(olga)
        operator.post(reverse("person-change", args=[lena.pk, "close"]), {"confirm": lena.email})
        assert not is_in(client)
        operator.post(reverse("person-change", args=[lena.pk, "open"]))
        client.force_login(lena)
        assert is_in(client)

    def test_an_account_is_closed_at_the_console_without_an_operator(self, olga: User) -> None:
        client = Client()
        client.force_login(olga)
        call_command("close_account", "OLGA@coordinator.example")
        assert not is_in(client)
        assert AuditEntry.objects.get(action="person.deactivated").actor == "system"
        with pytest.raises(CommandError, match=r"people\.unknown"):
            call_command("close_account", "nobody@coordinator.example")

    def test_a_role_is_given_but_not_to_oneself_and_not_to_a_hospitals_admin(
        self, olga: User, ludo: User, alice: User
    ) -> None:
        services.set_role(olga, ludo, Role.AUDITOR)
        ludo.refresh_from_db()
        assert ludo.role == Role.AUDITOR
        for person, role, code in (
            (olga, Role.LEAD, "people.own_account"),
            (alice, Role.OPERATOR, "people.site_account"),
            (ludo, Role.SITE_ADMIN, "people.site_account"),
        ):
            with pytest.raises(Refusal, match=code.replace(".", r"\.")):
                services.set_role(olga, person, role)
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            services.set_role(ludo, olga, Role.LEAD)

    def test_an_expired_link_is_sent_again_and_the_old_one_stays_dead(self, olga: User) -> None:
        services.invite(olga, "nora@university.example", Role.LEAD)
        old = re.search(r"/invitations/\S+", str(mail.outbox[-1].body))
        assert old is not None
        Invitation.objects.update(expires=timezone.now())
        assert "invitation.expired" in Client().get(old.group(0)).content.decode()
        client = Client()
        client.force_login(olga)
        assert "expired" in client.get(reverse("people")).content.decode()
        client.post(reverse("person-invitation", args=[Invitation.objects.get().pk, "renew"]))
        new = re.search(r"/invitations/\S+", str(mail.outbox[-1].body))
        assert new is not None and new.group(0) != old.group(0)
        assert Client().get(new.group(0)).status_code == 200
        assert "invitation.unknown" in Client().get(old.group(0)).content.decode()

    def test_a_password_is_changed_with_the_present_one_only(self, lena: User) -> None:
        here, elsewhere = Client(), Client()
        for client in (here, elsewhere):
            client.force_login(lena)
        new = "an entirely different sentence"
        form = {"current": "wrong", "password": new, "repeated": new}
        assert "people.wrong_password" in here.post(reverse("password"), form).content.decode()
        assert here.post(reverse("password"), {**form, "current": PASSWORD}).status_code == 302
        assert is_in(here) and not is_in(elsewhere)
