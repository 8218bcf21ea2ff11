"""Attacks on signing in: guessing passwords, locking somebody out, and lying about where one comes from."""

from __future__ import annotations

import io
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client, RequestFactory
from django.urls import reverse

from federation.clients import client_of
from federation.people.models import User
from frontend.known_browsers import COOKIE
from tests.federation.cast import PASSWORD
from tests.frontend.conftest import counters, lena, olga, redis_server, state_folder  # noqa: F401

pytestmark = pytest.mark.django_db


def tries(address: str, password: str, client: Client | None = None, **origin: str) -> str:
    """The page that answers one try."""
    client = client or Client()
    given = {"username": address, "password": password}
    origin = {"REMOTE_ADDR": "203.0.113.7", **origin}
    return client.post(reverse("sign-in"), given, follow=True, **origin).content.decode()  # type: ignore[arg-type]


def is_in(page: str) -> bool:
    return "What is going on" in page


def test_ten_wrong_passwords_from_elsewhere_do_not_keep_the_right_person_out(lena: User) -> None:  # noqa: F811
    pages = [tries(lena.email, f"wrong {n}", REMOTE_ADDR="198.51.100.9") for n in range(11)]
    assert "people.too_many_tries" in pages[-1]
    assert not is_in(tries(lena.email, PASSWORD, REMOTE_ADDR="198.51.100.9"))
    assert is_in(tries(lena.email, PASSWORD))


def test_one_client_that_sprays_a_password_over_many_accounts_is_slowed(lena: User) -> None:  # noqa: F811
    pages = [tries(f"person{n}@hospital.example", "Winter2026!!") for n in range(60)]
    assert sum("people.client_slowed" in page for page in pages) == 10
    assert "people.client_slowed" in tries(lena.email, PASSWORD)


def test_many_clients_that_guess_at_one_account_are_slowed_and_its_own_browser_is_not(
    lena: User,  # noqa: F811
) -> None:
    own = Client()
    assert is_in(tries(lena.email, PASSWORD, own))
    own.post(reverse("sign-out"))
    pages = [tries(lena.email, f"wrong {n}", REMOTE_ADDR=f"198.51.100.{n}") for n in range(110)]
    # One of the hundred tries of an hour was Lena's own.
    assert sum("people.account_slowed" in page for page in pages) == 11
    assert "people.account_slowed" in tries(lena.email, PASSWORD, REMOTE_ADDR="192.0.2.1")
    assert is_in(tries(lena.email, PASSWORD, own, REMOTE_ADDR="192.0.2.1"))


def test_a_known_browser_has_ten_tries_too_and_is_known_for_its_own_account_only(
    lena: User,  # noqa: F811
    olga: User,  # noqa: F811
) -> None:
    own = Client()
    tries(lena.email, PASSWORD, own)
    own.post(reverse("sign-out"))
    pages = [tries(lena.email, f"wrong {n}", own, REMOTE_ADDR=f"198.51.100.{n}") for n in range(11)]
    assert ["people.too_many_tries" in page for page in pages] == [False] * 10 + [True]
    for n in range(100):
        tries(olga.email, "wrong", REMOTE_ADDR=f"198.51.100.{n}")
    assert "people.account_slowed" in tries(olga.email, PASSWORD, own)


def test_a_forged_mark_of_a_known_browser_is_worth_nothing(lena: User) -> None:  # noqa: F811
    for n in range(100):
        tries(lena.email, "wrong", REMOTE_ADDR=f"198.51.100.{n}")
    forger = Client()
    forger.cookies[COOKIE] = f"{lena.pk}.abcdefghijklmnop:1tKz0Q:{'A' * 43}"
    assert "people.account_slowed" in tries(lena.email, PASSWORD, forger)


def test_an_invented_x_forwarded_for_gives_no_fresh_tries(lena: User) -> None:  # noqa: F811
    pages = [tries(lena.email, f"wrong {n}", HTTP_X_FORWARDED_FOR=f"192.0.2.{n}") for n in range(11)]
    assert "people.too_many_tries" in pages[-1]


def test_behind_a_proxy_what_the_client_wrote_itself_is_ignored_too(
    lena: User,  # noqa: F811
    settings: Any,
) -> None:
    settings.PROXIES = [ip_network("10.0.0.0/24")]
    through = {"REMOTE_ADDR": "10.0.0.2"}
    for n in range(11):
        # The proxy appended the address that it saw; what stands before it is the attacker's.
        page = tries(lena.email, "wrong", HTTP_X_FORWARDED_FOR=f"192.0.2.{n}, 198.51.100.9", **through)
    assert "people.too_many_tries" in page
    assert is_in(tries(lena.email, PASSWORD, HTTP_X_FORWARDED_FOR="203.0.113.7", **through))


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("203.0.113.7", "192.0.2.1", "203.0.113.7"),
        ("10.0.0.2", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.2", "192.0.2.1, 10.0.0.3", "192.0.2.1"),
        ("10.0.0.2", "192.0.2.1, nonsense", "10.0.0.2"),
        ("10.0.0.2", "", "10.0.0.2"),
        ("::ffff:10.0.0.2", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "192.0.2.1", "2001:db8:1:2::/64"),
        ("", "192.0.2.1", "unknown"),
    ],
)
def test_the_clients_address_is_what_the_outermost_of_our_proxies_saw(
    settings: Any, peer: str, said: str, client: str
) -> None:
    settings.PROXIES = [ip_network("10.0.0.0/24")]
    request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=said)
    assert client_of(request) == client


def test_the_first_operator_is_told_of_the_second_factor(
    settings: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECOND_FACTOR_ROLES = ["operator"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    call_command("create_operator", "--email", "op@coordinator.example", "--password-stdin")
    assert "authenticator app" in capsys.readouterr().out
