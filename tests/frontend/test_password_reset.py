"""A forgotten password is replaced by mail, and the mail is worth no more than that."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import limits.storage.redis
import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from redis import Redis

from federation.people import resets, second_factor
from federation.people.models import ResetWish, User
from federation.upkeep import forget_expired
from tests.federation.cast import PASSWORD
from tests.frontend.test_second_factor import code_of

NEW = "an entirely different sentence"


def ask(address: str) -> str:
    """The page that the asker lands on, but for its form tokens."""
    answer = Client().post(reverse("password-reset"), {"email": address}, follow=True)
    return re.sub(r'("X-CSRFToken": |name="csrfmiddlewaretoken" value=)"\w+"', "", answer.content.decode())


def link() -> str:
    """The path in the newest mail."""
    found = re.search(r"https?://[^/]+(/password/\S+)", str(mail.outbox[-1].body))
    assert found is not None
    return found.group(1)


def choose(path: str, password: str = NEW) -> str:
    client = Client()
    form = client.get(path, follow=True)
    there = form.redirect_chain[-1][0] if form.redirect_chain else path
    answer = client.post(there, {"new_password1": password, "new_password2": password}, follow=True)
    return answer.content.decode()


def signs_in(user: User, password: str) -> bool:
    client = Client()
    client.post(reverse("sign-in"), {"username": user.email, "password": password})
    return client.get(reverse("home")).status_code == 200


def test_the_link_replaces_the_password_once_and_ends_open_sessions(lena: User) -> None:
    elsewhere = Client()
    elsewhere.force_login(lena)
    ask("LENA@university.example ")
    assert resets.send_due() == 1 and mail.outbox[0].to == [lena.email]
    path = link()
    assert "in force" in choose(path)
    assert elsewhere.get(reverse("home")).status_code == 302
    assert signs_in(lena, NEW) and not signs_in(lena, PASSWORD)
    assert "does not work any more" in choose(path, "yet another long sentence")
    assert signs_in(lena, NEW)


def test_the_page_is_the_same_for_an_address_without_an_account(lena: User) -> None:
    User.objects.create_user("gone@university.example", PASSWORD, role="lead", is_active=False)
    pages = {ask(address) for address in (lena.email, "nobody@university.example", "gone@university.example")}
    assert len(pages) == 1
    resets.send_due()
    assert [one.to for one in mail.outbox] == [[lena.email]]


def test_asking_costs_the_same_queries_with_and_without_an_account(lena: User) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    counts = []
    for address in (lena.email, "nobody@university.example"):
        with CaptureQueriesContext(connection) as asked:
            ask(address)
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_the_second_factor_is_still_asked_for(olga: User) -> None:
    second_factor.begin(olga)
    second_factor.confirm(olga, code_of(olga))
    ask(olga.email)
    resets.send_due()
    choose(link())
    client = Client()
    answer = client.post(reverse("sign-in"), {"username": olga.email, "password": NEW})
    assert answer.headers["Location"] == reverse("sign-in-code")
    assert client.get(reverse("home")).status_code == 302


def test_a_weak_password_is_refused_and_the_link_stays_good(lena: User) -> None:
    ask(lena.email)
    resets.send_due()
    assert "too short" in choose(link(), "short")
    assert "in force" in choose(link())


def test_a_link_is_good_for_an_hour(lena: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import datetime

    from django.contrib.auth.tokens import default_token_generator

    ask(lena.email)
    resets.send_due()
    later = datetime.now() + timedelta(minutes=61)
    monkeypatch.setattr(default_token_generator, "_now", lambda: later)
    assert "does not work any more" in choose(link())
    assert signs_in(lena, PASSWORD)


def later(seconds: float) -> Callable[[], float]:
    real = time.time
    return lambda: real() + seconds


def test_no_more_than_three_links_an_hour_go_to_an_address(
    lena: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {ask(lena.email) for _ in range(5)}
    resets.send_due()
    assert len(mail.outbox) == 3 and len(pages) == 1
    monkeypatch.setattr(limits.storage.redis.time, "time", later(3660))
    ask(lena.email)
    assert resets.send_due() == 1


def test_a_mail_server_that_fails_is_asked_again(lena: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError

    ask(lena.email)
    with monkeypatch.context() as patched:
        patched.setattr(resets, "send_mail", fail)
        assert resets.send_due() == 0
    assert resets.send_due() == 1


def test_ten_wrong_passwords_make_an_address_wait_here_with_or_without_an_account(
    lena: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (lena.email, "nobody@university.example"):
        pages = []
        for _ in range(11):
            given = {"username": address, "password": "wrong"}
            pages.append(Client().post(reverse("sign-in"), given).content.decode())
        assert ["people.too_many_tries" in page for page in pages] == [False] * 10 + [True]
    assert not signs_in(lena, PASSWORD)
    monkeypatch.setattr(limits.storage.redis.time, "time", later(16 * 60))
    assert signs_in(lena, PASSWORD)


def test_a_right_password_clears_what_was_mistyped_before(lena: User) -> None:
    for _ in range(3):
        for _ in range(9):
            assert not signs_in(lena, "wrong")
        assert signs_in(lena, PASSWORD)


def test_a_new_password_by_mail_ends_the_wait(lena: User) -> None:
    for _ in range(10):
        assert not signs_in(lena, "wrong")
    ask(lena.email)
    resets.send_due()
    choose(link())
    assert signs_in(lena, NEW)


def test_without_its_counters_nobody_signs_in_and_the_page_says_so(
    lena: User, settings: Any, tmp_path: Path
) -> None:
    settings.REDIS_URL = f"redis+socket://{tmp_path}/nobody"
    given = {"username": lena.email, "password": PASSWORD}
    assert "people.pace_unknown" in Client().post(reverse("sign-in"), given).content.decode()
    answer = Client().post(reverse("password-reset"), {"email": lena.email})
    assert answer.status_code == 503 and "people.pace_unknown" in answer.content.decode()


def test_redis_is_told_no_address_of_a_person_or_a_machine(lena: User, counters: Redis) -> None:
    signs_in(lena, "wrong")
    ask(lena.email)
    keys = b" ".join(counters.keys())
    assert counters.dbsize() == 5 and b"@" not in keys and b"127.0.0.1" not in keys


def test_wishes_are_forgotten_after_an_hour(lena: User) -> None:
    ask(lena.email)
    assert forget_expired()["reset_wishes"] == 0
    ResetWish.objects.update(at=timezone.now() - timedelta(minutes=61))
    assert forget_expired()["reset_wishes"] == 1
