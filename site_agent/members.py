"""Which hospitals this one knows to be real: whose keys somebody here has compared by another channel.

The coordinator invites the members of a run, so it could make them up and hold their keys. Keys whose
fingerprint came here by letter or telephone cannot be its invention. Who was confirmed stays so until they
are forgotten; a hospital with another agent's or approval key is another one, and is confirmed again."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from contracts.counting import least_confirmed
from contracts.fingerprint import site_fingerprint
from contracts.manifest import Manifest
from contracts.manifest import Site as Member
from contracts.refusal import Refusal
from site_agent.files import write_private
from site_agent.formatting import printable
from site_agent.state import State
from translations.catalogues import words

_ = words("site_agent")

FILE = "members.json"


class Confirmed(Struct, frozen=True, forbid_unknown_fields=True):
    """A hospital as it was called when its key was confirmed; `at` in Unix seconds."""

    name: str
    at: int


def fingerprint_of(member: Member) -> str:
    """Of its agent's key and its approval key together: what hospitals tell each other."""
    return site_fingerprint(member.public_key, member.approval_key)


def known_members(state: State) -> dict[str, Confirmed]:
    """Fingerprint of both keys -> who was confirmed under it."""
    try:
        return msgspec.json.decode((state.folder / FILE).read_bytes(), type=dict[str, Confirmed])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise Refusal("agent.state_damaged", file=FILE) from error


def confirm(state: State, members: Iterable[Member]) -> None:
    """Somebody here has compared the fingerprints of these members with what came by another channel."""
    book = known_members(state)
    for member in members:
        book.setdefault(fingerprint_of(member), Confirmed(printable(member.name, 200), int(time.time())))
    write_private(state.folder / FILE, msgspec.json.encode(book))


def forget(state: State, fingerprint: str) -> Confirmed:
    """The member whose keys have this fingerprint counts no more.

    Raises: `members.unknown`.
    """
    book = known_members(state)
    member = book.pop(fingerprint, None)
    if member is None:
        raise Refusal("members.unknown", fingerprint=fingerprint)
    write_private(state.folder / FILE, msgspec.json.encode(book))
    return member


def confirmed_sites(state: State, manifest: Manifest) -> set[str]:
    """The ids of the manifest's members that count here: this site, and those whose keys were confirmed."""
    book, own = known_members(state), state.config.site
    return {site.id for site in manifest.sites if site.id == own or fingerprint_of(site) in book}


def confirmed_now(state: State, manifest: Manifest) -> tuple[str, ...]:
    """`confirmed_sites` in the order of ids: what an approval or an order of release names."""
    return tuple(sorted(confirmed_sites(state, manifest)))


def unconfirmed(state: State, manifest: Manifest) -> list[Member]:
    """The members that the coordinator could have made up, for all that is known here."""
    counted = confirmed_sites(state, manifest)
    return [site for site in manifest.sites if site.id not in counted]


def require_enough(state: State, manifest: Manifest, listed: Iterable[str] | None = None) -> None:
    """A round's quorum is met by confirmed members, of all or of those `listed` on a roster.

    Raises: `members.too_few`.
    """
    counted = confirmed_sites(state, manifest)
    found = len(counted if listed is None else counted.intersection(listed))
    if found < manifest.aggregation.quorum:
        raise Refusal("members.too_few", found=found, needed=manifest.aggregation.quorum)


def require_approvable(state: State, manifest: Manifest) -> None:
    """Before the manifest is approved: confirmed members could meet each minimum that the enclaves count,
    by what this approval will say.

    Raises: `members.too_few`.
    """
    found, needed = len(confirmed_sites(state, manifest)), least_confirmed(manifest)
    if found < needed:
        raise Refusal("members.too_few", found=found, needed=needed)


def require_enough_for_release(state: State, manifest: Manifest) -> None:
    """Before this site signs for a release: confirmed members could give all signatures that it needs.

    Raises: `members.too_few`.
    """
    found = len(confirmed_sites(state, manifest))
    if found < manifest.release.approvals:
        raise Refusal("members.too_few", found=found, needed=manifest.release.approvals)


def describe_members(state: State, manifest: Manifest) -> str:
    """Every member with the fingerprint of its keys, and whether it is known to be real."""
    counted = confirmed_sites(state, manifest)
    lines = [_("Whose keys these are")]
    for site in manifest.sites:
        own = site.id == state.config.site
        mark = _("this site") if own else "confirmed" if site.id in counted else _("NOT CONFIRMED")
        lines.append(f"  {fingerprint_of(site)}  {printable(site.name, 60)}  ({mark})")
    if len(counted) < len(manifest.sites):
        lines += [
            _(
                "  The coordinator could have made up a hospital that is not confirmed. Compare its "
                "fingerprint"
            ),
            _("  with the letter or call by which that hospital told you its own, not with a page."),
        ]
    return "\n".join(lines)
