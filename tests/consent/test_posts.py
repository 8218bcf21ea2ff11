"""Several people at a hospital: its officer decides, its IT runs the agent, its researchers read and ask."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from contracts.refusal import Refusal
from federation.datasets import permissions as datasets
from federation.notices import services as notices
from federation.people import posts, services
from federation.people.models import Invitation, Post, Role, User
from federation.sites import permissions as sites
from federation.sites.models import SiteState
from federation.studies import permissions as studies
from federation.studies import services as study_services
from federation.studies.events import note
from federation.studies.models import Study
from federation.threads import services as threads
from tests.federation.cast import PASSWORD, Hospital, make_dataset, make_person

WHO = ("odile", "igor", "rita")


@pytest.fixture
def there(anna: Hospital, alice: User) -> dict[str, User]:
    """St. Anna's people: its admin, data protection officer, IT, and a researcher."""
    made = zip(WHO, Post.values, strict=True)
    new = {
        who: make_person(f"{who}@anna.example", Role.SITE_ADMIN, anna.site, post=post) for who, post in made
    }
    return {"alice": alice, **new}


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_each_post_does_what_is_said_of_it_and_nothing_else(
    there: dict[str, User], frozen: Study, anna: Hospital, barbara: Hospital, olga: User
) -> None:
    own, other = make_dataset(anna.site, "own"), make_dataset(barbara.site, "other")
    done = {
        who: (
            studies.can_approve(user, frozen),
            sites.can_enrol(user, anna.site),
            sites.can_plan_maintenance(user, anna.site),
            sites.can_govern(user, anna.site, SiteState.SUSPENDED),
            sites.can_govern(user, anna.site, SiteState.REVOKED),
            datasets.can_describe(user, own),
            posts.may(user, "invite"),
        )
        for who, user in there.items()
    }
    assert done == {
        "alice": (True, True, True, True, True, True, True),
        "odile": (True, False, False, False, False, False, False),
        "igor": (False, True, True, True, False, False, False),
        "rita": (False, False, False, False, False, True, False),
    }
    for user in there.values():  # all of them at their own hospital alone
        assert not sites.can_enrol(user, barbara.site) and not datasets.can_describe(user, other)
        assert studies.can_see(user, frozen)
    assert not any(posts.may(olga, action) for action in posts.DOES)


def test_an_officers_yes_is_not_yet_binding_and_binds_when_the_key_signs(
    there: dict[str, User], frozen: Study, anna: Hospital, lena: User
) -> None:
    room, client = reverse("study", args=[frozen.pk]), client_of(there["odile"])
    assert "I have read it and approve" in client.get(room).content.decode()
    assert "I have read it and approve" not in client_of(there["igor"]).get(room).content.decode()
    lead = client_of(lena).get(room).content.decode()
    assert "odile@anna.example" in lead and "alice@anna.example" not in lead  # waits for the officer, by name
    for who in ("igor", "rita"):
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            study_services.approve_in_browser(there[who], frozen, frozen.manifest_hash)
    client.post(reverse("study-approve", args=[frozen.pk]), {"manifest_hash": frozen.manifest_hash})
    approval = frozen.approvals.get(site=anna.site)
    assert approval.browser_by == there["odile"] and approval.signature is None
    assert "not yet binding" in client.get(room).content.decode()
    study_services.sign_approval(anna.as_agent(), frozen.manifest_hash, anna.sign(frozen.manifest_hash))
    assert frozen.approvals.get(site=anna.site).signature is not None


@pytest.mark.parametrize("kind", ["changes", "decline"])
def test_all_may_ask_and_only_those_who_decide_wish_for_changes_or_decline(
    kind: str, there: dict[str, User], frozen: Study, anna: Hospital
) -> None:
    for who in there:
        said = threads.write(there[who], frozen, anna.site, "message", "Why 32 tokens?", frozen.manifest_hash)
        assert said.by == there[who]
    room = reverse("study", args=[frozen.pk])
    page = {who: client_of(there[who]).get(room).content.decode() for who in there}
    for who in ("igor", "rita"):
        assert f'value="{kind}"' not in page[who] and 'value="message"' in page[who]
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            threads.write(there[who], frozen, anna.site, kind, "No.", frozen.manifest_hash)
    assert f'value="{kind}"' in page["odile"]
    threads.write(there["odile"], frozen, anna.site, kind, "No.", frozen.manifest_hash)


def test_news_go_to_those_whose_post_they_concern(
    there: dict[str, User], ready: Study, barbara: Hospital
) -> None:
    notices.send_due()
    mail.outbox.clear()
    note(ready, "study.approving")
    notices.send_due()
    reported = {one.to[0].split("@")[0] for one in mail.outbox if one.to[0].endswith("@anna.example")}
    assert reported == {"alice", "odile"}


