"""A sweep's one signature, made on another machine than the agent's: all its points are in the request, and
the tree is made there again, of what is shown there."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import msgspec

from contracts.approvals import SWEEP_DOMAIN, Approval, sweep_payload
from contracts.fingerprint import typed_fingerprint
from contracts.manifest import Manifest, parse
from contracts.refusal import Refusal
from site_agent import approvals, sweeps
from site_agent.approval_key import ApprovalKey
from site_agent.approve_questions import ask_members, ask_weaknesses, typed
from site_agent.ledger.accounting import require_budget
from site_agent.ledger.wording import describe_outlook
from site_agent.manifest_text import describe_code
from site_agent.members import confirmed_now, describe_members, require_approvable
from site_agent.proofs import require_manifest
from site_agent.signing_requests import (
    ACCEPTED,
    AskedSignature,
    SignedAnswer,
    accepted_payload,
    asked_of,
    known_at_desk,
    outlook_at_desk,
)
from site_agent.state import State
from site_agent.transport import Coordinator
from site_agent.weaknesses import of_labels, weaknesses
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]


def ask(state: State, coordinator: Coordinator, group: sweeps.AskedSweep, say: Say) -> AskedSignature:
    """The request, on the agent's machine.

    Raises: as `sweeps.approve`.
    """
    judged = sweeps.judge(state, group)
    for manifest in judged.manifests:
        require_manifest(state, coordinator, manifest)
    known, found, weak, stated = sweeps.examine(state, coordinator, judged)
    first, texts = judged.manifests[0], [item.text for item in group.items]
    say(sweeps.describe_sweep(judged, stated, state.config.site))
    for lines in (describe_members(state, first), describe_outlook(found), describe_code(first, known, weak)):
        say("")
        say(lines)
    require_budget(found)
    asked = asked_of(state, texts[0], first, judged.dataset, known, found)
    return msgspec.structs.replace(asked, sweep=group.of, others=tuple(texts[1:]), stated=stated)


def sign(
    state: State,
    asked: AskedSignature,
    manifest: Manifest,
    key: ApprovalKey,
    chosen: argparse.Namespace,
    say: Say,
) -> SignedAnswer | None:
    """On the machine that has the key; None where the person left it."""
    judged, stated = judged_at_desk(asked, manifest), asked.stated
    assert stated is not None
    release_key = None if chosen.release_key is None else typed_fingerprint(chosen.release_key)
    known, found = known_at_desk(asked, manifest, release_key), outlook_at_desk(asked)
    labels = of_labels(manifest.model, asked.dataset.card.labels)
    weak = [*weaknesses(manifest, known), *labels, *found.weak]
    say(sweeps.describe_sweep(judged, stated, asked.site))
    ask_members(state, manifest, chosen, say)
    accepted = ask_weaknesses(manifest, known, found, weak, chosen, say)
    if accepted is None or (not chosen.yes and not typed(judged.root, say)):
        return None
    require_approvable(state, manifest)
    names = approvals.require_accepted(weak, accepted)
    require_budget(found)
    confirmed, own = confirmed_now(state, manifest), key.of(manifest, asked.site)
    acceptance = own.sign(ACCEPTED, accepted_payload(judged.root, asked.site, names))
    given = Approval(confirmed, own.sign(SWEEP_DOMAIN, sweep_payload(stated, asked.site, confirmed)))
    return SignedAnswer(1, judged.root, approval=given, accepted=names, acceptance=acceptance, stated=stated)


def judged_at_desk(asked: AskedSignature, manifest: Manifest) -> sweeps.JudgedSweep:
    """Raises: `approval.sweep_differs`, a `manifest.` code, or `signing_request.altered` where what is
    to be stated is of other runs than those.
    """
    assert asked.sweep is not None and asked.stated is not None
    manifests = [manifest, *(parse(text.encode()) for text in asked.others)]
    judged = sweeps.judged_of(asked.sweep, manifests, asked.dataset)
    if (asked.stated.root, asked.stated.runs) != (judged.root, len(manifests)):
        raise Refusal("signing_request.altered", file="the request")
    return judged


def take(
    state: State, coordinator: Coordinator, signed: SignedAnswer, chosen: argparse.Namespace, say: Say
) -> int:
    """What comes back, judged on the agent's machine once more, then kept and sent."""
    if signed.approval is None or signed.stated is None:
        raise Refusal("signing_request.malformed", file=str(chosen.signed), fault="it lacks the approval")
    groups, _alone = sweeps.grouped(approvals.waiting(coordinator))
    found = [group for group in groups if sweeps.root_of(group) == signed.manifest]
    if not found:
        raise Refusal("approval.unknown", fingerprint=signed.manifest)
    judged = sweeps.judge(state, found[0])
    first = judged.manifests[0]
    own_site = first.site(state.config.site)
    said = accepted_payload(judged.root, own_site.id, signed.accepted)
    own_site.verify_decision(ACCEPTED, said, signed.acceptance or "", "sealing.bad_signature")
    ask_members(state, first, chosen, say)
    kept = sweeps.take(state, coordinator, found[0], signed.approval, signed.stated, signed.accepted)
    say(
        _("Approved %(kept)s runs by the one signature that was made elsewhere: %(root)s")
        % {"kept": len(kept), "root": judged.root}
    )
    return 0
