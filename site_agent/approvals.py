"""Approval: the manifest is judged here, a person signs its hash here, and only what was signed here runs.

The coordinator sends the manifest and says what its hash is. Neither is believed: the hash is computed from
the canonical bytes, the site's own key and dataset are looked for in them, and whose code it trusts is
compared with what this site knows for itself. What is weak in it is accepted by name, or nothing is signed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from attestation.policy_floors import require_floors
from contracts.agents_api.studies import APPROVALS, APPROVE, ApprovalItem, SignatureBody, SweepItem
from contracts.approvals import Approval, InSweep, approval_payload, verify_approval
from contracts.manifest import APPROVAL_DOMAIN, Manifest, parse
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from site_agent.approval_key import ApprovalKey
from site_agent.datasets.catalogue import Catalogue, Dataset
from site_agent.evidence import FloorBook
from site_agent.files import write_private
from site_agent.formatting import printable
from site_agent.knowledge import known_here
from site_agent.ledger.accounting import Outlook, outlook, require_budget, used_by
from site_agent.ledger.book import Used, changing, read_book
from site_agent.members import confirmed_now, require_approvable
from site_agent.proofs import require_manifest
from site_agent.state import State
from site_agent.transport import Coordinator
from site_agent.weaknesses import Known, Weakness, of_labels, weaknesses

TYPED = 8
"""Characters of the fingerprint that a person types."""


class Approved(Struct, frozen=True, forbid_unknown_fields=True):
    """What was approved here: the canonical manifest, its hash, the members that were confirmed, and the
    signature that was given.

    `at` is in Unix seconds; `accepted` are the names of the weaknesses that were accepted; `sweep` is its
    place in what was signed, where one signature was given for a sweep.
    """

    manifest: str
    hash: str
    confirmed: tuple[str, ...]
    signature: str
    at: int
    accepted: tuple[str, ...] = ()
    sweep: InSweep | None = None

    @property
    def given(self) -> Approval:
        """As others check it."""
        return Approval(self.confirmed, self.signature, self.sweep)


@dataclass(frozen=True)
class WaitingManifest:
    """A manifest that asks for this site's approval, as the coordinator sends it, unchecked."""

    study: str
    hash: str
    text: str
    signed: bool
    sweep: SweepItem | None = None
    declined: bool = False


def waiting(coordinator: Coordinator) -> list[WaitingManifest]:
    """The manifests in force that name this site."""
    return [_waiting(item) for item in coordinator.ask(APPROVALS, Nothing())]


def _waiting(item: ApprovalItem) -> WaitingManifest:
    name = printable(item.name or item.study, 200)
    signed = item.state == "signed"
    return WaitingManifest(name, item.manifest_hash, item.manifest, signed, item.sweep, item.declined)


def judge(state: State, item: WaitingManifest) -> tuple[Manifest, Dataset]:
    """Check a manifest against what this site knows for itself; its hash is then `item.hash` beyond doubt.

    1. the bytes are a canonical manifest, and their SHA-256 is the hash that the coordinator names
    2. this site is a member, under both of its keys
    3. the dataset is this site's, unchanged
    4. the runtime is the one that this agent is set up for
    5. its run is that of no other manifest which was approved here: a person names a run by its id
    6. its policy lets no older collateral count than this site has seen

    Raises: a `manifest.`, `approval.` or `dataset.` code, or `attest.policy_floor`.
    """
    data = item.text.encode()
    manifest = parse(data)
    found = hashlib.sha256(data).hexdigest()
    if found != item.hash:
        raise Refusal("approval.altered", expected=printable(item.hash, 64), found=found)
    own = manifest.site(state.config.site)
    if (own.public_key, own.approval_key) != (state.key.public, state.config.approval_key):
        raise Refusal("approval.key_mismatch")
    if manifest.runtime != state.config.runtime:
        raise Refusal("approval.other_runtime", found=manifest.runtime, expected=state.config.runtime)
    for other in approved_hashes(state):
        if other != found and approved_manifest(state, other).run == manifest.run:
            raise Refusal("approval.run_taken", run=manifest.run, fingerprint=other[:16])
    require_floors(manifest.policy, FloorBook(state.folder).load())
    return manifest, Catalogue(state).referred(own.dataset)


def examine(
    state: State, coordinator: Coordinator, manifest: Manifest, dataset: Dataset
) -> tuple[Known, Outlook, list[Weakness]]:
    """What this site knows of the code that the manifest trusts, what its dataset has told and would tell,
    and what is weak in both.

    Raises: a `release_statement.` or `ledger.` code.
    """
    last = last_approved(state, manifest.hash)
    previous = None if last is None else parse(last.manifest.encode())
    known = known_here(state, coordinator, manifest, previous)
    found = outlook(read_book(state), used_here(state, manifest, dataset))
    labels = of_labels(manifest.model, dataset.card.labels)
    return known, found, [*weaknesses(manifest, known), *labels, *found.weak]


def used_here(state: State, manifest: Manifest, dataset: Dataset) -> Used:
    """What the run counts for in this site's ledger."""
    return used_by(manifest, state.config.site, Catalogue(state).training_rows(dataset))


