"""Who has seen a number never accepts a lower one."""

import msgspec
import pytest

from attestation.floors import Floors
from attestation.policy_floors import require_floors
from contracts.policy import CollateralFloor
from contracts.refusal import Refusal
from tests.attest.workshop import AT


def collateral(workshop, *, info=20, qe=20, root_crl=5, pck_crl=9, **change):
    fields = workshop.document("tcb_info", lambda value: value.update(tcbEvaluationDataNumber=info, **change))
    fields = workshop.document(
        "qe_identity", lambda value: value.update(tcbEvaluationDataNumber=qe), base=fields
    )
    return fields | {
        "root_ca_crl": workshop.crl("root_ca_crl", number=root_crl),
        "pck_crl": workshop.crl("pck_crl", number=pck_crl),
    }


@pytest.fixture
def seen(workshop):
    return Floors().raised(workshop.appraise(collateral=collateral(workshop)))


@pytest.mark.parametrize(
    ("lower", "code"),
    [
        ({"info": 19}, "attest.tcb_evaluation_floor"),
        ({"qe": 19}, "attest.tcb_evaluation_floor"),
        ({"root_crl": 4}, "attest.crl_floor"),
        ({"pck_crl": 8}, "attest.crl_floor"),
    ],
)
def test_a_lower_number_than_seen_is_refused(workshop, seen, lower, code):
    older = collateral(workshop, **lower)
    assert workshop.code(collateral=older) is None
    assert workshop.code(collateral=older, floors=seen) == code


def test_the_same_and_higher_numbers_are_accepted(workshop, seen):
    assert workshop.code(collateral=collateral(workshop), floors=seen) is None
    higher = workshop.appraise(
        collateral=collateral(workshop, info=21, qe=22, root_crl=6, pck_crl=10), floors=seen
    )
    assert higher.verdict == "accepted"
    floor = seen.raised(higher).of(workshop.root_sha256, higher.fmspc, higher.ca)
    assert (floor.tcb_evaluation, floor.qe_evaluation) == (21, 22)
    assert (floor.root_ca_crl_number, floor.pck_crl_number) == (6, 10)


def test_floors_never_sink(workshop, seen):
    lower = workshop.appraise(collateral=collateral(workshop, info=1, qe=1, root_crl=1, pck_crl=1))
    assert lower.verdict == "accepted"
    assert seen.raised(lower) == seen


def test_a_crl_counts_for_all_platforms_of_its_authority_and_tcb_info_for_its_own(workshop, seen):
    fmspc, ca = seen.seen[0].fmspc, seen.seen[0].ca
    other = seen.of(workshop.root_sha256, "0" * 12, ca)
    assert (other.pck_crl_number, other.root_ca_crl_number, other.tcb_evaluation) == (9, 5, 0)
    processor = seen.of(workshop.root_sha256, fmspc, "processor")
    assert (processor.pck_crl_number, processor.root_ca_crl_number) == (0, 5)
    intel = seen.of("0" * 64, fmspc, ca)
    assert (intel.pck_crl_number, intel.root_ca_crl_number, intel.tcb_evaluation) == (0, 0, 0)


def test_evidence_that_shows_no_numbers_raises_nothing(workshop):
    refused = workshop.appraise(b"", at=AT)
    assert (refused.verdict, refused.fmspc) == ("refused", None)
    assert Floors().raised(refused) == Floors()


def test_floors_are_kept_as_json(seen):
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Floors) == seen


def named(seen, **changes):
    """A policy's floor that says what was seen."""
    floor = seen.seen[0]
    numbers = {name: getattr(floor, name) for name in CollateralFloor.__struct_fields__}
    return CollateralFloor(**(numbers | changes))


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity", "root_ca_crl", "pck_crl"])
def test_no_part_may_be_older_than_the_policy_says_whatever_was_seen(workshop, seen, name):
    field = f"{name}_issued"
    for issued, code in ((AT - 7200, None), (AT, "attest.issue_floor")):
        policy = workshop.policy(floors=(named(seen, **{field: issued}),))
        assert workshop.code(collateral=collateral(workshop), policy=policy) == code


def test_a_policys_numbers_are_where_whoever_judges_by_it_begins(workshop, seen):
    for field, code in (
        ("tcb_evaluation", "attest.tcb_evaluation_floor"),
        ("qe_evaluation", "attest.tcb_evaluation_floor"),
        ("root_ca_crl_number", "attest.crl_floor"),
        ("pck_crl_number", "attest.crl_floor"),
    ):
        same, higher = named(seen), named(seen, **{field: getattr(seen.seen[0], field) + 1})
        fields = collateral(workshop)
        assert workshop.code(collateral=fields, policy=workshop.policy(floors=(same,))) is None
        assert workshop.code(collateral=fields, policy=workshop.policy(floors=(higher,))) == code


@pytest.mark.parametrize("name", ["tcb_evaluation", "qe_evaluation", "root_ca_crl_number", "pck_crl_number"])
def test_who_has_seen_newer_collateral_does_not_approve_a_policy_with_lower_floors(workshop, seen, name):
    require_floors(workshop.policy(floors=(named(seen),)), seen)
    lower = named(seen, **{name: getattr(seen.seen[0], name) - 1})
    with pytest.raises(Refusal) as refused:
        require_floors(workshop.policy(floors=(lower,)), seen)
    assert refused.value.code == "attest.policy_floor"


def test_a_policy_without_floors_is_behind_whoever_has_seen_any(workshop, seen):
    with pytest.raises(Refusal) as refused:
        require_floors(workshop.policy(), seen)
    assert refused.value.code == "attest.policy_floor"
    require_floors(workshop.policy(root_sha256="0" * 64), seen)  # another root's numbers say nothing
    require_floors(workshop.policy(), Floors())