def test_an_admin_invites_an_officer_who_comes_as_one(
    there: dict[str, User], anna: Hospital, barbara: Hospital, lena: User
) -> None:
    address, client = reverse("site-people", args=[anna.site.pk]), client_of(there["alice"])
    client.post(address, {"email": "otto@anna.example", "post": "officer", "language": "en"})
    body = str(mail.outbox[-1].body)
    assert "data protection officer" in body and "release key" not in body
    assert "otto@anna.example" in client.get(address).content.decode()
    link = re.search(r"/invitations/\S+", body)
    assert link is not None
    Client().post(link[0], {"password": PASSWORD})
    otto = User.objects.get(email="otto@anna.example")
    assert (otto.role, otto.post, otto.site) == ("site_admin", "officer", anna.site)
    assert otto.get_role_display() == "data protection officer"
    for who in ("odile", "igor", "rita"):
        form = {"email": "x@anna.example", "post": "it", "language": "en"}
        assert client_of(there[who]).get(address).status_code == 200
        assert client_of(there[who]).post(address, form).status_code == 403
    other = reverse("site-people", args=[barbara.site.pk])
    assert client.get(other).status_code == 404 and client_of(lena).get(other).status_code == 403
    assert not Invitation.objects.filter(email="x@anna.example").exists()


@pytest.mark.parametrize(
    ("role", "post"), [("lead", "officer"), ("site_admin", "king"), ("site_admin", "officer")]
)
def test_a_post_is_given_at_a_hospital_that_is_there_alone(role: str, post: str, olga: User) -> None:
    with pytest.raises(Refusal, match=r"auth\.forbidden"):
        services.invite(olga, "x@y.example", role, post=post)
    assert not Invitation.objects.exists()


def test_the_database_knows_no_post_without_a_hospital(lena: User) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=lena.pk).update(post="officer")


def test_an_invitation_of_a_colleague_is_sent_again_and_taken_back_by_whoever_sent_it(
    there: dict[str, User], anna: Hospital, mailoutbox: list[Any]
) -> None:
    sent = services.invite(there["alice"], "new@anna.example", "site_admin", anna.site, post="it")
    address, page = (
        reverse("person-invitation", args=[sent.pk, "withdraw"]),
        reverse("site-people", args=[anna.site.pk]),
    )
    client_of(there["odile"]).post(address)
    assert Invitation.objects.filter(pk=sent.pk).exists()
    answer = client_of(there["alice"]).post(address, {"back": "colleagues"})
    assert answer.headers["Location"] == page and not Invitation.objects.filter(pk=sent.pk).exists()


def test_an_admin_changes_a_colleagues_post_and_closes_an_account_of_the_own_hospital_alone(
    there: dict[str, User], anna: Hospital, barbara: Hospital, bob: User, frozen: Study
) -> None:
    def act(who: User, whom: User, action: str, post: str = "") -> str:
        site = whom.site if whom.site is not None else anna.site
        answer = client_of(who).post(
            reverse("site-person", args=[site.pk, whom.pk, action]), {"post": post}, follow=True
        )
        whom.refresh_from_db()
        return f"{answer.status_code} {answer.content.decode()}"

    admin, rita = there["alice"], there["rita"]
    assert not studies.can_approve(rita, frozen)
    act(admin, rita, "post", "officer")
    assert rita.post == Post.OFFICER and studies.can_approve(rita, frozen)
    assert "[auth.forbidden]" in act(admin, rita, "post", "director")
    for who in (there["odile"], there["igor"]):
        for action in ("post", "close"):
            assert "[auth.forbidden]" in act(who, rita, action, "it")
    assert act(admin, bob, "close").startswith("404"), "another hospital's"
    with pytest.raises(Refusal, match=r"auth\.forbidden"):
        services.deactivate(admin, bob)
    for action in ("post", "close"):
        assert "[people.own_account]" in act(admin, admin, action, "it"), "a hospital keeps an admin"
    signed_in = client_of(rita)
    act(admin, rita, "close")
    assert not rita.is_active and signed_in.get(reverse("home")).status_code == 302
    assert "Open the account again" in act(admin, rita, "open", "") or rita.is_active
    assert rita.is_active and rita.post == Post.OFFICER
    page = client_of(admin).get(reverse("site-people", args=[anna.site.pk])).content.decode()
    assert page.count("Close the account") == 3, "all but one's own"
    assert (
        "Close the account"
        not in client_of(rita).get(reverse("site-people", args=[anna.site.pk])).content.decode()
    )


def test_of_two_admins_who_close_each_other_one_stays(there: dict[str, User]) -> None:
    """Each request was let in while its sender was an admin still."""
    admin, other = there["alice"], there["rita"]
    services.set_post(admin, other, "")
    late = User.objects.get(pk=other.pk)
    services.deactivate(admin, other)
    for act in (services.deactivate, services.reactivate, lambda by, user: services.set_post(by, user, "it")):
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            act(late, admin)
    services.reactivate(admin, other)
    services.set_post(admin, other, "it")
    with pytest.raises(Refusal, match=r"auth\.forbidden"):
        services.deactivate(late, admin)
    admin.refresh_from_db()
    assert admin.is_active and admin.post == ""


def test_what_an_operator_has_closed_no_hospital_opens_again(there: dict[str, User], olga: User) -> None:
    admin, rita = there["alice"], there["rita"]
    services.deactivate(admin, rita)
    services.reactivate(admin, rita)
    for close in (lambda: services.deactivate(olga, rita), lambda: services.close_at_console(rita.email)):
        close()
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            services.reactivate(admin, rita)
        services.reactivate(olga, rita)
    rita.refresh_from_db()
    assert rita.is_active
