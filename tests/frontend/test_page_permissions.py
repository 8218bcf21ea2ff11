"""Every address of the pages × every person: a new address without a row here fails.

Olga operates, Lena leads the study, Ludo another; Alice is the admin of a member site, Carol of another site;
Audrey audits. 404 where even the existence is not theirs to know, 403 where only the action is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

from django.db import transaction
from django.test import Client
from django.urls import reverse
from redis import Redis

from federation.people.models import User
from frontend.urls import urlpatterns

ALL = {"olga": 200, "lena": 200, "ludo": 200, "alice": 200, "carol": 200, "audrey": 200}
SITE = {**ALL, "carol": 404}
MOVED = {"olga": 302, "lena": 302, "ludo": 404, "alice": 302, "carol": 404, "audrey": 302}
"""Of a study's older addresses: its room has all of them."""
STUDY = {"olga": 200, "lena": 200, "ludo": 404, "alice": 200, "carol": 404, "audrey": 200}
# A POST that may be made answers with a redirect, whether or not the action was possible in this state.
LEAD_ACTS = {"olga": 302, "lena": 302, "ludo": 404, "alice": 302, "carol": 404, "audrey": 302}
# The wizard is the lead's; once its study is frozen it sends them back to the study's page.
EDITS = {"olga": 403, "lena": 302, "ludo": 404, "alice": 403, "carol": 404, "audrey": 403}
DRAFTS = {**EDITS, "lena": 200}
MODELS = {**ALL, "alice": 403, "carol": 403}
SWEEPS = {"olga": 200, "lena": 200, "ludo": 404, "alice": 404, "carol": 404, "audrey": 200}

