"""The row of the second destination, where this hospital has named one. It is never red: the coordinator
takes and gives sealed files itself, only slower for everybody."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from contracts.refusal import Refusal
from error_catalogue import explain
from site_agent.check_rows import CheckRow
from site_agent.letters import letter
from site_agent.network_checks import host_and_port
from site_agent.state import State
from site_agent.storage import Storage


def storage(state: State) -> Iterator[CheckRow]:
    """Whether it answers anything at all by TLS that this machine trusts."""
    config = state.config
    if config.storage is None:
        return
    try:
        line = Storage(config.storage, ca_bundle=config.ca_bundle, insecure_http=config.insecure_http)
        with contextlib.closing(line):
            status = line.greet()
    except Refusal as refusal:
        host, port = host_and_port(config.storage)
        words = explain(refusal.code, refusal.facts)
        wish = f"Please allow outgoing connections to {host}, port {port}."
        hint = "Sealed files go by the coordinator meanwhile. Ask your network team to open the way."
        yield CheckRow("storage", "warn", words.message, hint, letter(host, port, wish))
        return
    yield CheckRow(
        "storage", "pass", f"{line.host} answers ({status} to a stranger); sealed files alone go there"
    )
