"""The network's part of `check`: proxy, name, TLS, and who opens it on its way.

Where only the hospital's network team can fix a row, it carries a letter to them. A proxy's address may hold
a password; only its host and port are ever shown or sent.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from contracts.refusal import Refusal
from error_catalogue import explain
from outgoing.faults import why
from outgoing.proxies import Proxy, proxy_for
from outgoing.tls import browsers_context, public_context, tls_context
from site_agent.check_rows import CheckRow, Outcome
from site_agent.formatting import printable
from site_agent.letters import letter
from site_agent.lines import SECONDS, ProxyFault, connect_to, seen_unverified, shake_hands
from site_agent.proxy_messages import proxy_row
from site_agent.state import State
from site_agent.tls_messages import not_trusted, signer_of

CERTIFICATE_DAYS = 14


def host_and_port(address: str) -> tuple[str, int]:
    """Of the coordinator's address, with the port that its scheme implies."""
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def network(state: State) -> Iterator[CheckRow]:
    """Proxy, name and TLS, one after the other: the first red row is the one to fix."""
    config = state.config
    host, port = host_and_port(config.coordinator)
    secure = config.coordinator.startswith("https:")
    try:
        way = proxy_for(config.coordinator)
    except Refusal as refusal:
        yield _refused("proxy", refusal)
        return
    try:
        context = tls_context(config.ca_bundle)
    except Refusal as refusal:
        yield _refused("TLS", refusal)
        return
    if way is not None:
        try:
            if secure:
                connect_to(way, host, port, context).close()
            else:  # plain HTTP is asked of the proxy itself, without CONNECT
                socket.create_connection((way.host, way.port), timeout=SECONDS).close()
        except (OSError, ProxyFault) as error:
            fault = error if isinstance(error, ProxyFault) else ProxyFault(why(error))
            yield proxy_row(way, fault, host, port)
            return
        yield CheckRow("proxy", "pass", f"{way.shown} ({way.variable})")
    else:
        exempt = "; NO_PROXY names the coordinator" if _exempted(config.coordinator) else ""
        yield CheckRow("proxy", "pass", f"none; direct connection{exempt}")
        name = _name(host, port)
        yield name
        if name.outcome == "fail":
            return
    if secure:
        yield from _tls(way, host, port, config.ca_bundle, context)
        return
    outcome: Outcome = "warn" if config.insecure_http else "pass"
    hint = "Use https:// for anything but a trial." if config.insecure_http else ""
    yield CheckRow("TLS", outcome, "none (plain HTTP)", hint)


def _refused(name: str, refusal: Refusal) -> CheckRow:
    words = explain(refusal.code, refusal.facts)
    return CheckRow(name, "fail", words.message, words.hint)


def _exempted(address: str) -> bool:
    without = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    try:
        return proxy_for(address, without) is not None
    except Refusal:
        return True


def _name(host: str, port: int) -> CheckRow:
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == socket.EAI_AGAIN:
            found = f"this machine's DNS does not answer (asked for {host})"
            hint = "See whether this machine is connected, and whether /etc/resolv.conf is right."
        else:
            found = f"{host} has no address here"
            hint = "Ask your network team whether this machine's DNS knows the name, or set HTTPS_PROXY."
        wish = f"Please let this machine resolve the name {host}, or tell us the proxy that it shall use."
        return CheckRow("DNS", "fail", found, hint, letter(host, port, wish))
    return CheckRow("DNS", "pass", f"{host} is {', '.join(sorted(map(str, addresses))[:3])}")


def _tls(
    way: Proxy | None, host: str, port: int, ca_bundle: str | None, context: ssl.SSLContext
) -> Iterator[CheckRow]:
    try:
        shown = shake_hands(context, way, host, port, context)
    except ssl.SSLCertVerificationError as error:
        yield not_trusted(error, seen_unverified(way, host, port, context), host, port)
        return
    except (OSError, ProxyFault) as error:
        yield _no_line(error, host, port)
        return
    days = (shown.leaf.not_valid_after_utc.timestamp() - time.time()) / 86400
    signer = signer_of(shown.leaf)
    found = f"{shown.version}, by {signer}, {days:.0f} days left"
    if days < CERTIFICATE_DAYS:
        yield CheckRow("TLS", "warn", found, "Tell the operator that the certificate ends soon.")
    else:
        yield CheckRow("TLS", "pass", found)

    def believed_by(whom: ssl.SSLContext) -> bool:
        try:
            shake_hands(whom, way, host, port, context)
        except (OSError, ProxyFault):
            return False
        return True

    if believed_by(browsers_context()):
        yield CheckRow("TLS inspection", "pass", f"none: {signer} is a public authority")
        return
    knows = _this_machines_store() if believed_by(public_context()) else "your --ca-bundle"
    hint = (
        f"If {signer} is the coordinator's own authority, all is well. If it is your own proxy, that reads "
        "heartbeats and counts; updates stay sealed. Ask for an exception if you can."
    )
    wish = f"Please exempt {host} from TLS inspection, if {signer} is what opens it now."
    found = f"possible: {signer} is no public authority; only {knows} knows it"
    yield CheckRow("TLS inspection", "warn", found, hint, letter(host, port, wish))


def _this_machines_store() -> str:
    named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
    return " or ".join(named) or "this machine's own store"


def _no_line(error: OSError | ProxyFault, host: str, port: int) -> CheckRow:
    """Whatever came before a certificate could be judged."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        hint = (
            f"Compare the address with the coordinator's page; {host}, port {port} is asked now. If it is "
            "right, tell the operator, or your network team if something answers in its place."
        )
        return CheckRow("TLS", "fail", f"no TLS: {printable(why(error), 200)}", hint)
    fault = error.why if isinstance(error, ProxyFault) else why(error)
    hint = f"Ask your network team to allow outgoing connections to {host}, port {port}."
    if isinstance(error, ConnectionRefusedError):
        hint = f"Compare the port with the coordinator's page, and ask its operator whether it runs. {hint}"
    wish = f"Please allow outgoing connections to {host}, port {port}."
    return CheckRow("TLS", "fail", f"no connection: {printable(fault, 200)}", hint, letter(host, port, wish))
