"""The command `service install`: a unit for systemd, checked, and the three lines by which root takes it."""

from __future__ import annotations

import argparse
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.refusal import Refusal
from site_agent.files import write_private
from site_agent.formatting import printable
from site_agent.service import NAME, settings, unit
from site_agent.state import State
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[[str], None]
CODE = Path(__file__).resolve().parent.parent


def add_service_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people."""
    command = commands.add_parser("service", help=_("have systemd run the agent"))
    actions = command.add_subparsers(required=True, metavar="ACTION")
    install = actions.add_parser("install", help=_("write a hardened unit, and say how root takes it"))
    install.set_defaults(run=lambda chosen: run_install(chosen, say))


def run_install(chosen: argparse.Namespace, say: Say) -> int:
    """`service install`, as the account that is to run the agent. It asks for no root: what only root can
    do is said in lines to copy.

    Raises: `agent.not_enrolled`, or `service.unit` where systemd finds a fault in the unit.
    """
    state = State.open(chosen.state)
    _config = state.config  # a service without an enrolment would only fail
    owner = pwd.getpwuid(state.folder.stat().st_uid).pw_name
    environment, file = state.folder / "service.env", state.folder / NAME
    write_private(environment, settings(os.environ).encode())
    write_private(file, unit(owner, sys.executable, str(CODE), str(state.folder), str(environment)).encode())
    checked = _verify(str(file))
    say(_("The unit stands in %(file)s.") % {"file": printable(file)})
    say(
        _("Proxy and authorities, as they are now, stand in %(name)s beside it.") % {"name": environment.name}
    )
    say(_("systemd finds no fault in it.") if checked else _("systemd is not on this machine: not checked."))
    if owner == "root":
        say(
            _("The agent would run as root: it needs no rights of root. Give the state folder to an account.")
        )
    say(_("To take it, as root:\n"))
    say(
        _("  sudo install -m 644 %(file)s /etc/systemd/system/%(value)s")
        % {"file": shlex.quote(str(file)), "value": NAME}
    )
    say(_("  sudo systemctl daemon-reload"))
    say(_("  sudo systemctl enable --now %(value)s") % {"value": NAME})
    say(_("\nWhat it says: journalctl -u %(value)s -f") % {"value": NAME})
    return 0


def _verify(file: str) -> bool:
    """Whether systemd looked at the unit; it does not where it is not installed. Faults of other units, on
    which this one depends, are not its own."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return False
    done = subprocess.run(  # noqa: S603 - the command is ours, without a shell
        [program, "verify", file], capture_output=True, text=True, check=False, timeout=60
    )
    own = [line for line in done.stderr.splitlines() if NAME in line and "Failed to open" not in line]
    if done.returncode and own:
        raise Refusal("service.unit", fault=printable(" ".join(own), 300))
    return True
