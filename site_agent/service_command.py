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

Say = Callable[[str], None]
CODE = Path(__file__).resolve().parent.parent


def add_service_command(commands: Any, say: Say) -> None:
    """Add it to the agent's commands. `say` takes lines for people."""
    command = commands.add_parser("service", help="have systemd run the agent")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    install = actions.add_parser("install", help="write a hardened unit, and say how root takes it")
    install.set_defaults(run=lambda chosen: run_install(chosen, say))


def run_install(chosen: argparse.Namespace, say: Say) -> int:
    """`service install`, as the account that is to run the agent. It asks for no root: what only root can
    do is said in lines to copy.

    Raises: `agent.not_enrolled`, or `service.unit` where systemd finds a fault in the unit.
    """
    state = State.open(chosen.state)
    _ = state.config  # a service without an enrolment would only fail
    owner = pwd.getpwuid(state.folder.stat().st_uid).pw_name
    environment, file = state.folder / "service.env", state.folder / NAME
    write_private(environment, settings(os.environ).encode())
    write_private(file, unit(owner, sys.executable, str(CODE), str(state.folder), str(environment)).encode())
    checked = _verify(str(file))
    say(f"The unit stands in {printable(file)}.")
    say(f"Proxy and authorities, as they are now, stand in {environment.name} beside it.")
    say("systemd finds no fault in it." if checked else "systemd is not on this machine: not checked.")
    if owner == "root":
        say("The agent would run as root: it needs no rights of root. Give the state folder to an account.")
    say("To take it, as root:\n")
    say(f"  sudo install -m 644 {shlex.quote(str(file))} /etc/systemd/system/{NAME}")
    say("  sudo systemctl daemon-reload")
    say(f"  sudo systemctl enable --now {NAME}")
    say(f"\nWhat it says: journalctl -u {NAME} -f")
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
