"""A roster counts when all whom it lists have signed it, and it fits the manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.approvals import Approval
from contracts.kept_keys import signing_key
from contracts.manifest import Manifest, parse
from contracts.receipts import NO_RECEIPT
from contracts.refusal import Refusal
from contracts.roster import Roster, RosterEntry, countersign, parse_roster, roster_hash, verify_roster
from contracts.signing import SigningKey

VECTORS = Path(__file__).parent / "vectors"
KEYS = {f"site-{name}": signing_key(name.encode() * 32) for name in "abc"}
KNOWN = {site: Approval(tuple(KEYS), "") for site in KEYS}


@pytest.fixture
def manifest() -> Manifest:
    manifest = parse((VECTORS / "manifest.json").read_bytes())
    assert [site.public_key for site in manifest.sites] == [key.public for key in KEYS.values()]
    return manifest


@pytest.fixture
def roster(manifest: Manifest) -> Roster:
    inputs = tuple(RosterEntry(site, f"{number:064x}") for number, site in enumerate(KEYS))
    return Roster(manifest.hash, 1, inputs, NO_RECEIPT, True)


def signed(roster: Roster, *sites: str) -> dict[str, str]:
    return {site: countersign(roster, KEYS[site]) for site in sites or KEYS}


def refused(code: str, roster: Roster, signatures: dict[str, str], manifest: Manifest) -> None:
    with pytest.raises(Refusal) as refusal:
        verify_roster(roster, signatures, manifest, KNOWN)
    assert refusal.value.code == code


def test_a_roster_that_all_listed_sites_signed_is_good(roster: Roster, manifest: Manifest) -> None:
    verify_roster(roster, signed(roster), manifest, KNOWN)
    two = msgspec.structs.replace(roster, inputs=roster.inputs[:2])
    verify_roster(two, signed(two, "site-a", "site-b"), manifest, KNOWN)
    verify_roster(two, signed(two), manifest, KNOWN)


def test_a_listed_site_that_has_not_signed_is_named(roster: Roster, manifest: Manifest) -> None:
    with pytest.raises(Refusal) as refusal:
        verify_roster(roster, signed(roster, "site-a", "site-c"), manifest, KNOWN)
    assert (refusal.value.code, refusal.value.facts["site"]) == ("roster.not_countersigned", "site-b")


def test_a_signature_for_a_larger_roster_does_not_count_for_a_smaller(
    roster: Roster, manifest: Manifest
) -> None:
    """The subtraction attack: aggregate {a, b, c}, then {a, b}, and take the difference."""
    subset = msgspec.structs.replace(roster, inputs=roster.inputs[:2])
    refused("roster.bad_countersignature", subset, signed(roster), manifest)


@pytest.mark.parametrize(
    "change",
    [
        {"round": 2},
        {"previous": "1" * 64},
        {"inputs": (RosterEntry("site-a", "9" * 64), RosterEntry("site-b", "8" * 64))},
    ],
    ids=["round", "previous", "inputs"],
)
def test_a_signature_for_another_roster_does_not_count(
    roster: Roster, manifest: Manifest, change: dict[str, Any]
) -> None:
    refused(
        "roster.bad_countersignature", msgspec.structs.replace(roster, **change), signed(roster), manifest
    )


def test_one_site_cannot_sign_for_another(roster: Roster, manifest: Manifest) -> None:
    signatures = signed(roster) | {"site-b": countersign(roster, KEYS["site-a"])}
    refused("roster.bad_countersignature", roster, signatures, manifest)


def test_a_bad_signature_of_a_member_who_is_not_listed_refuses_too(
    roster: Roster, manifest: Manifest
) -> None:
    two = msgspec.structs.replace(roster, inputs=roster.inputs[:2])
    refused("roster.bad_countersignature", two, signed(two) | {"site-c": "0" * 128}, manifest)


def test_fewer_than_the_quorum_are_refused(roster: Roster, manifest: Manifest) -> None:
    one = msgspec.structs.replace(roster, inputs=roster.inputs[:1])
    refused("roster.below_quorum", one, signed(one, "site-a"), manifest)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: {"manifest": "0" * 64},
        lambda r: {"inputs": r.inputs[::-1]},
        lambda r: {"inputs": (r.inputs[0], r.inputs[0], r.inputs[1])},
        lambda r: {"inputs": (r.inputs[0], RosterEntry("site-b", r.inputs[0].sha256))},
        lambda r: {"inputs": ()},
        lambda r: {"round": 0},
        lambda r: {"previous": "x"},
    ],
    ids=["manifest", "order", "repeated site", "repeated blob", "empty", "round", "previous"],
)
def test_a_roster_that_breaks_its_rules_is_refused_though_well_signed(
    roster: Roster, manifest: Manifest, change: Callable[[Roster], dict[str, Any]]
) -> None:
    bad = msgspec.structs.replace(roster, **change(roster))
    refused("roster.invalid", bad, signed(bad), manifest)


def test_strangers_are_refused(roster: Roster, manifest: Manifest) -> None:
    stranger = SigningKey.generate()
    listed = msgspec.structs.replace(roster, inputs=(*roster.inputs, RosterEntry("site-x", "7" * 64)))
    signatures = signed(listed) | {"site-x": countersign(listed, stranger)}
    refused("manifest.unknown_site", listed, signatures, manifest)
    refused("manifest.unknown_site", roster, signed(roster) | {"site-x": "0" * 128}, manifest)


def test_a_roster_is_read_strictly_from_json(roster: Roster) -> None:
    assert parse_roster(msgspec.json.encode(roster)) == parse_roster(msgspec.to_builtins(roster)) == roster
    assert roster_hash(parse_roster(msgspec.json.encode(roster))) == roster_hash(roster)
    for data in (b"", b"{}", b"\xff", msgspec.json.encode(roster)[:-1]):
        with pytest.raises(Refusal) as refusal:
            parse_roster(data)
        assert refusal.value.code == "roster.invalid"