TABLE: dict[str, tuple[str, dict[str, int]]] = {
    "home": ("GET", ALL),
    "search": ("GET", ALL),
    "news": ("GET", ALL),
    "news-read": ("POST", dict.fromkeys(ALL, 302)),
    # Nobody's news are another's; this one is Lena's.
    "news-open": ("POST", {**dict.fromkeys(ALL, 404), "lena": 302}),
    "people": ("GET", {"olga": 200, "lena": 403, "ludo": 403, "alice": 403, "carol": 403, "audrey": 200}),
    "person-invite": (
        "GET",
        {"olga": 200, "lena": 403, "ludo": 403, "alice": 403, "carol": 403, "audrey": 403},
    ),
    "person": ("GET", {**dict.fromkeys(ALL, 403), "olga": 200, "audrey": 200}),
    "person-change": ("POST", {**dict.fromkeys(ALL, 403), "olga": 302, "audrey": 302}),
    # Invitations are the operator's, and whoever's sent them: the others have sent none.
    "person-invitation": ("POST", {**dict.fromkeys(ALL, 404), "olga": 302}),
    "account": ("GET", ALL),
    "password": ("GET", ALL),
    "second-factor": ("GET", ALL),
    "second-factor-codes": ("GET", ALL),
    "second-factor-off": ("GET", ALL),
    "sites": ("GET", ALL),
    "site-invite": (
        "GET",
        {"olga": 200, "lena": 200, "ludo": 200, "alice": 403, "carol": 403, "audrey": 403},
    ),
    "site": ("GET", SITE),
    "site-status": ("GET", SITE),
    # What the agent found names machines of the hospital: not for leads.
    "site-connection": ("GET", {**SITE, "lena": 403, "ludo": 403}),
    "site-checks": ("GET", {**SITE, "lena": 403, "ludo": 403}),
    "site-check": (
        "POST",
        {"olga": 302, "lena": 403, "ludo": 403, "alice": 302, "carol": 404, "audrey": 302},
    ),
    "site-receipts": ("GET", SITE),
    "site-receipts-of-run": ("GET", MOVED),
    "site-evidence": ("GET", SITE),
    # Who belongs to a hospital is nothing for leads.
    "site-people": ("GET", {**SITE, "lena": 403, "ludo": 403}),
    # The person is Lena, who belongs to no hospital.
    "site-person": ("POST", {**dict.fromkeys(ALL, 404), "lena": 403, "ludo": 403}),
    "site-maintenance": ("GET", SITE),
    "site-maintenance-remove": ("POST", {**dict.fromkeys(ALL, 302), "carol": 404}),
    "site-enrolment": (
        "POST",
        {"olga": 409, "lena": 409, "ludo": 409, "alice": 409, "carol": 404, "audrey": 409},
    ),
    "site-approval-key": (
        "POST",
        {"olga": 409, "lena": 409, "ludo": 409, "alice": 302, "carol": 404, "audrey": 409},
    ),
    "site-transition": (
        "POST",
        {"olga": 302, "lena": 302, "ludo": 302, "alice": 302, "carol": 404, "audrey": 302},
    ),
    "datasets": ("GET", ALL),
    "dataset": ("GET", SITE),
    "dataset-describe": ("GET", {**dict.fromkeys(ALL, 403), "alice": 200, "carol": 404}),
    "models": ("GET", MODELS),
    "model": ("GET", MODELS),
    "model-jobs": ("GET", MODELS),
    "model-new": ("GET", {**dict.fromkeys(ALL, 403), "olga": 200}),
    "studies": ("GET", ALL),
    "study-new": ("GET", {"olga": 403, "lena": 200, "ludo": 200, "alice": 403, "carol": 403, "audrey": 403}),
    "study": ("GET", STUDY),
    "study-step": ("GET", EDITS),
    "study-costs": ("GET", DRAFTS),
    "study-labels": ("GET", DRAFTS),
    "study-advice": ("GET", DRAFTS),
    "study-clone": ("POST", LEAD_ACTS),
    "study-edit": ("GET", {"olga": 403, "lena": 302, "ludo": 404, "alice": 403, "carol": 404, "audrey": 403}),
    "study-approval": ("GET", MOVED),
    "study-approvals": ("GET", STUDY),
    "study-check": ("GET", STUDY),
    "study-thread": ("GET", MOVED),
    # A message of the lead's, which only they erase: for others nothing is done, and they hear so.
    "study-thread-erase": ("POST", LEAD_ACTS),
    "study-freeze": ("POST", LEAD_ACTS),
    "study-reopen": ("POST", LEAD_ACTS),
    "study-approve": ("POST", LEAD_ACTS),
    "study-launch": ("POST", LEAD_ACTS),
    "study-cancel": ("POST", LEAD_ACTS),
    "runs": ("GET", ALL),
    "run": ("GET", STUDY),
    # The lead's alone: to others who see the run it says so, and changes nothing.
    "run-notes": ("POST", {who: {200: 422}.get(seen, seen) for who, seen in STUDY.items()} | {"lena": 302}),
    "run-live": ("GET", STUDY),
    "run-history": ("GET", STUDY),
    "run-curves": ("GET", STUDY),
    "account-mails": ("POST", dict.fromkeys(ALL, 302)),
    "account-profile": ("GET", ALL),
    "account-steps": ("POST", dict.fromkeys(ALL, 302)),
    "sweeps": ("GET", ALL),
    "sweep-new": ("GET", {**EDITS, "lena": 200}),
    "sweep": ("GET", SWEEPS),
    "sweep-csv": ("GET", SWEEPS),
    "sweep-thread": ("GET", {who: 302 if seen == 200 else seen for who, seen in SWEEPS.items()}),
    "sweep-approve": ("POST", {who: 302 if seen == 200 else seen for who, seen in SWEEPS.items()}),
    # An operator gets a message that it is the lead's; nothing is done.
    "sweep-freeze": ("POST", {who: 302 if seen == 200 else seen for who, seen in SWEEPS.items()}),
    "sweep-launch": ("POST", {who: 302 if seen == 200 else seen for who, seen in SWEEPS.items()}),
    "run-steer": ("POST", LEAD_ACTS),
    "run-csv": ("GET", STUDY),
    "compare": ("GET", ALL),
    "compare-data": ("GET", ALL),
    "compare-csv": ("GET", ALL),
    "run-serving": ("GET", STUDY),
    "run-serving-switch": ("POST", LEAD_ACTS),
    "run-release": ("GET", {who: 286 if seen == 200 else seen for who, seen in STUDY.items()}),
    "run-release-ask": ("POST", LEAD_ACTS),
    "run-release-download": ("POST", LEAD_ACTS),
    "run-release-start": ("POST", LEAD_ACTS),
    "adapters": (
        "GET",
        {"olga": 403, "lena": 200, "ludo": 200, "alice": 403, "carol": 403, "audrey": 403},
    ),
    "log": ("GET", {**ALL, "alice": 403, "carol": 403}),
    # The entry is an appraisal in Lena's study; its quote is the auditor's alone.
    "log-entry": ("GET", {**ALL, "ludo": 404, "alice": 403, "carol": 403}),
    "log-raw": (
        "GET",
        {"olga": 403, "lena": 403, "ludo": 404, "alice": 403, "carol": 403, "audrey": 200},
    ),
    "log-export": (
        "POST",
        {"olga": 403, "lena": 403, "ludo": 403, "alice": 403, "carol": 403, "audrey": 200},
    ),
    "log-check": (
        "GET",
        {"olga": 403, "lena": 403, "ludo": 403, "alice": 403, "carol": 403, "audrey": 200},
    ),
    "references": ("GET", ALL),
    "reference-new": (
        "GET",
        {"olga": 200, "lena": 403, "ludo": 403, "alice": 403, "carol": 403, "audrey": 403},
    ),
    "reference-suspend": (
        "POST",
        {"olga": 302, "lena": 403, "ludo": 403, "alice": 403, "carol": 403, "audrey": 403},
    ),
    # A review names hospitals: a site admin sees those that their own is in.
    "review": ("GET", SITE),
    "review-vote": (
        "POST",
        {"olga": 302, "lena": 403, "ludo": 403, "alice": 403, "carol": 403, "audrey": 302},
    ),
    "operations": ("GET", {**dict.fromkeys(ALL, 403), "olga": 200}),
    "operations-workers": ("GET", {**dict.fromkeys(ALL, 403), "olga": 200}),
    "operations-kept": ("GET", {**dict.fromkeys(ALL, 403), "olga": 200}),
    "audit": ("GET", {**ALL, "lena": 403, "ludo": 403}),
    "collateral": (
        "GET",
        {"olga": 200, "lena": 403, "ludo": 403, "alice": 403, "carol": 403, "audrey": 200},
    ),
}
# Of Alice's colleagues at St. Anna only what differs from hers: Odile is its data protection officer, Igor
# its IT, Rita does research there.
COLLEAGUES: dict[str, dict[str, int]] = {
    "odile": {"site-approval-key": 409, "dataset-describe": 403},
    "igor": {"dataset-describe": 403},
    "rita": {"site-approval-key": 409},
}
# Anybody may open these: signing in and out, the chooser of a language, a link that is itself the permission,
# what an agent is made of.
PUBLIC = {
    "sign-in", "sign-in-code", "sign-out", "invitation", "password-reset", "password-reset-sent",
    "password-reset-choose", "install", "install-file", "language", "help", "help-role",
}  # fmt: skip


