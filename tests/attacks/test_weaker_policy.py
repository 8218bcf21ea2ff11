"""A coordinator that names other code than FedSlice's, or demands less, and hopes that nobody sees it.

Before, a hospital's agent signed each of these manifests without a word; a person had raw hex to compare.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attestation.release_statement import make_statement
from attestation.trust_domain import development_reference
from contracts.fingerprint import key_fingerprint
from contracts.manifest import Aggregation, Manifest, Privacy, Release
from contracts.policy import SgxReference
from contracts.release_statement import SignedReleaseStatement, sign_statement
from contracts.signing import SigningKey
from tests.attacks.hospital import Hospital, attacked_hospital

STRANGE = SgxReference("aggregator", mrsigner="a" * 64, product_id=0, minimum_svn=0)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with attacked_hospital(tmp_path) as made:
        yield made


def with_policy(manifest: Manifest, **changes: Any) -> Manifest:
    policy = msgspec.structs.replace(manifest.policy, **changes)
    return msgspec.structs.replace(manifest, policy=policy)


def weakened(hospital: Hospital) -> dict[str, Manifest]:
    """The name of each weakness -> a manifest that is sound but for it."""
    sound = hospital.manifest()
    client = sound.policy.references[1]
    aggregation = msgspec.structs.replace(sound.aggregation, quorum=1)
    other = SgxReference("aggregator", mrenclave="1" * 64)
    return {
        "unknown-signer-aggregator": with_policy(sound, references=(STRANGE, client)),
        "product-zero-aggregator": with_policy(sound, references=(STRANGE, client)),
        "low-svn-aggregator": with_policy(sound, references=(STRANGE, client)),
        "unknown-code-aggregator": with_policy(sound, references=(*sound.policy.references, other)),
        "unknown-root": with_policy(sound, root_sha256="f" * 64),
        "tcb-OutOfDate": with_policy(sound, accepted_statuses=("UpToDate", "OutOfDate")),
        "quorum-below-two": hospital.manifest(aggregation=aggregation),
        "release-by-one": hospital.manifest(release=Release("sealed-to-sites", 1)),
        "export": hospital.manifest(release=Release("export", 2)),
    }


def test_a_weak_manifest_is_signed_by_nobody_who_does_not_name_its_weakness(hospital: Hospital) -> None:
    for name, manifest in weakened(hospital).items():
        hospital.offer(manifest)
        status, said = hospital.approves(manifest)
        assert (status, "[approval.weak]" in said, name in said) == (1, True, True), said
        assert hospital.approved == []


def test_a_trust_domain_counts_as_known_by_all_that_the_packages_installed_here_measure(
    hospital: Hospital,
) -> None:
    """RTMR3 of another program or command line, another image, another firmware: each is unknown code."""
    known, client = development_reference("aggregator"), hospital.manifest().policy.references[1]
    others = [msgspec.structs.replace(known, mrtd="1" * 96)]
    for number in range(4):
        rtmrs = tuple("1" * 96 if at == number else value for at, value in enumerate(known.rtmrs))
        others.append(msgspec.structs.replace(known, rtmrs=rtmrs))
    for other in others:
        manifest = with_policy(hospital.manifest(), references=(other, client))
        hospital.offer(manifest)
        status, said = hospital.approves(manifest)
        assert (status, "unknown-code-aggregator" in said) == (1, True), said
    manifest = with_policy(hospital.manifest(), references=(known, client))
    hospital.offer(manifest)
    assert hospital.approves(manifest)[0] == 0
    assert hospital.approved == [manifest.hash]


def test_to_name_one_weakness_accepts_no_other(hospital: Hospital) -> None:
    manifest = with_policy(
        hospital.manifest(), references=(STRANGE, hospital.manifest().policy.references[1])
    )
    hospital.offer(manifest)
    names = ("unknown-signer-aggregator", "product-zero-aggregator", "low-svn-aggregator")
    status, said = hospital.approves(manifest, "--accept", names[0], "--accept", names[1])
    assert status == 1 and f"should: {names[2]}. Nothing was signed" in said
    status, said = hospital.approves(manifest, *(part for name in names for part in ("--accept", name)))
    assert status == 0, said
    assert hospital.approved == [manifest.hash]


def test_a_sound_manifest_needs_nothing_but_its_fingerprint(hospital: Hospital) -> None:
    privacy = Privacy("site", 2.0, 1e-5)
    manifest = hospital.manifest(aggregation=Aggregation("fedavg", 2, 600, 1.0, privacy=privacy))
    hospital.offer(manifest)
    status, said = hospital.approves(manifest, unbounded=False)
    assert (status, "WEAK" in said) == (0, False), said
    assert "nobody outside vouches for it" in said, "without a release key that is said"


def test_what_was_demanded_before_is_missed(hospital: Hospital) -> None:
    before = with_policy(hospital.manifest(), minimum_tcb_evaluation=17)
    hospital.offer(before)
    assert hospital.approves(before)[0] == 0
    later = with_policy(
        hospital.manifest(run="run-2"), minimum_tcb_evaluation=16, accepted_advisories=("INTEL-SA-00615",)
    )
    hospital.offer(later)
    status, said = hospital.approves(later)
    assert status == 1 and "more-advisories, older-collateral. Nothing was signed" in said


def statement(key: SigningKey, sequence: int, **changes: Any) -> SignedReleaseStatement:
    said = make_statement(sequence, int(time.time()) + 1000)
    return sign_statement(msgspec.structs.replace(said, **changes), key)


@pytest.fixture
def makers() -> SigningKey:
    """The release key of FedSlice's makers, whose fingerprint the hospital was told by letter."""
    return SigningKey.generate()


