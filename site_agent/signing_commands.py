"""`approve --export`, `--sign`, `--import`: the approval key stays on another machine than the agent's."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

import msgspec

from contracts.agents_api.endpoint import NOT_GIVEN
from contracts.agents_api.releases import ReleaseItem
from contracts.approvals import Approval, approval_payload
from contracts.canonical import canonical
from contracts.fingerprint import typed_fingerprint
from contracts.manifest import APPROVAL_DOMAIN, Manifest
from contracts.refusal import Refusal
from contracts.releases import allowed, approve_release, verify_release_approval
from site_agent import approvals, release_commands, releases, signing_sweeps, sweeps
from site_agent.approval_key import ApprovalKey
from site_agent.approval_key_commands import key_of
from site_agent.approve_questions import ask_members, ask_weaknesses, typed
from site_agent.datasets.catalogue import Catalogue
from site_agent.enrolment import connect
from site_agent.files import write_private
from site_agent.formatting import printable
from site_agent.ledger.accounting import require_budget
from site_agent.ledger.wording import describe_outlook
from site_agent.manifest_text import describe, describe_code
from site_agent.members import (
    confirmed_now,
    describe_members,
    require_approvable,
    require_enough_for_release,
)
from site_agent.proofs import require_manifest
from site_agent.signing_requests import (
    ACCEPTED,
    AskedOutcome,
    AskedSignature,
    SignedAnswer,
    accepted_payload,
    asked_of,
    export,
    known_at_desk,
    outlook_at_desk,
    read_request,
    read_signed,
)
from site_agent.state import Config, State
from site_agent.sweeps import next_number
from site_agent.transport import Coordinator
from site_agent.weaknesses import of_labels, weaknesses
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]


def run_export(state: State, chosen: argparse.Namespace, say: Say) -> int:
    """`approve --export`: one manifest or release that waits, all that its summary needs, in a file."""
    beginning = (chosen.hash or "").lower()
    with contextlib.closing(connect(state)) as coordinator:
        groups, items = sweeps.grouped(approvals.waiting(coordinator))
        items += [item for group in groups for item in group.items if beginning]  # one of them alone
        items = [item for item in items if not item.signed and item.hash.startswith(beginning)]
        groups = [group for group in groups if sweeps.root_of(group).startswith(beginning)]
        asked = release_commands.waiting(state, coordinator, chosen.hash, say)
        if (found := len(items) + len(asked) + len(groups)) != 1:
            raise Refusal("signing_request.which", found=found)
        if groups:
            out = signing_sweeps.ask(state, coordinator, groups[0], say)
        elif items:
            out = _of_manifest(state, coordinator, items[0], say)
        else:
            out = _of_release(state, asked[0], say)
    export(state, out, chosen.export)
    say("")
    say(
        _("Written to %(export)s. On the machine that has the approval key:")
        % {"export": printable(chosen.export, 200)}
    )
    say(
        _("  python -m site_agent approve --sign %(name)s --approval-key FILE")
        % {"name": printable(chosen.export.name, 200)}
    )
    return 0


def run_sign(chosen: argparse.Namespace, say: Say) -> int:
    """`approve --sign`: no network, no enrolment; the state folder only keeps who was confirmed here."""
    state = State.open(chosen.state)
    if chosen.approval_key is None and not state.enrolled:
        raise Refusal("approval_key.missing", file=str(state.approval_file))
    key = key_of(state, chosen)
    asked, manifest = read_request(chosen.sign, key.file)
    if not state.enrolled:
        member = manifest.site(asked.site)
        state.assume(Config("", asked.site, member.name, member.approval_key))
    if state.config.site != asked.site:
        raise Refusal("signing_request.other_site", site=asked.site)
    if chosen.hash and chosen.hash.lower() != _fingerprint(asked, manifest):
        raise Refusal("approval.unknown", fingerprint=printable(chosen.hash, 64))
    sign = _sign_manifest if asked.release is None else _sign_release
    sign = sign if asked.sweep is None else signing_sweeps.sign
    signed = sign(state, asked, manifest, key, chosen, say)
    if signed is None:
        return 0
    file = chosen.sign.with_name(f"{chosen.sign.name}.signed")
    write_private(file, msgspec.json.encode(signed))
    say(
        _("Signed with this site's approval key: %(file)s. On the agent's machine:")
        % {"file": printable(file, 200)}
    )
    say(_("  python -m site_agent approve --import %(name)s") % {"name": printable(file.name, 200)})
    return 0


def run_import(state: State, chosen: argparse.Namespace, say: Say) -> int:
    """`approve --import`: judged here once more, then kept and sent."""
    signed = read_signed(chosen.signed)
    with contextlib.closing(connect(state)) as coordinator:
        if signed.stated is not None:
            return signing_sweeps.take(state, coordinator, signed, chosen, say)
        if signed.approval is not None:
            found = [item for item in approvals.waiting(coordinator) if item.hash == signed.manifest]
            if not found:
                raise Refusal("approval.unknown", fingerprint=signed.manifest)
            manifest, _dataset = approvals.judge(state, found[0])
            own_site = manifest.site(state.config.site)
            said = accepted_payload(manifest.hash, own_site.id, signed.accepted)
            own_site.verify_decision(ACCEPTED, said, signed.acceptance or "", "sealing.bad_signature")
            ask_members(state, manifest, chosen, say)
            approvals.take(state, coordinator, found[0], signed.approval, signed.accepted)
            say(
                _("Approved with the signature that was made elsewhere: %(manifest)s")
                % {"manifest": signed.manifest}
            )
            return 0
        for judged in release_commands.waiting(state, coordinator, signed.fingerprint or "-", say):
            if judged.manifest.hash == signed.manifest and signed.release_approval is not None:
                require_enough_for_release(state, judged.manifest)
                own = releases.own_key(state, judged)
                number = next_number(state, judged.manifest, judged.rule)
                if (signed.release_approval.hpke_key, signed.release_approval.number) != (own, number):
                    raise Refusal("release.bad_approval", site=state.config.site)
                verify_release_approval(
                    judged.manifest,
                    judged.parameters,
                    state.config.site,
                    signed.release_approval,
                    judged.rule,
                )
                releases.send(coordinator, judged, signed.release_approval)
                say(
                    _("Ordered with the signature that was made elsewhere: %(fingerprint)s")
                    % {"fingerprint": judged.fingerprint}
                )
                say(releases.what_next(judged))
                return 0
    raise Refusal("approval.unknown", fingerprint=signed.manifest)


def _of_manifest(
    state: State, coordinator: Coordinator, item: approvals.WaitingManifest, say: Say
) -> AskedSignature:
    manifest, dataset = approvals.judge(state, item)
    require_manifest(state, coordinator, manifest)
    known, found, weak = approvals.examine(state, coordinator, manifest, dataset)
    say(describe(manifest, dataset, state.config.site))
    say("")
    say(describe_members(state, manifest))
    say("")
    say(describe_outlook(found))
    say("")
    say(describe_code(manifest, known, weak))
    require_budget(found)
    return asked_of(state, item.text, manifest, dataset, known, found)


def _of_release(state: State, judged: releases.JudgedRelease, say: Say) -> AskedSignature:
    say(releases.describe(judged))
    manifest, item = judged.manifest, judged.asked
    dataset = Catalogue(state).referred(manifest.site(state.config.site).dataset)
    own = releases.own_key(state, judged)
    number = next_number(state, manifest, judged.rule)
    asked = AskedOutcome(judged.receipt, judged.rule, own, item.found, item.needed, number)
    last = approvals.approved_copy(state, manifest.hash)
    return AskedSignature(
        1, state.config.site, canonical(manifest).decode(), dataset, None, None, last, None, asked
    )


def _sign_manifest(
    state: State,
    asked: AskedSignature,
    manifest: Manifest,
    key: ApprovalKey,
    chosen: argparse.Namespace,
    say: Say,
) -> SignedAnswer | None:
    release_key = None if chosen.release_key is None else typed_fingerprint(chosen.release_key)
    known = known_at_desk(asked, manifest, release_key)
    found = outlook_at_desk(asked)
    labels = of_labels(manifest.model, asked.dataset.card.labels)
    weak = [*weaknesses(manifest, known), *labels, *found.weak]
    say(describe(manifest, asked.dataset, asked.site))
    ask_members(state, manifest, chosen, say)
    accepted = ask_weaknesses(manifest, known, found, weak, chosen, say)
    if accepted is None or (not chosen.yes and not typed(manifest.hash, say)):
        return None
    require_approvable(state, manifest)
    names = approvals.require_accepted(weak, accepted)
    require_budget(found)
    confirmed = confirmed_now(state, manifest)
    payload = approval_payload(manifest.hash, asked.site, confirmed)
    own = key.of(manifest, asked.site)
    acceptance = own.sign(ACCEPTED, accepted_payload(manifest.hash, asked.site, names))
    given = Approval(confirmed, own.sign(APPROVAL_DOMAIN, payload))
    return SignedAnswer(1, manifest.hash, approval=given, accepted=names, acceptance=acceptance)


def _sign_release(
    state: State,
    asked: AskedSignature,
    manifest: Manifest,
    key: ApprovalKey,
    chosen: argparse.Namespace,
    say: Say,
) -> SignedAnswer | None:
    judged = _judged(asked, manifest)
    assert asked.release is not None
    say(releases.describe(judged))
    ask_members(state, manifest, chosen, say)
    say("")
    if not chosen.yes and not typed(judged.fingerprint, say):
        return None
    require_enough_for_release(state, manifest)
    own = key.of(manifest, asked.site)
    known = confirmed_now(state, manifest)
    sealed_to = asked.release.hpke_key
    number = asked.release.number
    release_approval = approve_release(
        manifest, judged.parameters, asked.site, own, known, sealed_to, judged.rule, number
    )
    return SignedAnswer(1, manifest.hash, fingerprint=judged.fingerprint, release_approval=release_approval)


def _judged(asked: AskedSignature, manifest: Manifest) -> releases.JudgedRelease:
    release = asked.release
    assert release is not None
    receipt = release.receipt
    if (receipt.receipt.manifest, receipt.receipt.run) != (manifest.hash, manifest.run):
        raise Refusal("release.wrong_receipt")
    asked_release = ReleaseItem(
        manifest.run, manifest.study, manifest.hash, release.rule, "waiting", msgspec.Raw(b"{}"),
        release.found, release.needed, False, False, NOT_GIVEN, None,
    )  # fmt: skip
    allowed(manifest, release.rule)
    return releases.JudgedRelease(asked_release, manifest, receipt)


def _fingerprint(asked: AskedSignature, manifest: Manifest) -> str:
    if asked.sweep is not None:
        return signing_sweeps.judged_at_desk(asked, manifest).root
    return manifest.hash if asked.release is None else _judged(asked, manifest).fingerprint
