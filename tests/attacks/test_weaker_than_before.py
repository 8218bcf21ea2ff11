"""A coordinator that asks for a little less than in the manifest that was approved here last.

Every field of a manifest and of its policy has its place below: the value that is weaker and the weakness
that names it, or why there is none. A field that is new belongs into one of the two.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attestation.measurement import measure
from attestation.trust_domain import development_reference
from contracts.manifest import (
    Aggregation,
    KeyShares,
    Manifest,
    Masking,
    Privacy,
    Publication,
    PublicFront,
    Release,
    Site,
    Split,
    TransparencyLog,
)
from contracts.policy import CollateralFloor, SgxReference
from site_agent.weaknesses import Known, weaknesses
from tests.attacks.hospital import Hospital, attacked_hospital
from tests.support.made_log import VKEY

NOBODY = "0" * 15
PERFMON, PROVISION_KEY, EXINFO = "8000000010000000", "0000000000000015", "00000001"

WEAKER: dict[str, tuple[str, Any, str]] = {
    "Manifest.minimum_time": ("minimum_time", 1_600_000_000, "older-clock"),
    "Manifest.policy": (
        "policy.references.0", SgxReference("aggregator", "7" * 64), "unknown-code-aggregator",
    ),
    "Policy.root_sha256": ("policy.root_sha256", "f" * 64, "changed-root unknown-root"),
    "Policy.references": ("policy.references.0.mrenclave", "f" * 64, "unknown-code-aggregator"),
    "Policy.accepted_statuses": (
        "policy.accepted_statuses", ("UpToDate", "SWHardeningNeeded"), "more-statuses",
    ),
    "Policy.accepted_advisories": ("policy.accepted_advisories", ("INTEL-SA-00615",), "more-advisories"),
    "Policy.minimum_tcb_evaluation": ("policy.minimum_tcb_evaluation", 16, "older-collateral"),
    "Policy.floors": ("policy.floors", (), "older-collateral"),
    "CollateralFloor.fmspc": ("policy.floors.0.fmspc", "0" * 12, "older-collateral"),
    "CollateralFloor.ca": ("policy.floors.0.ca", "processor", "older-collateral"),
    **{
        f"CollateralFloor.{name}": (f"policy.floors.0.{name}", 8, "older-collateral")
        for name in CollateralFloor.__struct_fields__[2:]
    },
    "SgxReference.mrenclave": ("policy.references.0.mrenclave", "f" * 64, "unknown-code-aggregator"),
    "SgxReference.mrsigner": (
        "policy.references.0", SgxReference("aggregator", None, "a" * 64, 1, 1), "unknown-signer-aggregator",
    ),
    "SgxReference.product_id": ("policy.references.1.product_id", 0, "product-zero-client_slice"),
    "SgxReference.minimum_svn": ("policy.references.1.minimum_svn", 4, "lower-svn-client_slice"),
    "SgxReference.flags": ("policy.references.0.flags", PROVISION_KEY, "start-aggregator"),
    "SgxReference.flags_mask": ("policy.references.0.flags_mask", f"{NOBODY}5", "start-aggregator"),
    "SgxReference.xfrm": ("policy.references.0.xfrm", "0000000000000103", "start-aggregator"),
    "SgxReference.xfrm_mask": ("policy.references.0.xfrm_mask", f"{NOBODY}3", "start-aggregator"),
    "SgxReference.misc_select": ("policy.references.0.misc_select", EXINFO, "start-aggregator"),
    "SgxReference.config_id": ("policy.references.0.config_id", "1" * 128, "start-aggregator"),
    "SgxReference.config_svn": ("policy.references.0.config_svn", 1, "start-aggregator"),
    "SgxReference.ext_product_id": ("policy.references.0.ext_product_id", "1" * 32, "start-aggregator"),
    "SgxReference.family_id": ("policy.references.0.family_id", "1" * 32, "start-aggregator"),
    "TdxReference.mrtd": ("policy.references.2.mrtd", "f" * 96, "unknown-code-split_server"),
    "TdxReference.rtmrs": ("policy.references.2.rtmrs", ("f" * 96,) * 4, "unknown-code-split_server"),
    "TdxReference.td_attributes": ("policy.references.2.td_attributes", PERFMON, "start-split_server"),
    "TdxReference.td_attributes_mask": (
        "policy.references.2.td_attributes_mask", "0000000010000000", "start-split_server",
    ),
    "TdxReference.xfam": ("policy.references.2.xfam", "0000000000004003", "start-split_server"),
    "TdxReference.xfam_mask": ("policy.references.2.xfam_mask", f"{NOBODY}3", "start-split_server"),
    "TdxReference.mrconfigid": ("policy.references.2.mrconfigid", "1" * 96, "start-split_server"),
    "TdxReference.mrowner": ("policy.references.2.mrowner", "1" * 96, "start-split_server"),
    "TdxReference.mrownerconfig": ("policy.references.2.mrownerconfig", "1" * 96, "start-split_server"),
    "TdxReference.mrseams": ("policy.references.2.mrseams", (), "more-modules-split_server"),
    "Manifest.aggregation": (
        "aggregation",
        Aggregation("fedavg", 1, 600),
        "larger-weight looser-clip lower-quorum more-instances quorum-below-two",
    ),
    "Aggregation.quorum": ("aggregation.quorum", 2, "lower-quorum"),
    "Aggregation.clip": ("aggregation.clip", None, "looser-clip"),
    "Aggregation.max_samples": ("aggregation.max_samples", 101, "larger-weight"),
    "Aggregation.instances": ("aggregation.instances", 4, "more-instances"),
    "Privacy.unit": ("aggregation.privacy.unit", "record", "less-noise"),
    "Privacy.noise": ("aggregation.privacy.noise", 1.9, "less-noise"),
    "Privacy.delta": ("aggregation.privacy.delta", 1e-4, "less-noise"),
    "Manifest.publication": ("publication", Publication(3, 20), "smaller-pool"),
    "Publication.sites": ("publication.sites", 3, "smaller-pool"),
    "Publication.rows": ("publication.rows", 99, "smaller-pool"),
    "Publication.cells": ("publication.cells", 9, "finer-tables"),
    "Manifest.release": (
        "release",
        Release("export", 1),
        "export fewer-release-approvals more-answers release-by-one",
    ),
    "Release.rule": ("release.rule", "sealed-to-sites", "wider-release"),
    "Release.approvals": ("release", Release("export", 3, 1000), "export fewer-release-approvals"),
    "Release.answers": ("release.answers", 0, "more-answers"),
    "TransparencyLog.witnesses": ("log.witnesses", ("one",), "fewer-witnesses"),
    "Masking.repetitions": ("masking.repetitions", 1, "fewer-checks"),
    "PublicFront.sample": ("front.sample", 40, "smaller-sample"),
    "Split.shares": ("split.shares.threshold", 2, "fewer-shares"),
    "KeyShares.threshold": ("split.shares.threshold", 2, "fewer-shares"),
}  # fmt: skip

READ = "it weakens nothing that is promised, and the person reads it"
FIXED = "the schema or `parse` allows one value beside the others"
MEMBERS = "each member is confirmed by the fingerprint of both keys, or does not count (members.too_few)"
OWN = "compared with this site's own (approval.*)"
ELSEWHERE: dict[str, str] = {
    "Manifest.version": FIXED,
    **dict.fromkeys(("Manifest.run", "Manifest.study", "Manifest.purpose", "Manifest.method"), READ),
    "Manifest.placement": "plaintext is for datasets that were declared public at the hospital alone",
    "Manifest.runtime": OWN,
    **dict.fromkeys(("Manifest.model", "Manifest.adapter", "Manifest.training"), READ),
    "Manifest.sites": MEMBERS,
    "Manifest.masking": FIXED,
    "Manifest.split": FIXED,
    "Manifest.front": "compared where there was none before: the test below",
    "PublicFront.first": READ,
    "Manifest.log": "no approval without a proof by the key that was pinned at enrolment (log.*)",
    "TransparencyLog.key": "no approval without a proof by the key that was pinned at enrolment (log.*)",
    "Policy.root": FIXED,
    "SgxReference.program": "a reference of another program is compared as that program's",
    "TdxReference.program": "a reference of another program is compared as that program's",
    "Aggregation.rule": READ,
    "Aggregation.deadline_seconds": READ,
    "Aggregation.optimizer": READ,
    "Publication.written_rows": READ,
    "Publication.written_tokens": READ,
    "Aggregation.privacy": "the ledger asks for a yes to `unbounded`, and counts it",
    "Privacy.gradient_clip": "noise is in units of it: epsilon does not depend on it",
    "Masking.vault_bytes": READ,
    "Masking.passes": READ,
    "Masking.prepared": "each hospital makes it of the base model's files itself (masking.other_preparation)",
    "Masking.accelerator": "of its own, a hospital says itself whose it is (front.not_own_accelerator)",
    **dict.fromkeys(("Split.cut", "Split.batches", "Split.checkpointing"), READ),
    **dict.fromkeys(("Site.id", "Site.name", "Site.public_key", "Site.approval_key"), MEMBERS),
    "Site.dataset": OWN,
    "Site.development_key": "refused on any root but the development one, and shown beside the member",
    **dict.fromkeys(
        ("DatasetRef.id", "DatasetRef.digest", "DatasetRef.rows", "DatasetRef.kind", "DatasetRef.public"), OWN
    ),
}
PLAIN = ("ModelSpec", "Lora", "Prefix", "Spf", "Training", "ServerOptimizer")
"""What is trained and how: a person's choice, all of it on the screen."""


def structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Every kind of value that can stand in a value of this one."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for hint in typing.get_type_hints(kind).values():
            yield from structs(hint)
    for part in typing.get_args(kind):
        yield from structs(part)


def test_each_field_of_a_manifest_is_compared_or_has_a_reason_why_not() -> None:
    fields = {
        f"{kind.__name__}.{name}"
        for kind in structs(Manifest)
        if kind.__name__ not in PLAIN
        for name in kind.__struct_fields__
    }
    assert fields == set(WEAKER) | set(ELSEWHERE)
    assert not set(WEAKER) & set(ELSEWHERE)


def put(value: Any, path: str, new: Any) -> Any:
    """The value with another one at the path; a number is a place in a tuple."""
    name, _, rest = path.partition(".")
    if isinstance(value, tuple):
        place = int(name)
        changed = put(value[place], rest, new) if rest else new
        return (*value[:place], changed, *value[place + 1 :])
    return msgspec.structs.replace(value, **{name: put(getattr(value, name), rest, new) if rest else new})


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with attacked_hospital(tmp_path_factory.mktemp("hospital")) as made:
        yield made


@pytest.fixture(scope="module")
def before(hospital: Hospital) -> Manifest:
    """Approved here last. Each demand is above the least; it is of both methods, so that each has a value."""
    sound = hospital.manifest()
    sites: list[Site] = [msgspec.structs.replace(sound.sites[0], id=f"site-{n}") for n in range(1, 6)]
    floor = CollateralFloor("a" * 12, "platform", *([9] * 8))
    domain = msgspec.structs.replace(development_reference("split_server"), mrseams=("5" * 96,))
    signed = SgxReference("client_slice", None, "a" * 64, 1, 5)
    policy = msgspec.structs.replace(
        sound.policy,
        references=(sound.policy.references[0], signed, domain),
        minimum_tcb_evaluation=17,
        floors=(floor,),
    )
    return msgspec.structs.replace(
        sound,
        sites=tuple(sites),
        policy=policy,
        aggregation=Aggregation("fedavg", 3, 600, 1.0, 100, Privacy("site", 2.0, 1e-5), instances=2),
        publication=Publication(4, 100, cells=10),
        release=Release("serve-only", 4, answers=1000),
        log=TransparencyLog(VKEY, ("one", "another")),
        masking=Masking(repetitions=2),
        front=PublicFront(1, sample=64),
        split=Split(1, shares=KeyShares(3)),
    )


