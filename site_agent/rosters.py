"""The roster book: this site signs at most one roster for a (manifest, round), whatever it is asked.

Two sums over different subsets of sites could be subtracted; the promise to sign one roster prevents it. So
could two pools of scores, if a receipt between them is kept back (contracts/pooling.py). So the book is on
the disk before a signature leaves, and survives a crash between the two.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from contracts.manifest import Manifest
from contracts.pooling import sites_of
from contracts.refusal import Refusal
from contracts.roster import Roster, countersign, roster_hash
from contracts.signing import SigningKey
from site_agent.files import create_private


class RosterPage(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the book: the roster that was signed for its (manifest, round)."""

    roster: Roster
    signature: str


class RosterBook:
    """One file for each (manifest, round), and those of `_pool`, made once and never replaced."""

    def __init__(self, folder: Path, key: SigningKey) -> None:
        self._folder = folder
        self._key = key

    def sign(
        self, roster: Roster, manifest: Manifest, *, site: str, own_inputs: Collection[str], last_receipt: str
    ) -> str:
        """The site's countersignature (hex), after these checks.

        1. the roster is for this manifest and lists members, each once, in order, a quorum at least
        2. it lists this site with one of `own_inputs`, the SHA-256 of what the site handed in for the round
        3. it builds on `last_receipt`, the hash of the last receipt that this site has seen
        4. no other roster was signed for this (manifest, round)
        5. where it lets scores be pooled: with the one set of sites of this run, and once after a receipt

        The same roster again gets the same signature.

        Raises: a `roster.` code.
        """
        self._check(roster, manifest, site, own_inputs, last_receipt)
        page = RosterPage(roster, countersign(roster, self._key))
        folder = self._folder / roster.manifest
        if roster.pooled:
            self._pool(folder, roster)
        path = folder / f"{roster.round}.json"
        if not create_private(path, msgspec.json.encode(page)):
            # Somebody was first; a page that cannot be read counts as another roster, to be on the safe side.
            try:
                written = msgspec.json.decode(path.read_bytes(), type=RosterPage)
            except msgspec.DecodeError as error:
                raise Refusal("roster.second", round=roster.round) from error
            if roster_hash(written.roster) != roster_hash(roster):
                raise Refusal("roster.second", round=roster.round)
        return page.signature

    @staticmethod
    def _pool(folder: Path, roster: Roster) -> None:
        """Two files that are made once hold `contracts.pooling.may_pool`, whoever signs beside us."""
        said = {
            "pooled-sites.json": msgspec.json.encode(sites_of(roster)),
            f"pooled-after-{roster.previous}.json": msgspec.json.encode(roster.round),
        }
        for name, content in said.items():
            path = folder / name
            if not create_private(path, content) and path.read_bytes() != content:
                raise Refusal("roster.another_pool", round=roster.round)

    @staticmethod
    def _check(
        roster: Roster, manifest: Manifest, site: str, own_inputs: Collection[str], last_receipt: str
    ) -> None:
        if roster.manifest != manifest.hash:
            raise Refusal("roster.wrong_run")
        listed = [entry.site for entry in roster.inputs]
        faults = {
            "a site is not a member": not {member.id for member in manifest.sites}.issuperset(listed),
            "the sites are not in order, or one stands twice": listed != sorted(set(listed)),
            "two sites have the same contribution": len({entry.sha256 for entry in roster.inputs})
            < len(listed),
            "there are fewer sites than the quorum": len(listed) < manifest.aggregation.quorum,
        }
        for fault, found in faults.items():
            if found:
                raise Refusal("roster.wrong_members", round=roster.round, fault=fault)
        if not any(entry.site == site and entry.sha256 in own_inputs for entry in roster.inputs):
            raise Refusal("roster.own_input", round=roster.round)
        if roster.previous != last_receipt:
            raise Refusal("roster.wrong_previous", round=roster.round)
