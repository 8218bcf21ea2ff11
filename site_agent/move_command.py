"""The command `move`: this machine becomes the site's, and the one that was is refused from now on."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

from contracts.agents_api.sites import MACHINE, MOVE, MachineAnswer
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from site_agent.enrolment import connect
from site_agent.formatting import printable
from site_agent.state import State
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]


def add_move_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people."""
    command = commands.add_parser("move", help=_("make this machine the site's, in place of another one"))
    command.add_argument("--yes", action="store_true", help=_("do not ask"))
    command.set_defaults(run=lambda chosen: run_move(chosen, say))


def run_move(chosen: argparse.Namespace, say: Say) -> int:
    """`move`.

    Raises: `instance.alive` while the other machine's agent is, `move.needs_terminal` without a terminal or
    `--yes`.
    """
    state = State.open(chosen.state)
    with contextlib.closing(connect(state)) as coordinator:
        held = coordinator.ask(MACHINE, Nothing())
        if held.here:
            say(_("This machine is the site's already. Nothing was changed."))
            return 0
        if held.machine is not None:
            say(_("The site's machine is %(body)s.") % {"body": _said(held)})
        say(
            _(
                "This folder must be a copy that was made after that agent had stopped: an older one has "
                "forgotten which rosters it countersigned, and what its datasets have told since."
            )
        )
        if not (chosen.yes or _is_meant()):
            say(_("Nothing was changed."))
            return 1
        coordinator.post(MOVE, Nothing())
    say(_("This machine is the site's now. Start the agent here: python -m site_agent run"))
    return 0


def _is_meant() -> bool:
    if not sys.stdin.isatty():
        raise Refusal("move.needs_terminal")
    said = input(_("Make this machine the site's, and have that one refused? [y/N] "))
    return said.strip().lower() in ("y", "yes")


def _said(held: MachineAnswer) -> str:
    """Name, address, and when it was last heard of."""
    last = _("it has ended in order")
    if held.heard is not None:
        last = _("last heard of at %(value)s UTC") % {
            "value": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(held.heard))
        }
    return f"{printable(held.machine, 64)} ({printable(held.address, 64)}; {last})"