def known(hospital: Hospital, before: Manifest) -> Known:
    programs = ("aggregator", "client_slice", "split_server")
    return Known(
        before.policy.root_sha256,
        {program: measure(program) for program in programs},
        {
            program: before.policy.references[2]
            if program == "split_server"
            else development_reference(program)
            for program in programs
        },
        None,
        before,
    )


@pytest.mark.parametrize("field", WEAKER)
def test_what_is_weaker_than_before_or_than_the_least_is_named(
    hospital: Hospital, before: Manifest, field: str
) -> None:
    path, value, names = WEAKER[field]
    compared = known(hospital, before)
    found, always = (
        {one.name for one in weaknesses(manifest, compared)}
        for manifest in (put(before, path, value), before)
    )
    assert found - always == set(names.split())


def test_a_public_front_where_there_was_none_is_named(hospital: Hospital, before: Manifest) -> None:
    alone = replace(known(hospital, before), previous=put(before, "front", None))
    names = {one.name for one in weaknesses(before, alone)}
    assert names - {one.name for one in weaknesses(before, known(hospital, before))} == {"public-front"}


def test_without_an_earlier_approval_only_the_least_is_asked_for(
    hospital: Hospital, before: Manifest
) -> None:
    compared = replace(known(hospital, before), previous=None)
    named = {
        field
        for field, (path, value, names) in WEAKER.items()
        if set(names.split()) & {one.name for one in weaknesses(put(before, path, value), compared)}
    }
    assert {"SgxReference.flags", "Policy.references", "Release.approvals"} <= named
    assert not {"Aggregation.instances", "Policy.floors", "TransparencyLog.witnesses"} & named


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        ("aggregation.instances", 5, "many-instances"),
        ("publication.rows", 19, "small-pool"),
        ("front.sample", 31, "small-sample"),
    ],
)
def test_the_least_is_what_a_manifest_says_where_it_says_nothing(
    hospital: Hospital, before: Manifest, path: str, value: int, name: str
) -> None:
    compared = replace(known(hospital, before), previous=None)
    sound, weak = (
        {one.name for one in weaknesses(each, compared)} for each in (before, put(before, path, value))
    )
    assert weak - sound == {name}


