"""A coordinator that makes up hospitals and holds their keys, so that one real hospital is alone among them.

Before, a quorum of two was met by the real hospital and an invented one: the "mean" was its own parameters,
and the signatures for a release were the coordinator's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from contracts.manifest import DatasetRef, Manifest, Release, Site
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from site_agent.members import (
    confirm,
    confirmed_sites,
    fingerprint_of,
    require_enough,
    require_enough_for_release,
)
from tests.attacks.hospital import Hospital, attacked_hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with attacked_hospital(tmp_path) as made:
        yield made


def two_keys() -> tuple[str, str]:
    return SigningKey.generate().public, SigningKey.generate().public


def crowd(hospital: Hospital) -> Manifest:
    """This hospital, a real other one, and two that are made up; quorum two, three signatures."""
    real = hospital.manifest().sites
    made_up = tuple(
        Site(f"site-{n}", f"Hospital {n}", *two_keys(), DatasetRef(f"ds-{n}", "d" * 64, 9)) for n in (3, 4)
    )
    return hospital.manifest(sites=(*real, *made_up), release=Release("sealed-to-sites", 3))


def test_a_quorum_of_hospitals_that_nobody_here_knows_is_not_approved(hospital: Hospital) -> None:
    manifest = crowd(hospital)
    hospital.offer(manifest)
    status, said = hospital.approves(manifest, strangers=True)
    assert (status, "[members.too_few]" in said) == (1, True), said
    assert said.count("(NOT CONFIRMED)") == 3 and "(this site)" in said
    assert all(fingerprint_of(site) in said for site in manifest.sites)
    assert hospital.approved == []


def test_only_confirmed_members_fill_a_roster_or_sign_a_release(hospital: Hospital) -> None:
    manifest = crowd(hospital)
    confirm(hospital.state, [manifest.site("site-2")])
    assert confirmed_sites(hospital.state, manifest) == {"site-1", "site-2"}
    require_enough(hospital.state, manifest, ["site-1", "site-2", "site-3"])
    for check in (
        lambda: require_enough(hospital.state, manifest, ["site-1", "site-3", "site-4"]),
        lambda: require_enough_for_release(hospital.state, manifest),
    ):
        with pytest.raises(Refusal) as caught:
            check()
        assert caught.value.code == "members.too_few"
    hospital.offer(manifest)
    status, said = hospital.approves(manifest, strangers=True)
    assert (status, "[members.too_few]" in said) == (1, True), "three of the four could let parameters out"
    kept = msgspec.structs.replace(manifest, release=Release("nothing", 3))
    hospital.offer(kept)
    assert hospital.approves(kept, strangers=True)[0] == 0, "two confirmed ones are the quorum"


def test_who_is_confirmed_stays_so_by_key_and_can_be_forgotten(hospital: Hospital) -> None:
    first = hospital.manifest()
    hospital.offer(first)
    assert hospital.approves(first)[0] == 0
    again = hospital.manifest(run="run-2")
    hospital.offer(again)
    status, said = hospital.approves(again, strangers=True)
    assert (status, "(NOT CONFIRMED)" in said) == (0, False), said
    for key in ("public_key", "approval_key"):
        other = msgspec.structs.replace(first.sites[1], **{key: SigningKey.generate().public})
        swapped = hospital.manifest(run="run-3", sites=(first.sites[0], other))
        hospital.offer(swapped)
        words = hospital.approves(swapped, strangers=True)[1]
        assert "[members.too_few]" in words, f"another {key}, another hospital"
    fingerprint = fingerprint_of(first.sites[1])
    assert fingerprint in hospital.types("members")[1]
    assert "counts no more" in hospital.types("members", "--forget", fingerprint.lower())[1]
    last = hospital.manifest(run="run-4")
    hospital.offer(last)
    assert "[members.too_few]" in hospital.approves(last, strangers=True)[1]
