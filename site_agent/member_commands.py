"""The command `members`: which hospitals this one knows to be real."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from contracts.fingerprint import site_fingerprint, typed_fingerprint
from site_agent.formatting import table
from site_agent.members import forget, known_members
from site_agent.state import State
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]


def add_members_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people."""
    command = commands.add_parser(
        "members", help=_("the hospitals whose keys were confirmed here (`approve` confirms them)")
    )
    command.add_argument("--forget", metavar="FINGERPRINT", help=_("this one counts no more"))
    command.set_defaults(run=lambda chosen: run_members(chosen, say))


def run_members(chosen: argparse.Namespace, say: Say) -> int:
    """`members`."""
    state = State.open(chosen.state)
    say(
        _("This site's own fingerprint, to be told to other hospitals by letter or telephone: %(state)s")
        % {"state": own(state)}
    )
    if chosen.forget:
        member = forget(state, typed_fingerprint(chosen.forget))
        say(_("%(name)s counts no more, until it is confirmed again.") % {"name": member.name})
    rows = [
        (fingerprint, member.name, time.strftime("%Y-%m-%d", time.gmtime(member.at)))
        for fingerprint, member in sorted(known_members(state).items(), key=lambda item: item[1].name)
    ]
    nobody = _("No hospital was confirmed here yet.")
    say(table(("fingerprint", "hospital", "confirmed"), rows) if rows else nobody)
    return 0


def own(state: State) -> str:
    """The fingerprint of this site's keys."""
    return site_fingerprint(state.key.public, state.config.approval_key)