def test_a_registers_state_that_a_processor_needs_is_no_weakness(
    hospital: Hospital, before: Manifest
) -> None:
    """AVX-512, AMX and shadow stacks: which of them a machine has, no release can say."""
    compared = known(hospital, before)
    always = {one.name for one in weaknesses(before, compared)}
    for path, value in (
        ("policy.references.0.xfrm", "00000000000602e7"),
        ("policy.references.0.xfrm_mask", "fffffffffff9fd1b"),
        ("policy.references.0.flags", "0000000000000085"),
        ("policy.references.2.xfam", "00000000000618e7"),
    ):
        assert {one.name for one in weaknesses(put(before, path, value), compared)} == always


def test_a_weaker_manifest_is_signed_by_nobody_who_does_not_name_what_it_lacks(tmp_path: Path) -> None:
    """Through the command that a hospital types, one after the other."""
    with attacked_hospital(tmp_path) as hospital:
        rules = Aggregation("fedavg", 2, 600, instances=2)
        first = hospital.manifest(aggregation=rules, publication=Publication(3, 50))
        hospital.offer(first)
        assert hospital.approves(first)[0] == 0
        second = hospital.manifest(run="run-2", release=Release("sealed-to-sites", 2))
        hospital.offer(second)
        status, said = hospital.approves(second)
        assert (status, "wider-release, smaller-pool, more-instances. Nothing was signed" in said) == (
            1,
            True,
        ), said
        assert hospital.approved == [first.hash]
        accepted = ("--accept", "wider-release", "--accept", "smaller-pool", "--accept", "more-instances")
        assert hospital.approves(second, *accepted)[0] == 0
