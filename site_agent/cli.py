"""The commands of the site agent. Exit status: 0 well, 1 refused, 2 wrong usage, 3 the log has forked."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from contracts.refusal import Refusal
from error_catalogue import explain
from error_catalogue.last_resort import kept_for_us, refusal_of
from site_agent import AGENT_VERSION, approve_commands, member_commands, release_commands, thread_commands
from site_agent.approval_key import read_key_file
from site_agent.approval_key_commands import (
    add_approval_key_commands,
    add_key_options,
    kind_of,
    make_key,
)
from site_agent.budget_commands import add_budget_command
from site_agent.checks import as_told, run_checks
from site_agent.daemon import Daemon
from site_agent.dataset_commands import add_dataset_commands
from site_agent.datasets.intake import BadRows
from site_agent.enrolment import connect, enrol, heartbeat
from site_agent.formatting import counted, printable, size, table
from site_agent.move_command import add_move_command
from site_agent.predict_commands import add_predict_command
from site_agent.service_command import add_service_command
from site_agent.state import Runtime, State
from site_agent.storage_command import add_storage_command
from transparency_log.messages import warm_up_message_decoders

REMAINS = (
    "run the agent: python -m site_agent service install, or here and now: python -m site_agent run",
    "offer a dataset: python -m site_agent dataset add FILE --name NAME",
    "tell the other hospitals the fingerprint above, by letter or telephone",
)
CHECK_PATIENCE = 5.0
"""Seconds: somebody waits for what `check` finds."""
OUTPUT = "the standard output"
SHOWN_OUTCOME = {"pass": "ok", "warn": "look", "fail": "FAIL"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    _open_what_is_closed()
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if chosen.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    warm_up_message_decoders()
    _let_any_terminal_show_all()
    try:
        status: int = chosen.run(chosen)
    except Refusal as refusal:
        complain(refusal)
        return 3 if refusal.code == "log.fork" else 1
    except (KeyboardInterrupt, EOFError):
        say("\nStopped; nothing was changed.")
        return 1
    except OSError as error:
        if error.filename == OUTPUT:
            _hush()
        if not (error.filename == OUTPUT and error.errno == errno.EPIPE):  # `| head` has read enough
            complain(refusal_of(error))
        return 1
    except Exception as error:
        complain(kept_for_us(error, chosen.state))
        return 1
    return status


def _let_any_terminal_show_all() -> None:
    """What a terminal's encoding lacks (ASCII has no é) is shown as an escape and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _hush() -> None:
    """Nobody can read any more what is still to be flushed to the standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_what_is_closed() -> None:
    """Under `<&-` or `>&-` Python has no such stream at all."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115, PTH123
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123


