"""`python -m site_agent approval-key …`, and the options by which other commands find the approval key."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from contracts.agents_api.sites import APPROVAL_KEY, ReplaceBody
from contracts.fingerprint import site_fingerprint
from contracts.refusal import Refusal
from site_agent.approval_key import (
    ApprovalKey,
    Development,
    KeyFile,
    OnToken,
    Public,
    Sealed,
    change_passphrase,
    create_development,
    create_on_token,
    create_sealed,
    public_half,
    read_key_file,
)
from site_agent.enrolment import connect, needs_platform
from site_agent.formatting import printable
from site_agent.passphrases import ask_passphrase, new_passphrase
from site_agent.state import State
from translations.catalogues import words

_ = words("site_agent")

Say = Callable[..., None]


def add_key_options(command: argparse.ArgumentParser) -> None:
    """Which approval key a command uses, and what opens it where nobody can be asked."""
    command.add_argument(
        "--approval-key",
        type=Path,
        metavar="FILE",
        help=_("where the approval key lies, or its public half (else where the enrolment put it)"),
    )
    command.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help=_("its first line is the passphrase or the token's PIN; /dev/fd/N for an inherited descriptor"),
    )


def add_approval_key_commands(commands: Any, say: Say) -> None:
    """Add `approval-key` and its own commands to the parser."""
    keys = commands.add_parser(
        "approval-key", help=_("the key with which a person approves: make it, seal it again, replace it")
    )
    verbs = keys.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("create", help=_("make one, on this machine or one without network"))
    verb.add_argument("--approval-key", type=Path, required=True, metavar="FILE", help=_("a new file"))
    verb.add_argument("--passphrase-file", type=Path, metavar="FILE", help=_("as for `approve`"))
    _add_token_options(verb)
    verb.set_defaults(run=lambda chosen: run_create(chosen, say))

    verb = verbs.add_parser("passphrase", help=_("seal the key under another passphrase"))
    add_key_options(verb)
    verb.add_argument("--new-passphrase-file", type=Path, metavar="FILE", help=_("the new one, likewise"))
    verb.set_defaults(run=lambda chosen: run_passphrase(chosen, say))

    verb = verbs.add_parser(
        "replace", help=_("another key for this site, after a passphrase or a key was lost")
    )
    verb.add_argument("--token", required=True, help=_("the one-time token that the hospital's page shows"))
    add_key_options(verb)
    _add_token_options(verb)
    verb.add_argument("--development-approval-key", action="store_true", help=_("as for `enrol`"))
    verb.set_defaults(run=lambda chosen: run_replace(chosen, say))


def _add_token_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--on-token",
        nargs=2,
        metavar=("LABEL", "MODULE"),
        help=_("on a PKCS#11 token: its label, and the path of the library that its maker gives"),
    )
    verb.add_argument(
        "--token-key",
        metavar="ID",
        help=_("take the Ed25519 key with this id (hex) that is on the token already"),
    )


def key_of(state: State, chosen: argparse.Namespace) -> ApprovalKey:
    """The approval key that a command is to use."""
    return ApprovalKey(chosen.approval_key or state.approval_file, chosen.passphrase_file)


def make_key(file: Path, chosen: argparse.Namespace, say: Say) -> None:
    """Make a key where there is none: sealed by a passphrase, unless another kind was asked for."""
    if getattr(chosen, "on_token", None):
        _make_on_token(file, chosen)
        return
    if chosen.development_approval_key:
        create_development(file)
        return
    say(_("The approval key speaks for the hospital: its passphrase is for the person who approves."))
    create_sealed(file, new_passphrase(file, chosen.passphrase_file))


def _make_on_token(file: Path, chosen: argparse.Namespace) -> None:
    label, module = chosen.on_token
    create_on_token(file, Path(module), label, chosen.token_key, chosen.passphrase_file)


def run_create(chosen: argparse.Namespace, say: Say) -> int:
    """`approval-key create`."""
    file = chosen.approval_key.expanduser()
    if file.exists():
        raise Refusal("approval_key.exists", file=str(file))
    if chosen.on_token:
        _make_on_token(file, chosen)
        say(
            _("Approval key %(file)s%(file_2)s")
            % {"file": printable(file, 200), "file_2": kind_of(read_key_file(file))}
        )
        say(_("The file only says where it is: without the token or its PIN the key is lost."))
    else:
        create_sealed(file, new_passphrase(file, chosen.passphrase_file))
        say(_("The approval key is in %(file)s.") % {"file": printable(file, 200)})
        say(_("Keep a copy: without file or passphrase it is lost."))
    say(
        _("Its public half is in %(file)s. On the machine of the site agent:")
        % {"file": printable(public_half(file), 200)}
    )
    say(
        _("  python -m site_agent enrol … --approval-key %(name)s")
        % {"name": printable(public_half(file).name, 200)}
    )
    return 0


def run_passphrase(chosen: argparse.Namespace, say: Say) -> int:
    """`approval-key passphrase`."""
    file = chosen.approval_key or State.open(chosen.state).approval_file
    held = read_key_file(file)
    if isinstance(held, Public):
        raise Refusal("approval_key.public_only", file=str(file))
    if isinstance(held, Development):
        raise Refusal("approval_key.development", runtime="any")
    if isinstance(held, OnToken):
        raise Refusal("approval_token.pin_elsewhere", token=held.token)
    old = ask_passphrase(file, chosen.passphrase_file, word=_("Present passphrase"))
    change_passphrase(file, held, old, new_passphrase(file, chosen.new_passphrase_file))
    say(_("The key has its new passphrase. Older copies of the file still open with the old one."))
    return 0


def run_replace(chosen: argparse.Namespace, say: Say) -> int:
    """`approval-key replace`: the site's admin has shown by the token that they want it."""
    state = State.open(chosen.state)
    config = state.config
    file = chosen.approval_key or _next_file(state, OnToken if chosen.on_token else (Sealed, Development))
    if not file.exists():
        make_key(file, chosen, say)
    held = read_key_file(file)
    if chosen.on_token and not isinstance(held, OnToken):
        raise Refusal("approval_key.exists", file=str(file))
    if isinstance(held, Development) and not needs_platform(config.runtime):
        raise Refusal("approval_key.development", runtime=config.runtime)
    body = ReplaceBody(chosen.token, held.public, isinstance(held, Development))
    with contextlib.closing(connect(state)) as coordinator:
        coordinator.post(APPROVAL_KEY, body)
    if held.public != config.approval_key:
        changes = {
            "approval_key": held.public,
            "approval_file": str(file.resolve()),
            "former_keys": (*config.former_keys, config.approval_key),
        }
        state.save(msgspec.structs.replace(config, **changes))
    fingerprint = site_fingerprint(state.key.public, held.public)
    say(_("Approval key %(file)s%(held)s") % {"file": printable(file, 200), "held": kind_of(held)})
    say(_("Fingerprint  %(told)s") % {"told": fingerprint})
    say(_("Tell it to the other hospitals: to them this site is not confirmed until they have compared it."))
    say(
        _(
            "Studies that wait for approval are to be frozen again. Runs keep the key that they were "
            "frozen with."
        )
    )
    return 0


def kind_of(held: KeyFile) -> str:
    """What opens the key, where it is no passphrase: in brackets, after the name of its file."""
    if isinstance(held, OnToken):
        where = _('"%(token)s", serial number %(serial)s, id %(key)s') % {
            "token": printable(held.token, 64),
            "serial": printable(held.serial, 64),
            "key": held.key,
        }
        return _(" (on the token %(where)s)") % {"where": where}
    if isinstance(held, Public):
        return _(" (its public half: the key is elsewhere)")
    return _(" (without a passphrase: DEVELOPMENT ONLY)") if isinstance(held, Development) else ""


def _next_file(state: State, kinds: type[OnToken] | tuple[type[Sealed], type[Development]]) -> Path:
    """A new name in the state folder, or the key of these `kinds` of a replacement that did not get
    through."""
    known = (state.config.approval_key, *state.config.former_keys)
    for number in count(2):
        file = state.folder / f"approval-{number}.key"
        if not file.exists():
            return file
        held = read_key_file(file)
        if isinstance(held, kinds) and held.public not in known:
            return file
    raise AssertionError("unreachable")