def test_every_address_of_the_pages_has_a_row() -> None:
    assert {pattern.name for pattern in urlpatterns} == set(TABLE) | PUBLIC


def address_of(name: str, world: dict[str, Any]) -> str:
    """The path of a page, about the things of `world`."""
    pattern = next(p for p in urlpatterns if p.name == name)
    wanted = pattern.pattern.converters  # type: ignore[union-attr]
    given = {
        **world,
        "action": "close",
        "step": "renew",
        "move": "suspend",
        "token": "none",
        "word": "approve",
        "window_id": 1,
        "stage": "tuning",
        "verb": "pause",
        "role": "lead",
    }
    return reverse(name, kwargs={key: given[key] for key in wanted})


@contextmanager
def undone() -> Iterator[None]:
    """What is done in here is taken back: one world, which is long in the making, serves for every page."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_pages_open_for_whom_they_are_meant(
    world: dict[str, Any], people: dict[str, User], counters: Redis
) -> None:
    opened: dict[str, dict[str, int]] = {}
    for name, (method, _) in TABLE.items():
        opened[name] = {}
        for who, person in people.items():
            client = Client(raise_request_exception=False)
            with undone():
                client.force_login(person)
                opened[name][who] = getattr(client, method.lower())(address_of(name, world)).status_code
        counters.flushall()
    wanted = {name: expected for name, (_, expected) in TABLE.items()}
    assert opened == wanted


def test_colleagues_at_a_hospital_open_what_its_admin_opens_but_what_is_not_their_post(
    world: dict[str, Any], colleagues: dict[str, User], counters: Redis
) -> None:
    opened: dict[str, dict[str, int]] = {who: {} for who in COLLEAGUES}
    for name, (method, _) in TABLE.items():
        for who in COLLEAGUES:
            client = Client(raise_request_exception=False)
            with undone():
                client.force_login(colleagues[who])
                status = getattr(client, method.lower())(address_of(name, world)).status_code
                opened[who][name] = status
        counters.flushall()
    alices = {name: statuses["alice"] for name, (_, statuses) in TABLE.items()}
    assert opened == {who: {**alices, **differs} for who, differs in COLLEAGUES.items()}


def test_whoever_is_signed_out_is_sent_to_sign_in(world: dict[str, Any]) -> None:
    for name, (method, _) in TABLE.items():
        response = getattr(Client(), method.lower())(address_of(name, world))
        if method == "GET":
            assert response.headers["Location"].startswith(reverse("sign-in")), name
        else:
            # A form is not thrown away: the page shows what was typed, and the way to sign in.
            assert response.status_code == 401, name
            assert f'href="{reverse("sign-in")}' in response.content.decode(), name


LEAD_ONLY = ("study-freeze", "study-reopen", "study-launch")


def test_only_its_lead_moves_a_study(world: dict[str, Any], people: dict[str, User]) -> None:
    from federation.studies.models import Study

    before = Study.objects.get(pk=world["study_id"]).state
    for name, who in product(LEAD_ONLY, ("olga", "alice", "audrey")):
        client = Client()
        client.force_login(people[who])
        response = client.post(reverse(name, args=[world["study_id"]]), follow=True)
        assert "auth.forbidden" in response.content.decode(), (name, who)
        assert Study.objects.get(pk=world["study_id"]).state == before, (name, who)
