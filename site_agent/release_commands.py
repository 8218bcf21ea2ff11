"""The command `release`, and the part of `approve` that is about releases."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.refusal import Refusal
from contracts.releases import SERVE
from site_agent import releases
from site_agent.enrolment import connect
from site_agent.formatting import printable
from site_agent.releases import JudgedRelease
from site_agent.state import State
from site_agent.transport import Coordinator
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]


def add_release_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people."""
    command = commands.add_parser("release", help=_("open the released parameters of a run"))
    command.add_argument(
        "--run", dest="asked", metavar="RUN", required=True, help=_("its id, as the run's page shows it")
    )
    command.add_argument("--out", required=True, type=Path, metavar="FOLDER", help=_("a new or empty folder"))
    command.set_defaults(run=lambda chosen: run_release(chosen, say))


def run_release(chosen: argparse.Namespace, say: Say) -> int:
    """`release`: needs this site's signature for it, and those of the others."""
    state = State.open(chosen.state)
    with contextlib.closing(connect(state)) as coordinator:
        found = [
            item
            for item in releases.asked(coordinator)
            if item.run.lower() == chosen.asked.lower() and item.rule != SERVE
        ]
        if not found:
            raise Refusal("release.not_asked")
        judged = releases.judge(state, coordinator, found[0])
        said = releases.fetch(state, coordinator, judged, chosen.out)
    say(
        _("Released by an enclave that was verified here, measurement %(value)s….")
        % {"value": said.measurement[:16]}
    )
    say(
        _("The parameters are in %(out)s; README.md there says how to load them.")
        % {"out": printable(chosen.out, 200)}
    )
    if said.development:
        say(_("DEVELOPMENT ONLY: no hardware has protected anything in this run."))
    return 0


def waiting(state: State, coordinator: Coordinator, beginning: str | None, say: Say) -> list[JudgedRelease]:
    """The releases and servings that this site has not signed, or the one whose fingerprint begins so. One
    that cannot be signed here is told of, and keeps nobody from approving what else waits."""
    found = []
    for item in releases.asked(coordinator):
        if beginning is None and (item.signed or (item.rule == SERVE and item.state != "waiting")):
            continue
        try:
            judged = releases.judge(state, coordinator, item)
        except Refusal as refusal:
            what = _("serving") if item.rule == SERVE else _("release")
            say(
                _("The %(what)s of run %(run)s cannot be signed here. %(refusal)s")
                % {"what": what, "run": printable(item.run), "refusal": refusal}
            )
            continue
        if beginning is None or judged.fingerprint.startswith(beginning.lower()):
            found.append(judged)
    return found
