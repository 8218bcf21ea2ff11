"""The command `approve`: a person reads what waits for this site, says yes to what is weak, and signs."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from typing import Any

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from site_agent import approvals, release_commands, releases
from site_agent.approval_key import ApprovalKey
from site_agent.approval_key_commands import add_key_options, key_of
from site_agent.datasets.catalogue import Dataset
from site_agent.enrolment import connect
from site_agent.ledger.wording import describe_outlook
from site_agent.members import confirm, describe_members, unconfirmed
from site_agent.proofs import require_manifest
from site_agent.reading import describe, describe_code
from site_agent.state import State
from site_agent.transport import Coordinator
from site_agent.words import printable

Say = Callable[[str], None]


def add_approve_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people."""
    command = commands.add_parser(
        "approve", help="read the runs and releases that wait for this site, and sign"
    )
    command.add_argument("--hash", metavar="FINGERPRINT", help="approve this one")
    command.add_argument("--yes", action="store_true", help="do not ask; needs --hash with all 64 characters")
    command.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="WEAKNESS",
        help="accept this weakness of the manifest, by the name that `approve` shows; can be repeated",
    )
    command.add_argument(
        "--confirm-members",
        action="store_true",
        help="the fingerprints of the members' keys were compared with what came by another channel",
    )
    add_key_options(command)
    command.set_defaults(run=lambda chosen: run_approve(chosen, say))


def run_approve(chosen: argparse.Namespace, say: Say) -> int:
    """`approve`: show what waits, runs and releases, and sign what the person names by its fingerprint."""
    state = State.open(chosen.state)
    if chosen.yes and not chosen.hash:
        raise Refusal("approval.needs_terminal")
    key = key_of(state, chosen)
    with contextlib.closing(connect(state)) as coordinator:
        items = approvals.waiting(coordinator)
        asked = release_commands.waiting(state, coordinator, chosen.hash, say)
        if chosen.hash:
            items = [item for item in items if item.hash.startswith(chosen.hash.lower())]
            if (
                len(items) + len(asked) != 1
                or len(chosen.hash) < approvals.TYPED
                or (chosen.yes and len(chosen.hash) < 64)
            ):
                raise Refusal("approval.unknown", fingerprint=printable(chosen.hash, 64))
        waiting = [item for item in items if not item.signed or chosen.hash]
        for item in items:
            if item.signed and not chosen.hash:
                say(f'"{item.study}" is approved already ({printable(item.hash[:16])}…).')
        if not waiting and not asked:
            say("Nothing waits for this site's approval.")
        for item in waiting:
            _approve(state, coordinator, item, key, chosen, say)
        for judged in asked:
            say(releases.describe(judged))
            say("")
            if not chosen.yes and not _typed(judged.fingerprint, say):
                continue
            releases.order(state, coordinator, judged, key)
            say(f"Signed with this site's approval key: release of {judged.fingerprint}")
            say(releases.what_next(judged))
    return 0


def _approve(
    state: State,
    coordinator: Coordinator,
    item: approvals.Waiting,
    key: ApprovalKey,
    chosen: argparse.Namespace,
    say: Say,
) -> None:
    manifest, dataset = approvals.judge(state, item)
    require_manifest(state, coordinator, manifest)
    say(describe(manifest, dataset, state.config.site))
    _members(state, manifest, chosen, say)
    accepted = _weaknesses(state, coordinator, manifest, dataset, chosen, say)
    if accepted is None:
        return
    if not chosen.yes and not _typed(manifest.hash, say):
        return
    approved = approvals.approve(state, coordinator, item, key, accepted)
    say(f"Approved and signed with this site's approval key: {approved.hash}")
    say("`python -m site_agent run` takes part as soon as all sites have approved.")


def _members(state: State, manifest: Manifest, chosen: argparse.Namespace, say: Say) -> None:
    """Show whose keys the manifest names; who is new is confirmed by an option or one typed yes."""
    say("")
    say(describe_members(state, manifest))
    strangers = unconfirmed(state, manifest)
    if not strangers:
        return
    if chosen.confirm_members or (
        not chosen.yes
        and _says_yes("Have you compared the fingerprints that are not confirmed with such a letter or call?")
    ):
        confirm(state, strangers)
        say(f"Confirmed: {', '.join(printable(member.name, 60) for member in strangers)}.")


def _weaknesses(
    state: State,
    coordinator: Coordinator,
    manifest: Manifest,
    dataset: Dataset,
    chosen: argparse.Namespace,
    say: Say,
) -> set[str] | None:
    """The names that were accepted, by option or by a typed yes each; None where a person said no."""
    known, found, weak = approvals.examine(state, coordinator, manifest, dataset)
    say("")
    say(describe_outlook(found))
    say("")
    say(describe_code(manifest, known, weak))
    say("")
    accepted = set(chosen.accept)
    for weakness in weak:
        if weakness.name in accepted or chosen.yes:
            continue
        if not _says_yes(f"Do you accept {weakness.name}?"):
            say("Not approved. Nothing was signed.")
            return None
        accepted.add(weakness.name)
    return accepted


def _says_yes(question: str) -> bool:
    """Ask at the terminal; only the whole word counts."""
    if not sys.stdin.isatty():
        raise Refusal("approval.needs_terminal")
    return input(f"{question} Type yes to accept it, Enter to leave: ").strip().lower() == "yes"


def _typed(fingerprint: str, say: Say) -> bool:
    """Ask for the fingerprint's beginning. An empty line leaves this one out."""
    if not sys.stdin.isatty():
        raise Refusal("approval.needs_terminal")
    count = approvals.TYPED
    answer = input(
        f"To approve, type the first {count} characters of the fingerprint (Enter: not now): "
    ).strip()
    if not answer:
        say("Not approved.")
        return False
    if answer.lower() != fingerprint[:count]:
        raise Refusal("approval.wrong_fingerprint")
    return True
