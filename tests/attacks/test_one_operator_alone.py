"""Attacks on the rule of two people: an operator who is the second person as well, under another address."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from contracts.policy import SgxReference
from federation.attestation import reviews
from federation.attestation.models import Reference, Review, Root
from federation.people.models import User
from tests.federation.cast import PASSWORD
from tests.federation.conftest import audrey, olga, reference_values  # noqa: F401
from tests.frontend.conftest import redis_server, state_folder  # noqa: F401
from tests.frontend.page_reader import signed_in, text

pytestmark = pytest.mark.django_db
OWN = "olga.privately@mail.example"


@pytest.fixture
def review(olga: User, reference_values: None) -> Review:  # noqa: F811
    """A measurement of her own that the operator would like to be accepted everywhere."""
    value = SgxReference(program="client_slice", mrenclave="e" * 64)
    return reviews.propose(olga, value, root=Root.DEVELOPMENT, reason="release 2")


def invited(by: Client, email: str, role: str = "auditor") -> Client:
    """Through the pages, by the link in the mail."""
    by.post(reverse("person-invite"), {"email": email, "role": role})
    link = re.search(r"/invitations/\S+/", mail.outbox[-1].body)
    assert link is not None and mail.outbox[-1].to == [email]
    comes = Client()
    comes.post(link[0], {"first_name": "O", "last_name": "P", "password": PASSWORD})
    return comes


def votes(review: Review, *people: Client) -> bool:
    """Whether the measurement is in force once they have all said yes."""
    for person in people:
        person.post(reverse("review-vote", args=[review.pk, "approve"]), {"note": "rebuilt"})
    return Reference.objects.filter(measurement="e" * 64).exists()


def confirm(by: Client, email: str) -> None:
    user = User.objects.get(email=email)
    by.post(reverse("person-change", args=[user.pk, "confirm-auditor"]), {"confirm": email})


def test_an_operator_who_invites_their_other_address_as_an_auditor_stays_one_person(
    review: Review,
    olga: User,  # noqa: F811
    audrey: User,  # noqa: F811
) -> None:
    operator = signed_in(olga)
    other_self = invited(operator, OWN)
    assert not votes(review, operator, other_self)
    page = text(other_self, reverse("review", args=[review.pk]))
    for person in (operator, other_self):
        confirm(person, OWN)
    assert not votes(review, other_self)
    assert "Confirm olga.privately" in text(signed_in(audrey), "/") and "release 2" in page
    confirm(signed_in(audrey), OWN)
    assert votes(review, other_self)  # now that somebody else knows whom they have let in


def test_nor_does_it_help_to_give_the_role_or_to_take_it_from_every_auditor(
    review: Review,
    olga: User,  # noqa: F811
    audrey: User,  # noqa: F811
) -> None:
    operator = signed_in(olga)
    other_self = invited(operator, OWN, "lead")
    own = User.objects.get(email=OWN)
    operator.post(reverse("person-change", args=[audrey.pk, "role"]), {"role": "lead"})
    operator.post(reverse("person-change", args=[audrey.pk, "close"]), {"confirm": audrey.email})
    operator.post(reverse("person-change", args=[own.pk, "role"]), {"role": "auditor"})
    assert User.objects.get(pk=own.pk).role == "auditor"
    assert not votes(review, operator, other_self)
    page = text(other_self, reverse("person", args=[own.pk]))
    assert "Not confirmed as an auditor" in page and "confirm_auditor" in page


def test_an_auditor_whom_nobody_has_confirmed_rejects_nothing_and_confirms_nobody(
    review: Review,
    olga: User,  # noqa: F811
    audrey: User,  # noqa: F811
) -> None:
    operator = signed_in(olga)
    other_self = invited(operator, OWN)
    third = "olga.thrice@mail.example"
    invited(operator, third)
    confirm(other_self, third)
    other_self.post(reverse("review-vote", args=[review.pk, "reject"]))
    assert User.objects.get(email=third).auditor_confirmed_at is None
    assert Review.objects.get(pk=review.pk).state == "open"


def test_the_first_auditor_of_an_installation_counts_and_later_ones_can_be_confirmed_at_the_console(
    review: Review,
    olga: User,  # noqa: F811
    capsys: Any,
) -> None:
    operator = signed_in(olga)
    first = invited(operator, "audrey@authority.example")
    second = invited(operator, "aaron@authority.example")
    assert not votes(review, operator, second)
    with pytest.raises(CommandError, match="no account with this address"):
        call_command("confirm_auditor", olga.email)
    call_command("confirm_auditor", "Aaron@authority.example")
    assert "counts as an auditor's" in capsys.readouterr().out
    assert votes(review, second) and "Aaron" not in text(first, "/")
