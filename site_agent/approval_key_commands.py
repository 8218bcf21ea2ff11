"""`python -m site_agent approval-key …`, and the options by which other commands find the approval key."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from contracts.fingerprint import site_fingerprint
from contracts.refusal import Refusal
from site_agent.approval_key import (
    ApprovalKey,
    Development,
    Public,
    Sealed,
    change_passphrase,
    create_development,
    create_sealed,
    public_half,
    read_key_file,
)
from site_agent.enrolment import connect, needs_platform
from site_agent.passphrases import ask_passphrase, new_passphrase
from site_agent.state import State
from site_agent.words import printable

Say = Callable[..., None]
DEVELOPMENT = " (without a passphrase: DEVELOPMENT ONLY)"


def add_key_options(command: argparse.ArgumentParser) -> None:
    """Which approval key a command uses, and what opens it where nobody can be asked."""
    command.add_argument(
        "--approval-key",
        type=Path,
        metavar="FILE",
        help="where the approval key lies, or its public half (else where the enrolment put it)",
    )
    command.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="its first line is the approval key's passphrase; /dev/fd/N for an inherited descriptor",
    )


def add_approval_key_commands(commands: Any, say: Say) -> None:
    """Add `approval-key` and its own commands to the parser."""
    keys = commands.add_parser(
        "approval-key", help="the key with which a person approves: make it, seal it anew, replace it"
    )
    verbs = keys.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("create", help="make one, on this machine or one without network")
    verb.add_argument("--approval-key", type=Path, required=True, metavar="FILE", help="a new file")
    verb.add_argument("--passphrase-file", type=Path, metavar="FILE", help="as for `approve`")
    verb.set_defaults(run=lambda chosen: run_create(chosen, say))

    verb = verbs.add_parser("passphrase", help="seal the key under another passphrase")
    add_key_options(verb)
    verb.add_argument("--new-passphrase-file", type=Path, metavar="FILE", help="the new one, likewise")
    verb.set_defaults(run=lambda chosen: run_passphrase(chosen, say))

    verb = verbs.add_parser("replace", help="another key for this site, after a passphrase or a key was lost")
    verb.add_argument("--token", required=True, help="the one-time token that the hospital's page shows")
    add_key_options(verb)
    verb.add_argument("--development-approval-key", action="store_true", help="as for `enrol`")
    verb.set_defaults(run=lambda chosen: run_replace(chosen, say))


def key_of(state: State, chosen: argparse.Namespace) -> ApprovalKey:
    """The approval key that a command is to use."""
    return ApprovalKey(chosen.approval_key or state.approval_file, chosen.passphrase_file)


def make_key(file: Path, chosen: argparse.Namespace, say: Say) -> None:
    """Make a key where there is none: sealed by a passphrase, unless a development key was asked for."""
    if chosen.development_approval_key:
        create_development(file)
        return
    say("The approval key speaks for the hospital: its passphrase is for the person who approves.")
    create_sealed(file, new_passphrase(file, chosen.passphrase_file))


def run_create(chosen: argparse.Namespace, say: Say) -> int:
    """`approval-key create`."""
    file = chosen.approval_key.expanduser()
    if file.exists():
        raise Refusal("approval_key.exists", file=str(file))
    create_sealed(file, new_passphrase(file, chosen.passphrase_file))
    say(f"The approval key is in {printable(file, 200)}. Keep a copy: without file or passphrase it is lost.")
    say(f"Its public half is in {printable(public_half(file), 200)}. On the machine of the site agent:")
    say(f"  python -m site_agent enrol … --approval-key {printable(public_half(file).name, 200)}")
    return 0


def run_passphrase(chosen: argparse.Namespace, say: Say) -> int:
    """`approval-key passphrase`."""
    file = chosen.approval_key or State.open(chosen.state).approval_file
    held = read_key_file(file)
    if isinstance(held, Public):
        raise Refusal("approval_key.public_only", file=str(file))
    if isinstance(held, Development):
        raise Refusal("approval_key.development", runtime="any")
    old = ask_passphrase(file, chosen.passphrase_file, word="Present passphrase")
    change_passphrase(file, held, old, new_passphrase(file, chosen.new_passphrase_file))
    say("The key has its new passphrase. Older copies of the file still open with the old one.")
    return 0


def run_replace(chosen: argparse.Namespace, say: Say) -> int:
    """`approval-key replace`: the site's admin has shown by the token that he wants it."""
    state = State.open(chosen.state)
    config = state.config
    file = chosen.approval_key or _next_file(state)
    if not file.exists():
        make_key(file, chosen, say)
    held = read_key_file(file)
    if isinstance(held, Development) and not needs_platform(config.runtime):
        raise Refusal("approval_key.development", runtime=config.runtime)
    body = {
        "token": chosen.token,
        "approval_key": held.public,
        "development_key": isinstance(held, Development),
    }
    with contextlib.closing(connect(state)) as coordinator:
        coordinator.call("POST", "approval-key", body)
    if held.public != config.approval_key:
        changes = {
            "approval_key": held.public,
            "approval_file": str(file.resolve()),
            "former_keys": (*config.former_keys, config.approval_key),
        }
        state.save(msgspec.structs.replace(config, **changes))
    told = site_fingerprint(state.key.public, held.public)
    say(f"Approval key {printable(file, 200)}{DEVELOPMENT if isinstance(held, Development) else ''}")
    say(f"Fingerprint  {told}")
    say("Tell it to the other hospitals: to them this site is not confirmed until they have compared it.")
    say(
        "Studies that wait for approval are to be frozen again. Runs keep the key that they were frozen with."
    )
    return 0


def is_open(state: State) -> bool:
    """Whether no passphrase protects the approval key."""
    return isinstance(read_key_file(state.approval_file), Development)


def _next_file(state: State) -> Path:
    """A new name in the state folder, or the key of a replacement that did not get through."""
    known = (state.config.approval_key, *state.config.former_keys)
    for number in count(2):
        file = state.folder / f"approval-{number}.key"
        if not file.exists():
            return file
        held = read_key_file(file)
        if isinstance(held, (Sealed, Development)) and held.public not in known:
            return file
    raise AssertionError("unreachable")
