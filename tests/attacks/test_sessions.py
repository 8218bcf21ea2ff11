"""Attacks on who is signed in: a screen that was left, a session that never ends, and a page that is still
there after signing out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from federation.people.models import User
from frontend.urls import urlpatterns
from tests.frontend.conftest import *  # noqa: F403
from tests.frontend.test_page_permissions import TABLE, address_of

PAGE = {"HTTP_ACCEPT": "text/html,application/xhtml+xml", "HTTP_SEC_FETCH_MODE": "navigate"}
POLL = {"HTTP_HX_REQUEST": "true", "HTTP_ACCEPT": "*/*", "HTTP_SEC_FETCH_MODE": "cors"}


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move what sessions take for the time by so many minutes."""
    now = [0.0]
    real = time.time
    monkeypatch.setattr("federation.people.sessions.time.time", lambda: real() + now[0])

    def move(minutes: float) -> None:
        now[0] += minutes * 60

    return move


def test_polling_does_not_keep_an_idle_operator_signed_in(
    world: dict[str, Any], people: dict[str, User], clock: Callable[[float], None]
) -> None:
    client = signed_in(people["olga"])
    live = reverse("run-live", args=[world["run_id"]])
    there = f"http://testserver/runs/{world['run_id']}?of=1"
    for _ in range(29):
        clock(1)
        assert "HX-Redirect" not in client.get(live, HTTP_HX_CURRENT_URL=there, **POLL).headers
        curves = reverse("run-curves", args=[world["run_id"]])
        client.get(curves, HTTP_ACCEPT="application/json", HTTP_SEC_FETCH_MODE="cors")
    clock(1)
    ended = client.get(live, HTTP_HX_CURRENT_URL=there, **POLL)
    # The whole page goes to sign in, and comes back to where it was.
    assert ended.headers["HX-Redirect"] == f"/sign-in?next=/runs/{world['run_id']}%3Fof%3D1"
    page = client.get(ended.headers["HX-Redirect"]).content.decode()
    assert "nothing was done here for half an hour" in page


@pytest.mark.parametrize(("name", "minutes"), [("olga", 29), ("audrey", 29), ("lena", 120), ("alice", 120)])
def test_who_does_something_stays_signed_in_and_twelve_hours_end_it(
    people: dict[str, User], name: str, minutes: int, clock: Callable[[float], None]
) -> None:
    client, home, spent = signed_in(people[name]), reverse("home"), 0
    while spent + minutes < 12 * 60:
        clock(minutes)
        spent += minutes
        assert client.get(home, **PAGE).status_code == 200
    clock(minutes)
    assert client.get(home, **PAGE).status_code == 302


def test_a_session_without_its_times_is_none(people: dict[str, User]) -> None:
    client = signed_in(people["lena"])
    session = client.session
    del session["signed_in_at"]
    session.save()
    assert client.get(reverse("home")).status_code == 302


def test_every_page_and_file_behind_sign_in_is_kept_by_nobody(
    world: dict[str, Any], people: dict[str, User]
) -> None:
    client, kept = signed_in(people["olga"]), []
    for name, (method, _expected) in TABLE.items():
        answer = client.generic(method, address_of(name, world))
        if "no-store" not in answer.headers.get("Cache-Control", ""):
            kept.append(name)
    assert kept == []


def test_a_form_that_comes_too_late_is_shown_and_not_lost(people: dict[str, User], clock: Any) -> None:
    client = signed_in(people["olga"])
    clock(31)
    typed = {"email": "nora@hospital.example", "role": "lead", "password": "a secret of mine"}
    there = "http://testserver/people/invite"
    late = client.post(reverse("person-invite"), typed, HTTP_REFERER=there, HTTP_SEC_FETCH_SITE="same-origin")
    page = late.content.decode()
    assert late.status_code == 401 and "You are signed out" in page
    assert "nora@hospital.example" in page and "a secret of mine" not in page
    assert 'href="/sign-in?next=/people/invite"' in page
    # Another site that sends a form in somebody's name cannot put words onto our page.
    foreign = client.post(reverse("person-invite"), typed, HTTP_SEC_FETCH_SITE="cross-site")
    assert "nora@hospital.example" not in foreign.content.decode()


OPEN = {"sign-in", "sign-in-code", "sign-out", "invitation", "password-reset",
        "password-reset-sent", "password-reset-choose", "second-factor", "install",
        "install-file"}  # fmt: skip


@pytest.mark.parametrize("name", ["olga", "audrey"])
def test_an_operator_or_auditor_without_a_second_factor_reaches_no_page(
    world: dict[str, Any], people: dict[str, User], settings: Any, name: str
) -> None:
    settings.SECOND_FACTOR_ROLES = ["operator", "auditor"]
    client, reached = signed_in(people[name]), []
    for pattern in urlpatterns:
        if pattern.name in OPEN:
            continue
        for method in ("GET", "POST"):
            answer = client.generic(method, address_of(str(pattern.name), world))
            if answer.status_code != 302 or answer.headers["Location"] != reverse("second-factor"):
                reached.append((method, pattern.name, answer.status_code))
    assert reached == []
    poll = client.get(reverse("run-live", args=[world["run_id"]]), **POLL)
    assert poll.headers["HX-Redirect"] == reverse("second-factor")


def test_the_second_factor_is_demanded_unless_somebody_says_none(tmp_path: Path) -> None:
    said = []
    for value in (None, "none", "operator", "janitor"):
        environment = {**os.environ, "FEDSLICE_STATE": str(tmp_path)}
        environment.pop("FEDSLICE_SECOND_FACTOR")
        if value is not None:
            environment["FEDSLICE_SECOND_FACTOR"] = value
        done = subprocess.run(
            [sys.executable, "-c", "from federation import settings; print(settings.SECOND_FACTOR_ROLES)"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        said.append(done.stdout.strip() or done.stderr.splitlines()[-1])
    assert said[:3] == ["['operator', 'auditor']", "[]", "['operator']"]
    assert re.search("no role is called janitor", said[3])
