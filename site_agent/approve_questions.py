"""What a person is asked before they sign, at the agent's machine or at another one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from site_agent.approvals import TYPED
from site_agent.formatting import printable
from site_agent.ledger.accounting import Outlook
from site_agent.ledger.wording import describe_outlook
from site_agent.manifest_text import describe_code
from site_agent.members import confirm, describe_members, unconfirmed
from site_agent.state import State
from site_agent.weaknesses import Known, Weakness
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]


def ask_members(state: State, manifest: Manifest, chosen: argparse.Namespace, say: Say) -> None:
    """Show whose keys the manifest names; who is new is confirmed by an option or one typed yes."""
    say("")
    say(describe_members(state, manifest))
    strangers = unconfirmed(state, manifest)
    if not strangers:
        return
    if chosen.confirm_members or (
        not chosen.yes
        and says_yes(
            _("Have you compared the fingerprints that are not confirmed with such a letter or call?")
        )
    ):
        confirm(state, strangers)
        say(
            _("Confirmed: %(names)s.")
            % {"names": ", ".join(printable(member.name, 60) for member in strangers)}
        )


def ask_weaknesses(
    manifest: Manifest,
    known: Known,
    found: Outlook,
    weak: Sequence[Weakness],
    chosen: argparse.Namespace,
    say: Say,
) -> set[str] | None:
    """The names that were accepted, by option or by a typed yes each; None where a person said no."""
    say("")
    say(describe_outlook(found))
    say("")
    say(describe_code(manifest, known, weak))
    say("")
    accepted = set(chosen.accept)
    for weakness in weak:
        if weakness.name in accepted or chosen.yes:
            continue
        if not says_yes(_("Do you accept %(name)s?") % {"name": weakness.name}):
            say(_("Not approved. Nothing was signed."))
            return None
        accepted.add(weakness.name)
    return accepted


def says_yes(question: str) -> bool:
    """Ask at the terminal; only the whole word counts."""
    if not sys.stdin.isatty():
        raise Refusal("approval.needs_terminal")
    return (
        input(_("%(question)s Type yes to accept it, Enter to leave: ") % {"question": question})
        .strip()
        .lower()
        == "yes"
    )


def typed(fingerprint: str, say: Say) -> bool:
    """Ask for the fingerprint's beginning. An empty line leaves this one out."""
    if not sys.stdin.isatty():
        raise Refusal("approval.needs_terminal")
    count = TYPED
    answer = input(
        _("To approve, type the first %(count)s characters of the fingerprint (Enter: not now): ")
        % {"count": count}
    ).strip()
    if not answer:
        say(_("Not approved."))
        return False
    if answer.lower() != fingerprint[:count]:
        raise Refusal("approval.wrong_fingerprint")
    return True
