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
from error_catalogue.check_texts import readable
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
from site_agent.checks import as_reported, run_checks
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
from site_agent.usage import in_our_words
from translations.catalogues import marked, words
from translations.spoken import LANGUAGES, of_terminal, speaking
from transparency_log.messages import warm_up_message_decoders

_ = words("site_agent")

REMAINS = (
    marked("run the agent: python -m site_agent service install, or here and now: python -m site_agent run"),
    marked("offer a dataset: python -m site_agent dataset add FILE --name NAME"),
    marked("tell the other hospitals the fingerprint above, by letter or telephone"),
)
CHECK_PATIENCE = 5.0
"""Seconds: somebody waits for what `check` finds."""
OUTPUT = "the standard output"
SHOWN_OUTCOME = {"pass": marked("ok"), "warn": marked("look"), "fail": marked("FAIL")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, in the language of --language or of the terminal; returns the exit status."""
    asked = sys.argv[1:] if arguments is None else list(arguments)
    with speaking(_wanted(asked) or of_terminal(os.environ)):
        return _main(asked)


def _wanted(arguments: Sequence[str]) -> str | None:
    """What --language says, before the parser is made, which speaks it already."""
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    early.add_argument("--language")
    early.add_argument("--state")
    early.add_argument("--verbose", action="store_true")
    early.add_argument("command", nargs=argparse.REMAINDER)
    try:
        return early.parse_known_args(arguments)[0].language
    except argparse.ArgumentError:
        return None


def _main(arguments: Sequence[str]) -> int:
    _open_what_is_closed()
    with in_our_words():
        chosen = build_parser().parse_args(arguments)
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
        say(_("\nStopped; nothing was changed."))
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
            _("  %(file)s, line %(line)s: %(reason)s")
            % {"file": printable(fault.file, 80), "line": fault.line, "reason": fault.reason}
            for fault in refusal.faults
        ]
        if refusal.count > len(refusal.faults):
            lines.append(
                _("  and %(value)s more") % {"value": counted(refusal.count - len(refusal.faults), "row")}
            )
    sys.stderr.write("\n".join([*lines, words.hint]) + "\n")


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m site_agent", description=_("The hospital's side of FedSlice.")
    )
    parser.add_argument(
        "--state", type=Path, help=_("state folder (else FEDSLICE_SITE_STATE, else ~/.fedslice-site)")
    )
    parser.add_argument(
        "--verbose", action="store_true", help=_("log what the libraries do, on standard error")
    )
    parser.add_argument(
        "--language",
        dest="spoken",
        choices=LANGUAGES,
        help=_("of these words (else that of LC_ALL, LC_MESSAGES or LANG)"),
    )
    shown = _("show program's version number and exit")
    parser.add_argument("--version", action="version", version=AGENT_VERSION, help=shown)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("enrol", help=_("make this machine the hospital's agent"))
    command.add_argument(
        "--coordinator", required=True, metavar="URL", help=_("its address, as the page shows it")
    )
    command.add_argument(
        "--token", required=True, help=_("the one-time token that the coordinator's page shows")
    )
    command.add_argument("--name", help=_("how this agent calls the site in its own messages"))
    command.add_argument(
        "--runtime",
        choices=get_args(Runtime),
        default="development",
        help=_("what this machine's enclaves run on; development (the default) protects nothing"),
    )
    command.add_argument(
        "--ca-bundle", type=Path, metavar="FILE", help=_("certificates (PEM) of a proxy that opens TLS")
    )
    command.add_argument("--insecure-http", action="store_true", help=_("allow plain HTTP; for a trial only"))
    command.add_argument(
        "--log-key", metavar="FINGERPRINT", help=_("of the coordinator's log, as the operator told it")
    )
    command.add_argument(
        "--release-key",
        metavar="FINGERPRINT",
        help=_("of the key by which FedSlice's makers sign releases; from them, never from the coordinator"),
    )
    add_key_options(command)
    command.add_argument(
        "--development-approval-key",
        action="store_true",
        help=_("an approval key without a passphrase, for demonstrations; no other runtime takes it"),
    )
    command.add_argument(
        "--run", dest="goes_on", action="store_true", help=_("go on as `run`, once enrolled and looked at")
    )
    command.set_defaults(run=run_enrol)

    command = commands.add_parser(
        "check", help=_("look at all that can stand in the way, also before enrolment")
    )
    command.add_argument(
        "--enclave", type=size, default=0, metavar="SIZE",
        help=_("the memory of a study's TEE, as its page tells it, such as 3.4GiB: does it fit here?"),
    )  # fmt: skip
    command.set_defaults(run=run_check)

    add_dataset_commands(commands, say)
    add_budget_command(commands, say)

    approve_commands.add_approve_command(commands, say)
    thread_commands.add_thread_command(commands, say)
    member_commands.add_members_command(commands, say)
    add_approval_key_commands(commands, say)

    command = commands.add_parser("run", help=_("work for the approved runs, until stopped"))
    command.add_argument("--once", action="store_true", help=_("end after one job"))
    command.add_argument(
        "--until-idle",
        type=float,
        nargs="?",
        const=0.0,
        metavar="SECONDS",
        help=_("end when there is no work"),
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
        chosen.log_key = input(_("Fingerprint of the log's key, as the operator told it to you: ")).strip()
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
        say(
            _('Enrolled as "%(name)s" (site %(site)s) with %(coordinator)s.')
            % {"name": config.name, "site": config.site, "coordinator": config.coordinator}
        )
        say(
            _("The agent's key was made here and stays in %(folder)s. Back this folder up.")
            % {"folder": state.folder}
        )
        say(
            _("Approval key %(approval_file)s%(approval_file_2)s")
            % {
                "approval_file": printable(state.approval_file, 200),
                "approval_file_2": kind_of(read_key_file(state.approval_file)),
            }
        )
    else:
        say(
            _('This machine is enrolled already, as "%(name)s" (site %(site)s). Nothing was changed.')
            % {"name": config.name, "site": config.site}
        )
    say(
        _("Fingerprint  %(state)s (of both keys: tell it to the other hospitals)")
        % {"state": member_commands.own(state)}
    )
    say(_("Log's key    %(log_key)s") % {"log_key": config.log_key})
    say(_("             Compare it with what the operator told you by letter or telephone, not on the page."))
    nobody = _("none: what is installed here decides alone (DEVELOPMENT ONLY)")
    say(_("Release key  %(value)s") % {"value": config.release_key or nobody})
    say(_("\nLooking at all that can stand in the way …\n"))
    ready = _all_well(state)
    say(_("\nWhat remains:"))
    remains = REMAINS[1:] if chosen.goes_on else REMAINS
    for step in (
        remains if ready else (marked("fix what failed above, then: python -m site_agent check"), *remains)
    ):
        say(f"  - {_(step)}")
    if chosen.goes_on and not ready:
        say(_("\nThe agent was not started. Once nothing fails: python -m site_agent run"))
        return 1
    if chosen.goes_on:
        say(_("\nThe agent runs now, until Ctrl-C; what remains is typed in another window."))
        return _work(chosen.state)
    return 0  # enrolled it is, whatever is still to be fixed


def run_check(chosen: argparse.Namespace) -> int:
    """`check`. Status 1 if anything failed."""
    return 0 if _all_well(State.open(chosen.state), chosen.enclave) else 1


def _all_well(state: State, enclave: int = 0) -> bool:
    """Look, and tell; where the coordinator can be reached, the hospital's page shows the same rows."""
    checks = run_checks(state, CHECK_PATIENCE, enclave)
    rows = [
        (readable(check.name), _(SHOWN_OUTCOME[check.outcome]), printable(readable(check.found)))
        for check in checks
    ]
    say(table((_("what"), _("how"), _("found")), rows))
    for check in checks:
        if check.hint:
            say(f"\n{readable(check.name)}: {printable(readable(check.hint))}")
        if check.letter:
            say(_("\nA text for your network team:\n"))
            say("\n".join(f"  {printable(line)}" for line in readable(check.letter).splitlines()))
    # No row of the coordinator means that nobody has asked it, not that it answers.
    if any(check.name == "coordinator" and check.outcome != "fail" for check in checks):
        with contextlib.suppress(Refusal, OSError), contextlib.closing(connect(state)) as coordinator:
            heartbeat(coordinator, state, as_reported(checks), patience=CHECK_PATIENCE)
    failed = sum(check.outcome == "fail" for check in checks)
    say(_("\n%(failed)s failed.") % {"failed": counted(failed, "check")} if failed else _("\nAll is ready."))
    return not failed


def run_daemon(chosen: argparse.Namespace) -> int:
    """`run`."""
    return _work(chosen.state, chosen.once, chosen.until_idle)


def _work(folder: Path | None, once: bool = False, until_idle: float | None = None) -> int:
    """Until SIGTERM or Ctrl-C."""
    state = State.open(folder)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with state.lock():
        Daemon(state, _teller(), stop).run(once=once, until_idle=until_idle)
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
