"""A sweep that asks for one signature: its points are judged one by one, shown as one, and signed by the root
of their tree.

The coordinator says which manifests belong together, and is not believed in it: they may differ in nothing
but what the person is shown, and the tree is made here, of the manifests that were judged here.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from contracts.agents_api.studies import SweepItem
from contracts.approvals import SWEEP_DOMAIN, Approval, Sweep, sweep_payload, verify_approval
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.releases import SERVE
from contracts.sweep_tree import SweepTree
from manifest_summary.sweep import points, sweep_facts, terms, unlike
from site_agent import approvals
from site_agent.approval_key import ApprovalKey
from site_agent.approvals import Approved, WaitingManifest
from site_agent.datasets.catalogue import Catalogue, Dataset
from site_agent.formatting import printable
from site_agent.ledger.accounting import SUBTRACTS, UNBOUNDED, Outlook, outlook, require_budget
from site_agent.ledger.book import Used, changing, read_book
from site_agent.manifest_text import describe, section_lines
from site_agent.members import confirmed_now, require_approvable
from site_agent.proofs import require_manifest
from site_agent.state import State
from site_agent.transport import Coordinator
from site_agent.weaknesses import Known, Weakness
from translations.catalogues import words

_ = words("site_agent")


@dataclass(frozen=True)
class AskedSweep:
    """The points of a sweep that wait, as the coordinator tells of them, in the order of their hashes."""

    of: SweepItem
    items: tuple[WaitingManifest, ...]


@dataclass(frozen=True)
class JudgedSweep:
    """Points that this site can sign as one: manifests in the order of their tree."""

    name: str
    releases: int
    manifests: tuple[Manifest, ...]
    dataset: Dataset
    tree: SweepTree

    @property
    def root(self) -> str:
        """What a person compares and types."""
        return self.tree.root


def grouped(items: Sequence[WaitingManifest]) -> tuple[list[AskedSweep], list[WaitingManifest]]:
    """The sweeps of which two points or more wait, and what is asked alone."""
    by_sweep: dict[str, list[WaitingManifest]] = {}
    for item in items:
        if item.sweep is not None and not item.signed:
            by_sweep.setdefault(item.sweep.id, []).append(item)
    found = [
        AskedSweep(members[0].sweep, tuple(sorted(members, key=lambda one: one.hash)))
        for members in by_sweep.values()
        if len(members) > 1 and members[0].sweep is not None
    ]
    inside = {item.hash for asked in found for item in asked.items}
    return found, [item for item in items if item.hash not in inside]


def root_of(asked: AskedSweep) -> str:
    """By the hashes that the coordinator names; `judge` says whether they are right."""
    try:
        return SweepTree([item.hash for item in asked.items]).root
    except ValueError as error:
        raise Refusal("agent.bad_answer", fault="a manifest's hash is none") from error


def judge(state: State, asked: AskedSweep) -> JudgedSweep:
    """Each as `approvals.judge`.

    Raises: also `approval.sweep_differs`.
    """
    found = [approvals.judge(state, item) for item in asked.items]
    return judged_of(asked.of, [manifest for manifest, _dataset in found], found[0][1])


def judged_of(of: SweepItem, manifests: Sequence[Manifest], dataset: Dataset) -> JudgedSweep:
    """What differs between them is what a person is shown.

    Raises: `approval.sweep_differs`.
    """
    name = printable(of.name, 200)
    if what := unlike(manifests):
        raise Refusal("approval.sweep_differs", sweep=name, what=", ".join(what))
    if len({manifest.run for manifest in manifests}) < len(manifests):
        raise Refusal("approval.sweep_differs", sweep=name, what="two of them are one run")
    manifests = sorted(manifests, key=lambda one: one.hash)
    return JudgedSweep(
        name, of.releases, tuple(manifests), dataset, SweepTree([one.hash for one in manifests])
    )


def signed_terms(judged: JudgedSweep, rows: int, delta: float) -> Sweep:
    """What the signature states; `rows` are this site's training rows."""
    return terms(judged.manifests, rows, judged.root, judged.releases, delta)


def describe_sweep(judged: JudgedSweep, signed: Sweep, site: str) -> str:
    """What is the same in all, what differs, and what the one signature states."""
    table = points(judged.manifests)
    heads = (_("Run"), *table.heads)
    rows = sorted(
        ((one.run, *(printable(value, 40) for value in values))
         for one, values in zip(judged.manifests, table.rows, strict=True)),
        key=lambda row: row[1:],
    )  # fmt: skip
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(len(heads))]
    lines = [
        _('Sweep "%(name)s": %(manifests)s runs. The first of them, as it stands for all:')
        % {"name": judged.name, "manifests": len(judged.manifests)},
        "",
        describe(judged.manifests[0], judged.dataset, site),
        "",
        *section_lines(sweep_facts(signed, judged.manifests)),
        "",
        _("What differs"),
        *(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (heads, *rows)
        ),
        "",
        _("Fingerprint of the sweep: of all its runs, and nothing else"),
        f"  {judged.root}",
    ]
    return "\n".join(lines)


