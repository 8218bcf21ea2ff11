"""`storage`: whether sealed files may go to a second host, and which."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from contracts.refusal import Refusal
from site_agent.addresses import base_url
from site_agent.formatting import printable
from site_agent.state import State
from translations.catalogues import words

_ = words("site_agent")


def add_storage_command(commands: Any, say: Callable[[str], None]) -> None:
    """`storage [ADDRESS | --none]`."""
    command = commands.add_parser("storage", help=_("the second host to which sealed files may go, if any"))
    command.add_argument("address", nargs="?", help=_("https://host[:port], as the operator told it"))
    command.add_argument("--none", action="store_true", help=_("to the coordinator alone, as without"))
    command.set_defaults(run=lambda chosen: run_storage(chosen, say))


def run_storage(chosen: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Show or change it. A running agent keeps to what it was started with."""
    state = State.open(chosen.state)
    config = state.config
    if chosen.address or chosen.none:
        address = None
        if chosen.address and not chosen.none:
            address = base_url(chosen.address, insecure_http=config.insecure_http)
            if urlsplit(address).path:
                raise Refusal("agent.bad_storage", address=printable(address, 200))
        state.save(msgspec.structs.replace(config, storage=address))
    now = state.config.storage
    if now is None:
        say(
            _("Sealed files go to the coordinator alone, %(coordinator)s.")
            % {"coordinator": config.coordinator}
        )
        return 0
    say(_("Sealed files may go to %(now)s as well; nothing else does.") % {"now": now})
    say(_("Run `python -m site_agent check` now, and restart the agent where it runs."))
    return 0
