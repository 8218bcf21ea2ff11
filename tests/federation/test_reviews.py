"""A changed measurement: reviewed by two people, and until then only who runs it is quarantined."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from contracts.manifest import parse
from contracts.policy import SgxReference
from contracts.refusal import Refusal
from enclave_jobs.runs.models import Run
from enclave_jobs.runs.services import launch
from federation.attestation import appraisals, gate, references, reviews
from federation.attestation.models import LogEntry, Reference, Review, ReviewVote, Root
from federation.people.models import Role, User
from federation.studies.models import Study
from tests.federation.cast import Hospital, make_person
from tests.federation.development import MEASUREMENTS, DevelopmentHost, expected, make_platform

OLD = SgxReference(program="client_slice", mrenclave=MEASUREMENTS["client_slice"])
NEW = SgxReference(program="client_slice", mrenclave="e" * 64)
DEVELOPMENT = {"root": Root.DEVELOPMENT, "reason": "release 2"}


def code(action: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        action()
    return refusal.value.code


def held() -> set[str]:
    return {row.measurement for row in references.in_force(Root.DEVELOPMENT, ("client_slice",))}


@pytest.fixture
def run(ready: Study, lena: User) -> Run:
    return launch(lena, ready)


@pytest.fixture
def host(settings: Any, tmp_path: Path) -> DevelopmentHost:
    return make_platform(settings, tmp_path)


@pytest.fixture
def review(olga: User, reference_values: None) -> Review:
    return reviews.propose(olga, NEW, **DEVELOPMENT, source_commit="c0ffee")


class TestTwoPeople:
    def test_it_counts_once_an_operator_and_an_auditor_have_approved(
        self, review: Review, olga: User, audrey: User
    ) -> None:
        assert held() == {OLD.mrenclave}
        reviews.vote(olga, review, approves=True)
        assert held() == {OLD.mrenclave}
        reviews.vote(audrey, review, approves=True, note="compared with the build")
        assert held() == {OLD.mrenclave, NEW.mrenclave}
        row = Reference.objects.get(measurement=NEW.mrenclave)
        assert (row.added_by, row.source_commit) == (f"{olga.email} + {audrey.email}", "c0ffee")
        kinds = list(LogEntry.objects.order_by("index").values_list("kind", flat=True))
        assert kinds[-5:] == [
            "review.opened", "review.approval", "review.approval", "review.approved", "reference.added",
        ]  # fmt: skip

    def test_nobody_approves_twice(self, review: Review, audrey: User) -> None:
        reviews.vote(audrey, review, approves=True)
        assert code(lambda: reviews.vote(audrey, review, approves=True)) == "review.voted"
        assert held() == {OLD.mrenclave}

    def test_two_operators_are_not_enough(self, review: Review, olga: User) -> None:
        other = make_person("otto@coordinator.example", Role.OPERATOR)
        reviews.vote(olga, review, approves=True)
        assert code(lambda: reviews.vote(other, review, approves=True)) == "review.needs_auditor"
        assert held() == {OLD.mrenclave} and ReviewVote.objects.count() == 1

    @pytest.mark.parametrize("who", ["lena", "alice"])
    def test_leads_and_site_admins_have_no_say(self, review: Review, who: str, request: Any) -> None:
        person = request.getfixturevalue(who)
        assert code(lambda: reviews.vote(person, review, approves=True)) == "auth.forbidden"
        assert code(lambda: reviews.propose(person, NEW, **DEVELOPMENT)) == "auth.forbidden"

    def test_one_rejection_ends_it(self, review: Review, olga: User, audrey: User) -> None:
        reviews.vote(olga, review, approves=True)
        reviews.vote(audrey, review, approves=False, note="not reproducible")
        assert code(lambda: reviews.vote(olga, review, approves=True)) == "review.closed"
        assert held() == {OLD.mrenclave}

    def test_no_person_puts_a_changed_measurement_in_force_alone(self, olga: User, review: Review) -> None:
        assert code(lambda: references.add(olga, NEW, **DEVELOPMENT)) == "reference.needs_review"
        # Not by suspending the old value first, either.
        for row in references.in_force(Root.DEVELOPMENT, ("client_slice",)):
            references.suspend(olga, row, "to make room")
        assert code(lambda: references.add(olga, NEW, **DEVELOPMENT)) == "reference.needs_review"
        assert code(lambda: references.add(olga, OLD, **DEVELOPMENT)) == "reference.needs_review"

    def test_the_command_line_does_not_either_where_it_is_about_hardware(self, db: None) -> None:
        references.add(None, OLD, root=Root.INTEL, reason="release 1")
        code_found = code(lambda: references.add(None, NEW, root=Root.INTEL, reason="release 2"))
        assert code_found == "reference.needs_review"

    def test_the_same_measurement_is_not_reviewed_twice_at_once(self, review: Review, olga: User) -> None:
        assert code(lambda: reviews.propose(olga, NEW, **DEVELOPMENT)) == "review.open"
        assert code(lambda: reviews.propose(olga, OLD, **DEVELOPMENT)) == "reference.duplicate"


class TestQuarantine:
    def show(self, host: DevelopmentHost, run: Run, site: Any, measurement: str | None) -> Any:
        evidence = host.evidence(run, measurement=measurement)
        return appraisals.judge(
            evidence, run=run, expected=expected(evidence), at=int(time.time()), site=site
        )

    def test_a_site_that_shows_a_new_measurement_is_quarantined_and_the_others_are_not(
        self, host: DevelopmentHost, run: Run, anna: Hospital, barbara: Hospital
    ) -> None:
        assert self.show(host, run, anna.site, NEW.mrenclave).code == "attest.measurement"
        assert self.show(host, run, barbara.site, None).verdict == "accepted"
        (review,) = reviews.quarantines(anna.site)
        assert (review.measurement, review.replaced) == (NEW.mrenclave, [OLD.mrenclave])
        assert reviews.quarantines(barbara.site) == []
        assert [study.pk for study in reviews.touched_studies(review)] == [run.study_id]
        check = reviews.require_not_quarantined
        assert code(lambda: check("development", "client_slice", NEW.mrenclave)) == "reference.under_review"
        check("development", "client_slice", OLD.mrenclave)

    def test_approval_lifts_it_and_rejection_keeps_it(
        self, host: DevelopmentHost, run: Run, anna: Hospital, olga: User, audrey: User
    ) -> None:
        self.show(host, run, anna.site, NEW.mrenclave)
        self.show(host, run, anna.site, "d" * 64)
        approved, rejected = sorted(reviews.quarantines(anna.site), key=lambda r: -int(r.measurement, 16))
        for person in (olga, audrey):
            reviews.vote(person, approved, approves=True)
        reviews.vote(olga, rejected, approves=False)
        assert reviews.quarantines(anna.site) == [rejected]
        check = reviews.require_not_quarantined
        check("development", "client_slice", NEW.mrenclave)
        assert code(lambda: check("development", "client_slice", "d" * 64)) == "reference.rejected"
        # A rejected measurement that is shown again opens no second review.
        self.show(host, run, anna.site, "d" * 64)
        assert Review.objects.count() == 2

    def test_evidence_that_is_not_genuine_opens_no_review(
        self, host: DevelopmentHost, run: Run, anna: Hospital
    ) -> None:
        evidence = host.evidence(run, measurement=NEW.mrenclave)
        broken = bytearray(evidence.quote)
        broken[200] ^= 1
        evidence = type(evidence)(bytes(broken), evidence.collateral, evidence.claims)
        verdict = appraisals.judge(
            evidence, run=run, expected=expected(evidence), at=int(time.time()), site=anna.site
        )
        assert verdict.verdict == "refused" and not Review.objects.exists()

    def test_one_site_cannot_flood_the_list(self, host: DevelopmentHost, run: Run, anna: Hospital) -> None:
        for number in range(10, 20):
            self.show(host, run, anna.site, f"{number:064x}")
        assert Review.objects.count() == reviews.MAX_OPEN_PER_SITE

    def test_who_puts_forward_what_a_site_has_shown_gives_it_a_reason_and_keeps_the_site_in_it(
        self, host: DevelopmentHost, run: Run, anna: Hospital, olga: User, audrey: User
    ) -> None:
        self.show(host, run, anna.site, NEW.mrenclave)
        (shown,) = reviews.quarantines(anna.site)
        reviews.vote(audrey, shown, approves=True)
        proposed = reviews.propose(olga, NEW, **DEVELOPMENT)
        assert proposed == shown and proposed.reason == "release 2"
        assert not proposed.votes.exists(), "a vote on something without a reason counts no more"

    def test_the_log_says_which_sites_it_is_about(
        self, host: DevelopmentHost, run: Run, anna: Hospital
    ) -> None:
        self.show(host, run, anna.site, NEW.mrenclave)
        entry = LogEntry.objects.get(kind="review.opened")
        assert json.loads(entry.data)["body"]["sites"] == [anna.site.pk]
        assert [row.site_id for row in entry.mentions.all()] == [anna.site.pk]


class TestSuspension:
    def test_it_stops_the_use_at_the_next_release(self, run: Run, olga: User) -> None:
        policy = parse(run.manifest.encode()).policy
        gate.require_in_force(policy)
        references.suspend(olga, Reference.objects.get(program="aggregator"), "a bug")
        with pytest.raises(Refusal, match=r"reference\.lapsed") as refusal:
            gate.require_in_force(policy)
        assert refusal.value.facts["program"] == "aggregator"
