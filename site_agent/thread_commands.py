"""The command `thread`: read what was said about the studies that ask this hospital; ask, wish for changes,
decline, or take a decline back."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import Any

from site_agent import threads
from site_agent.enrolment import connect
from site_agent.state import State
from translations.catalogues import marked, words

_ = words("site_agent")

Say = Callable[[str], None]
WARNING = marked("No patients' data here: the lead reads it, and it is kept until somebody erases it.")


def add_thread_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people."""
    command = commands.add_parser(
        "thread", help=_("what was said about the studies that ask this hospital; ask, or decline")
    )
    command.add_argument("study", nargs="?", help=_("its name, or the beginning of its fingerprint"))
    does = command.add_mutually_exclusive_group()
    does.add_argument("--say", metavar="TEXT", help=_("ask or answer. %(value)s") % {"value": _(WARNING)})
    does.add_argument(
        "--changes", metavar="TEXT", help=_("ask for changes: the study goes back to its draft")
    )
    does.add_argument("--decline", metavar="REASON", help=_("decline what is asked for now"))
    does.add_argument("--reconsider", metavar="TEXT", help=_("take a decline back"))
    command.add_argument(
        "--about",
        choices=("study", "release", "serving"),
        default="study",
        help=_("what it is about: the study (the default), the release after it, or serving its model"),
    )
    command.set_defaults(run=lambda chosen: run_thread(chosen, say))


def run_thread(chosen: argparse.Namespace, say: Say) -> int:
    """`thread`."""
    state = State.open(chosen.state)
    answers: dict[threads.Decision, str | None] = {
        "message": chosen.say,
        "changes": chosen.changes,
        "decline": chosen.decline,
        "reconsider": chosen.reconsider,
    }
    with contextlib.closing(connect(state)) as coordinator:
        found = threads.threads(coordinator)
        said = [(kind, text) for kind, text in answers.items() if text is not None]
        if said:
            (kind, text), thread = said[0], threads.choose(found, chosen.study)
            say(threads.describe(threads.say_in(coordinator, thread, kind, text, chosen.about)))
            say("")
            say(_("Sent. %(value)s") % {"value": _(WARNING)})
            return 0
    shown = [threads.choose(found, chosen.study)] if chosen.study else found
    say("\n\n".join(threads.describe(thread) for thread in shown) or _("No study asks this hospital."))
    return 0
