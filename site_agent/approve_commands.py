"""The command `approve`: a person reads what waits for this site, says yes to what is weak, and signs."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from contracts.refusal import Refusal
from contracts.releases import SERVE
from site_agent import approvals, release_commands, releases, signing_commands, sweeps
from site_agent.approval_key import ApprovalKey
from site_agent.approval_key_commands import add_key_options, key_of
from site_agent.approve_questions import ask_members, ask_weaknesses, typed
from site_agent.enrolment import connect
from site_agent.formatting import printable
from site_agent.manifest_text import describe
from site_agent.proofs import require_manifest
from site_agent.state import State
from site_agent.sweeps import describe_sweep, root_of
from site_agent.transport import Coordinator
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]


def add_approve_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people."""
    command = commands.add_parser(
        "approve", help=_("read the runs and releases that wait for this site, and sign")
    )
    command.add_argument("--hash", metavar="FINGERPRINT", help=_("approve this one"))
    command.add_argument(
        "--yes", action="store_true", help=_("do not ask; needs --hash with all 64 characters")
    )
    command.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="WEAKNESS",
        help=_("accept this weakness of the manifest, by the name that `approve` shows; can be repeated"),
    )
    command.add_argument(
        "--confirm-members",
        action="store_true",
        help=_("the fingerprints of the members' keys were compared with what came by another channel"),
    )
    add_key_options(command)
    elsewhere = command.add_mutually_exclusive_group()
    elsewhere.add_argument(
        "--export", type=Path, metavar="FILE", help=_("write what waits, to be signed on another machine")
    )
    elsewhere.add_argument(
        "--sign", type=Path, metavar="FILE", help=_("on that machine: read it and sign; writes FILE.signed")
    )
    elsewhere.add_argument(
        "--import", type=Path, dest="signed", metavar="FILE.signed", help=_("send what was signed there")
    )
    command.add_argument(
        "--release-key", metavar="FINGERPRINT", help=_("with --sign: of FedSlice's makers, as for `enrol`")
    )
    command.set_defaults(run=lambda chosen: run_approve(chosen, say))


def run_approve(chosen: argparse.Namespace, say: Say) -> int:
    """`approve`: show what waits, runs and releases, and sign what the person names by its fingerprint."""
    if chosen.yes and not chosen.hash:
        raise Refusal("approval.needs_terminal")
    if chosen.sign:
        return signing_commands.run_sign(chosen, say)
    state = State.open(chosen.state)
    if chosen.export:
        return signing_commands.run_export(state, chosen, say)
    if chosen.signed:
        return signing_commands.run_import(state, chosen, say)
    key = key_of(state, chosen)
    with contextlib.closing(connect(state)) as coordinator:
        groups, items = sweeps.grouped(approvals.waiting(coordinator))
        asked = release_commands.waiting(state, coordinator, chosen.hash, say)
        if chosen.hash:
            named = chosen.hash.lower()
            items += [item for group in groups for item in group.items]  # one of them alone
            items = [item for item in items if item.hash.startswith(named)]
            groups = [group for group in groups if root_of(group).startswith(named)]
            if (
                len(items) + len(asked) + len(groups) != 1
                or len(chosen.hash) < approvals.TYPED
                or (chosen.yes and len(chosen.hash) < 64)
            ):
                raise Refusal("approval.unknown", fingerprint=printable(chosen.hash, 64))
        waiting = [item for item in items if not item.signed or chosen.hash]
        for item in items:
            if item.signed and not chosen.hash:
                say(
                    _('"%(study)s" is approved already (%(value)s…).')
                    % {"study": item.study, "value": printable(item.hash[:16])}
                )
        if not waiting and not asked and not groups:
            say(_("Nothing waits for this site's approval."))
        for item in waiting:
            _approve(state, coordinator, item, key, chosen, say)
        for group in groups:
            _approve_sweep(state, coordinator, group, key, chosen, say)
        for judged in asked:
            say(releases.describe(judged))
            say("")
            if not chosen.yes and not typed(judged.fingerprint, say):
                continue
            releases.approve(state, coordinator, judged, key)
            what = _("serving") if judged.rule == SERVE else _("release")
            say(
                _("Signed with this site's approval key: %(what)s of %(fingerprint)s")
                % {"what": what, "fingerprint": judged.fingerprint}
            )
            say(releases.what_next(judged))
    return 0


def _approve(
    state: State,
    coordinator: Coordinator,
    item: approvals.WaitingManifest,
    key: ApprovalKey,
    chosen: argparse.Namespace,
    say: Say,
) -> None:
    manifest, dataset = approvals.judge(state, item)
    require_manifest(state, coordinator, manifest)
    say(describe(manifest, dataset, state.config.site))
    _say_declined([item], say)
    ask_members(state, manifest, chosen, say)
    known, found, weak = approvals.examine(state, coordinator, manifest, dataset)
    accepted = ask_weaknesses(manifest, known, found, weak, chosen, say)
    if accepted is None:
        return
    if not chosen.yes and not typed(manifest.hash, say):
        return
    approved = approvals.approve(state, coordinator, item, key, accepted)
    say(_("Approved and signed with this site's approval key: %(hash)s") % {"hash": approved.hash})
    say(_("`python -m site_agent run` takes part as soon as all sites have approved."))


def _approve_sweep(
    state: State,
    coordinator: Coordinator,
    group: sweeps.AskedSweep,
    key: ApprovalKey,
    chosen: argparse.Namespace,
    say: Say,
) -> None:
    judged = sweeps.judge(state, group)
    for manifest in judged.manifests:
        require_manifest(state, coordinator, manifest)
    known, found, weak, signed = sweeps.examine(state, coordinator, judged)
    say(describe_sweep(judged, signed, state.config.site))
    _say_declined(group.items, say)
    if len(group.items) < group.of.points:
        say(
            _("  %(value)s more points of this sweep are not asked for now.")
            % {"value": group.of.points - len(group.items)}
        )
    ask_members(state, judged.manifests[0], chosen, say)
    accepted = ask_weaknesses(judged.manifests[0], known, found, weak, chosen, say)
    if accepted is None:
        return
    if not chosen.yes and not typed(judged.root, say):
        return
    approved = sweeps.approve(state, coordinator, group, key, accepted)
    say(
        _("Approved %(approved)s runs by one signature of this site's approval key: %(root)s")
        % {"approved": len(approved), "root": judged.root}
    )
    say(_("`python -m site_agent run` takes part as soon as all sites have approved."))


def _say_declined(items: Sequence[approvals.WaitingManifest], say: Say) -> None:
    """Somebody of this hospital has said no, in the browser or here; a signature takes it back."""
    if any(item.declined for item in items):
        say("")
        say(
            _("DECLINED: your hospital has declined this, says the coordinator. A signature takes that back.")
        )
        say(_("  Why, and what was answered: python -m site_agent thread"))