def examine(
    state: State, coordinator: Coordinator, judged: JudgedSweep
) -> tuple[Known, Outlook, list[Weakness], Sweep]:
    """As `approvals.examine`, over all runs, and what the signature would state."""
    known, _outlook, weak = approvals.examine(state, coordinator, judged.manifests[0], judged.dataset)
    runs, rows = _runs(state, judged), Catalogue(state).training_rows(judged.dataset)
    found = outlook(read_book(state), *runs)
    others = [one for one in weak if one.name not in (UNBOUNDED, SUBTRACTS)]
    signed = signed_terms(judged, rows, found.budget.delta)
    return known, found, [*others, *found.weak], signed


def approve(
    state: State, coordinator: Coordinator, asked: AskedSweep, key: ApprovalKey, accepted: Collection[str]
) -> list[Approved]:
    """Judge once more, sign the root, count every run, keep each copy, post each.

    Raises: as `approvals.approve` and `judge`.
    """
    judged, names, signed = _approvable(state, coordinator, asked, accepted)
    site, confirmed = state.config.site, confirmed_now(state, judged.manifests[0])
    own = key.of(judged.manifests[0], site)
    signature = own.sign(SWEEP_DOMAIN, sweep_payload(signed, site, confirmed))
    return _keep(state, coordinator, asked, judged, Approval(confirmed, signature), signed, names)


def take(
    state: State,
    coordinator: Coordinator,
    asked: AskedSweep,
    given: Approval,
    signed: Sweep,
    accepted: Collection[str],
) -> list[Approved]:
    """As `approve`, with a signature that was made on another machine."""
    judged, names, own = _approvable(state, coordinator, asked, accepted)
    if signed != own:
        raise Refusal("approval.not_in_sweep", site=state.config.site)
    return _keep(state, coordinator, asked, judged, given, signed, names)


def _approvable(
    state: State, coordinator: Coordinator, asked: AskedSweep, accepted: Collection[str]
) -> tuple[JudgedSweep, tuple[str, ...], Sweep]:
    judged = judge(state, asked)
    for manifest in judged.manifests:
        require_manifest(state, coordinator, manifest)
    require_approvable(state, judged.manifests[0])
    _known, found, weak, signed = examine(state, coordinator, judged)
    names = approvals.require_accepted(weak, accepted)
    require_budget(found)
    return judged, names, signed


def _keep(
    state: State,
    coordinator: Coordinator,
    asked: AskedSweep,
    judged: JudgedSweep,
    given: Approval,
    signed: Sweep,
    accepted: tuple[str, ...],
) -> list[Approved]:
    """All runs are counted before the first approval leaves."""
    kept, now = [], int(time.time())
    for item, manifest in zip(asked.items, judged.manifests, strict=True):
        place = judged.tree.place(signed, item.hash)
        approval = msgspec.structs.replace(given, sweep=place)
        verify_approval(manifest, state.config.site, approval, "sealing.bad_signature")
        confirmed, signature = approval.confirmed, approval.signature
        kept.append(Approved(item.text, item.hash, confirmed, signature, now, accepted, place))
    runs = _runs(state, judged)
    with changing(state) as book:
        found = outlook(book, *runs)
        approvals.require_accepted(found.weak, accepted)
        require_budget(found)
        counted = {used.manifest for used in book.used}
        book.used.extend(run for run in runs if run.manifest not in counted)
    for approved in kept:
        approvals.store(state, coordinator, approved)
    return kept


def _runs(state: State, judged: JudgedSweep) -> list[Used]:
    return [approvals.used_here(state, manifest, judged.dataset) for manifest in judged.manifests]


def next_number(state: State, manifest: Manifest, rule: str) -> int | None:
    """The how manieth result of its sweep this run's release is; None where it was approved alone, or is to
    be served. From now on the number is this run's.

    Raises: `release.sweep_used_up`.
    """
    place = approvals.approved_copy(state, manifest.hash).sweep
    if place is None or rule == SERVE:
        return None
    with changing(state) as book:
        let_out = book.released.setdefault(place.signed.root, [])
        if manifest.hash not in let_out:
            if len(let_out) >= place.signed.releases:
                names = ", ".join(one[:16] for one in let_out)
                raise Refusal("release.sweep_used_up", releases=place.signed.releases, runs=names)
            let_out.append(manifest.hash)
        return let_out.index(manifest.hash) + 1