def say(text: str = "") -> None:
    """A line for the person at the terminal."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        error.filename = OUTPUT
        raise


def complain(refusal: Refusal) -> None:
    """What was refused, why, and what to do, on standard error."""
    words = explain(refusal.code, refusal.facts)
    lines = [f"{words.message} [{refusal.code}]"]
    if isinstance(refusal, BadRows):
        lines += [
            f"  {printable(fault.file, 80)}, line {fault.line}: {fault.reason}" for fault in refusal.faults
        ]
        if refusal.count > len(refusal.faults):
            lines.append(f"  and {counted(refusal.count - len(refusal.faults), 'row')} more")
    sys.stderr.write("\n".join([*lines, words.hint]) + "\n")


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m site_agent", description="The hospital's side of FedSlice."
    )
    parser.add_argument(
        "--state", type=Path, help="state folder (else FEDSLICE_SITE_STATE, else ~/.fedslice-site)"
    )
    parser.add_argument("--verbose", action="store_true", help="log what the libraries do, on standard error")
    parser.add_argument("--version", action="version", version=AGENT_VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("enrol", help="make this machine the hospital's agent")
    command.add_argument(
        "--coordinator", required=True, metavar="URL", help="its address, as the page shows it"
    )
    command.add_argument(
        "--token", required=True, help="the one-time token that the coordinator's page shows"
    )
    command.add_argument("--name", help="how this agent calls the site in its own messages")
    command.add_argument(
        "--runtime",
        choices=get_args(Runtime),
        default="development",
        help="what this machine's enclaves run on; development (the default) protects nothing",
    )
    command.add_argument(
        "--ca-bundle", type=Path, metavar="FILE", help="certificates (PEM) of a proxy that opens TLS"
    )
    command.add_argument("--insecure-http", action="store_true", help="allow plain HTTP; for a trial only")
    command.add_argument(
        "--log-key", metavar="FINGERPRINT", help="of the coordinator's log, as the operator told it"
    )
    command.add_argument(
        "--release-key",
        metavar="FINGERPRINT",
        help="of the key by which FedSlice's makers sign releases; from them, never from the coordinator",
    )
    add_key_options(command)
    command.add_argument(
        "--development-approval-key",
        action="store_true",
        help="an approval key without a passphrase, for demonstrations; no other runtime takes it",
    )
    command.set_defaults(run=run_enrol)

    command = commands.add_parser(
        "check", help="look at all that can stand in the way, also before enrolment"
    )
    command.add_argument(
        "--enclave", type=size, default=0, metavar="SIZE",
        help="the memory of a study's TEE, as its page tells it, such as 3.4GiB: does it fit here?",
    )  # fmt: skip
    command.set_defaults(run=run_check)

    add_dataset_commands(commands, say)
    add_budget_command(commands, say)

    approve_commands.add_approve_command(commands, say)
    thread_commands.add_thread_command(commands, say)
    member_commands.add_members_command(commands, say)
    add_approval_key_commands(commands, say)

    command = commands.add_parser("run", help="work for the approved runs, until stopped")
    command.add_argument("--once", action="store_true", help="end after one job")
    command.add_argument(
        "--until-idle", type=float, nargs="?", const=0.0, metavar="SECONDS", help="end when there is no work"
    )
    command.set_defaults(run=run_daemon)

    add_storage_command(commands, say)
    add_service_command(commands, say)
    add_move_command(commands, say)
    add_predict_command(commands, say)
    release_commands.add_release_command(commands, say)
    return parser


def run_enrol(chosen: argparse.Namespace) -> int:
    """`enrol`."""
    state = State.open(chosen.state)
    if chosen.log_key is None and not state.enrolled and sys.stdin.isatty():
        chosen.log_key = input("Fingerprint of the log's key, as the operator told it to you: ").strip()
    approval_file = chosen.approval_key or state.approval_file
    if not state.enrolled and not approval_file.exists():
        make_key(approval_file, chosen, say)
    config, fresh = enrol(
        state,
        chosen.coordinator,
        chosen.token,
        approval_file=approval_file,
        name=chosen.name,
        runtime=chosen.runtime,
        ca_bundle=chosen.ca_bundle,
        insecure_http=chosen.insecure_http,
        release_key=chosen.release_key,
        log_key=chosen.log_key,
    )
    if fresh:
        say(f'Enrolled as "{config.name}" (site {config.site}) with {config.coordinator}.')
        say(f"The agent's key was made here and stays in {state.folder}. Back this folder up.")
        say(
            f"Approval key {printable(state.approval_file, 200)}{kind_of(read_key_file(state.approval_file))}"
        )
    else:
        say(
            f'This machine is enrolled already, as "{config.name}" (site {config.site}). Nothing was changed.'
        )
    say(f"Fingerprint  {member_commands.own(state)} (of both keys: tell it to the other hospitals)")
    say(f"Log's key    {config.log_key}")
    say("             Compare it with what the operator told you by letter or telephone, not on the page.")
    nobody = "none: what is installed here decides alone (DEVELOPMENT ONLY)"
    say(f"Release key  {config.release_key or nobody}")
    say("\nLooking at all that can stand in the way …\n")
    ready = _all_well(state)
    say("\nWhat remains:")
    for step in REMAINS if ready else ("mend what failed above, then: python -m site_agent check", *REMAINS):
        say(f"  - {step}")
    return 0  # enrolled it is, whatever is still to be mended


def run_check(chosen: argparse.Namespace) -> int:
    """`check`. Status 1 if anything failed."""
    return 0 if _all_well(State.open(chosen.state), chosen.enclave) else 1


def _all_well(state: State, enclave: int = 0) -> bool:
    """Look, and tell; where the coordinator can be reached, the hospital's page shows the same rows."""
    checks = run_checks(state, CHECK_PATIENCE, enclave)
    rows = [(check.name, SHOWN_OUTCOME[check.outcome], printable(check.found)) for check in checks]
    say(table(("what", "how", "found"), rows))
    for check in checks:
        if check.hint:
            say(f"\n{check.name}: {printable(check.hint)}")
        if check.letter:
            say("\nA text for your network team:\n")
            say("\n".join(f"  {printable(line)}" for line in check.letter.splitlines()))
    # No row of the coordinator means that nobody has asked it, not that it answers.
    if any(check.name == "coordinator" and check.outcome != "fail" for check in checks):
        with contextlib.suppress(Refusal, OSError), contextlib.closing(connect(state)) as coordinator:
            heartbeat(coordinator, state, as_told(checks), patience=CHECK_PATIENCE)
    failed = sum(check.outcome == "fail" for check in checks)
    say(f"\n{counted(failed, 'check')} failed." if failed else "\nAll is ready.")
    return not failed


def run_daemon(chosen: argparse.Namespace) -> int:
    """`run`: until SIGTERM or Ctrl-C."""
    state = State.open(chosen.state)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with state.lock():
        Daemon(state, _teller(), stop).run(once=chosen.once, until_idle=chosen.until_idle)
    return 0


class _teller:
    """Lines with the time of day; a line that only repeats the last one is left out."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, text: str) -> None:
        line = printable(text, 2000)
        if line != self._last:
            say(f"{time.strftime('%H:%M:%S')}  {line}")
        self._last = line