def approve(
    state: State,
    coordinator: Coordinator,
    item: WaitingManifest,
    key: ApprovalKey,
    accepted: Collection[str] = (),
) -> Approved:
    """Judge once more, sign, keep the copy that `run` will enforce, and post the signature.

    Ledger and copy come first: an approval that the coordinator has, this site remembers and counts. Doing it
    again sends the same signature (Ed25519 is deterministic) and counts once; with other members confirmed
    meanwhile it takes the first one's place, until the launch. `accepted` are the names of
    weaknesses that a person has accepted; with any other one it refuses with `approval.weak`. Where too few
    members are confirmed it refuses with `members.too_few`, beyond the hospital's budget with
    `ledger.over_budget`. Else as `judge`, `require_manifest`, `examine` and
    `ApprovalKey.of`.
    """
    judged = _approvable(state, coordinator, item, accepted)
    site = state.config.site
    confirmed = confirmed_now(state, judged.manifest)
    payload = approval_payload(item.hash, site, confirmed)
    signature = key.of(judged.manifest, site).sign(APPROVAL_DOMAIN, payload)
    return _keep(state, coordinator, item, judged, Approval(confirmed, signature))


def take(
    state: State, coordinator: Coordinator, item: WaitingManifest, given: Approval, accepted: Collection[str]
) -> Approved:
    """As `approve`, with a signature that was made on another machine.

    Raises: also `approval.online_key` or `sealing.bad_signature`.
    """
    judged = _approvable(state, coordinator, item, accepted)
    verify_approval(judged.manifest, state.config.site, given, "sealing.bad_signature")
    return _keep(state, coordinator, item, judged, given)


def require_accepted(weak: Collection[Weakness], accepted: Collection[str]) -> tuple[str, ...]:
    """The names of the weaknesses, all of which a person has accepted.

    Raises: `approval.weak`.
    """
    names = tuple(weakness.name for weakness in weak)
    missing = [name for name in names if name not in accepted]
    if missing:
        raise Refusal("approval.weak", names=", ".join(missing), accept=" --accept ".join(missing))
    return names


@dataclass(frozen=True)
class _Judged:
    manifest: Manifest
    dataset: Dataset
    accepted: tuple[str, ...]


def _approvable(
    state: State, coordinator: Coordinator, item: WaitingManifest, accepted: Collection[str]
) -> _Judged:
    manifest, dataset = judge(state, item)
    require_manifest(state, coordinator, manifest)
    require_approvable(state, manifest)
    _, found, weak = examine(state, coordinator, manifest, dataset)
    names = require_accepted(weak, accepted)
    require_budget(found)
    return _Judged(manifest, dataset, names)


def _keep(
    state: State, coordinator: Coordinator, item: WaitingManifest, judged: _Judged, given: Approval
) -> Approved:
    """Count the run, keep the copy, post the signature. What another approval has told since `_approvable`
    is judged under the ledger's lock."""
    run = used_here(state, judged.manifest, judged.dataset)
    with changing(state) as book:
        found = outlook(book, run)
        require_accepted(found.weak, judged.accepted)
        require_budget(found)
        if all(used.manifest != run.manifest for used in book.used):
            book.used.append(run)
    now = int(time.time())
    approved = Approved(item.text, item.hash, given.confirmed, given.signature, now, judged.accepted)
    store(state, coordinator, approved)
    return approved


def store(state: State, coordinator: Coordinator, approved: Approved) -> None:
    """Keep the copy that `run` will enforce, then post the approval. Its run is counted before."""
    write_private(_path(state, approved.hash), msgspec.json.encode(approved))
    body = SignatureBody(approved.hash, approved.confirmed, approved.signature, approved.sweep)
    coordinator.post(APPROVE, body)


def approved_manifest(state: State, manifest_hash: str) -> Manifest:
    """The manifest with this hash, if it was approved here, from the copy that was kept.

    Raises: `run.not_approved_here`, or `agent.state_damaged` if the copy is not what was signed.
    """
    fingerprint = printable(manifest_hash, 64)
    if len(manifest_hash) != 64 or not manifest_hash.isalnum():
        raise Refusal("run.not_approved_here", fingerprint=fingerprint)
    try:
        approved = msgspec.json.decode(_path(state, manifest_hash).read_bytes(), type=Approved)
        manifest = parse(approved.manifest.encode())
        member = manifest.site(state.config.site)
        if member.approval_key not in (state.config.approval_key, *state.config.former_keys):
            raise Refusal("approval.key_mismatch")
        verify_approval(manifest, member.id, approved.given, "sealing.bad_signature")
    except FileNotFoundError as error:
        raise Refusal("run.not_approved_here", fingerprint=fingerprint) from error
    except (msgspec.DecodeError, Refusal) as error:
        raise Refusal("agent.state_damaged", file=f"approved/{manifest_hash}.json") from error
    if manifest.hash != manifest_hash:
        raise Refusal("agent.state_damaged", file=f"approved/{manifest_hash}.json")
    return manifest


def last_approved(state: State, manifest_hash: str) -> Approved | None:
    """What was approved here last, apart from the manifest with this hash. A damaged copy is refused."""
    others = [approved_copy(state, other) for other in approved_hashes(state) if other != manifest_hash]
    return max(others, key=lambda approved: approved.at, default=None)


def approved_copy(state: State, manifest_hash: str) -> Approved:
    """The copy that was kept of an approval.

    Raises: as `approved_manifest`.
    """
    approved_manifest(state, manifest_hash)
    return msgspec.json.decode(_path(state, manifest_hash).read_bytes(), type=Approved)


def approved_hashes(state: State) -> list[str]:
    """The hashes of all manifests that were approved here."""
    return sorted(path.stem for path in state.approved.glob("*.json"))


def _path(state: State, manifest_hash: str) -> Path:
    return state.approved / f"{manifest_hash}.json"
