"""The log forgets nothing, so what the law may want erased must never get there: whatever people write in the
course of a study is looked for in every entry."""

from __future__ import annotations

from typing import Any

from contracts.policy import SgxReference
from federation.attestation import log, references, reviews
from federation.attestation.models import LogEntry, Review, Root
from federation.people import services as people_services
from federation.people.models import Role, User
from federation.sites import services as sites
from federation.sites.models import Site
from tests.frontend.conftest import *  # noqa: F403

WRITTEN = "Dr. Miriam Weiss (miriam.weiss@hospital.example) asked for this on the phone"


def test_no_name_address_or_free_text_of_a_person_enters_the_log(
    world: dict[str, Any], people: dict[str, User]
) -> None:
    olga, audrey = people["olga"], people["audrey"]
    User.objects.update(first_name="Miriam", last_name="Weiss")
    people_services.invite(olga, "miriam.weiss@hospital.example", Role.LEAD)
    value = SgxReference(program="aggregator", mrenclave="c" * 64)
    row = references.add(None, value, root=Root.INTEL, reason=WRITTEN)
    references.suspend(olga, row, WRITTEN)
    review = reviews.propose(
        olga, SgxReference(program="client_slice", mrenclave="d" * 64), root=Root.DEVELOPMENT, reason=WRITTEN
    )
    reviews.vote(audrey, review, approves=True, note=WRITTEN)
    for other in Review.objects.exclude(pk=review.pk):
        reviews.vote(audrey, other, approves=False, note=WRITTEN)
    sites.suspend(olga, Site.objects.get(name="St. Barbara"), WRITTEN)
    entries = "".join(LogEntry.objects.values_list("data", flat=True))
    assert {
        "reference.suspended",
        "review.opened",
        "review.approval",
        "review.rejection",
        "appraisal",
    } <= set(LogEntry.objects.values_list("kind", flat=True))
    personal = {WRITTEN, "Miriam", "Weiss", *User.objects.values_list("email", flat=True)}
    assert [word for word in personal if word in entries] == []
    assert f"user:{olga.pk}" in entries and log.text_hash(WRITTEN) in entries


def test_an_account_that_is_erased_leaves_an_id_in_the_log_that_names_nobody(olga: User) -> None:
    value = SgxReference(program="aggregator", mrenclave="c" * 64)
    references.add(olga, value, root=Root.DEVELOPMENT, reason=WRITTEN)
    kept, pk = LogEntry.objects.get().data, olga.pk
    assert f'"by":"user:{pk}"' in kept
    olga.delete()
    assert LogEntry.objects.get().data == kept
    assert log.person_id("olga@coordinator.example") == "user:gone"