@pytest.fixture
def reported(tmp_path: Path, makers: SigningKey) -> Iterator[Hospital]:
    with attacked_hospital(tmp_path, release_key=key_fingerprint(makers.public)) as made:
        yield made


def test_code_counts_as_known_by_the_makers_word(reported: Hospital, makers: SigningKey) -> None:
    manifest = reported.manifest()
    reported.offer(manifest, statement=msgspec.to_builtins(statement(makers, 1)))
    status, said = reported.approves(manifest)
    assert status == 0 and "release statement 1, signed by the project's release key" in said, said


def test_a_statement_that_is_held_back_stale_or_not_the_makers_stops_the_approval(
    reported: Hospital, makers: SigningKey
) -> None:
    manifest = reported.manifest()
    good = statement(makers, 7)
    forged = msgspec.structs.replace(good, statement=statement(makers, 8).statement)
    cases: list[tuple[str, SignedReleaseStatement | None]] = [
        ("release_statement.missing", None),
        ("release_statement.other_key", statement(SigningKey.generate(), 9)),
        ("release_statement.invalid", forged),
        ("release_statement.expired", statement(makers, 6, expires=int(time.time()) - 1)),
    ]
    for code, shown in cases:
        reported.offer(manifest, statement=None if shown is None else msgspec.to_builtins(shown))
        status, said = reported.approves(manifest)
        assert (status, f"[{code}]" in said) == (1, True), said
    assert reported.approved == []


def test_an_older_statement_than_the_one_seen_is_refused(reported: Hospital, makers: SigningKey) -> None:
    first = reported.manifest()
    reported.offer(first, statement=msgspec.to_builtins(statement(makers, 7)))
    assert reported.approves(first)[0] == 0
    second = reported.manifest(run="run-2")
    for sequence, expires in ((6, 2000), (7, 3000)):
        other = statement(makers, sequence, expires=int(time.time()) + expires)
        reported.offer(second, statement=msgspec.to_builtins(other))
        status, said = reported.approves(second)
        assert (status, "[release_statement.older]" in said) == (1, True), said
    assert reported.approved == [first.hash]


def test_code_that_the_makers_have_withdrawn_is_unknown_also_where_it_is_installed(
    reported: Hospital, makers: SigningKey
) -> None:
    manifest = reported.manifest()
    said = make_statement(3, int(time.time()) + 1000)
    changed = tuple(msgspec.structs.replace(one, development="5" * 64) for one in said.programs)
    reported.offer(manifest, statement=msgspec.to_builtins(statement(makers, 3, programs=changed)))
    status, text = reported.approves(manifest)
    assert status == 1 and "unknown-code-aggregator, unknown-code-client_slice" in text, text
