"""The network's part of `check`: proxy, name, TLS, and who opens it on its way.

Where only the hospital's network team can mend a row, it carries a letter to them. A proxy's address may hold
a password; only its host and port are ever shown or sent.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from cryptography import x509

from outgoing.proxies import Proxy, proxy_for
from outgoing.tls import public_context, tls_context
from site_agent.check_rows import Check, Outcome
from site_agent.state import State
from site_agent.words import printable

CERTIFICATE_DAYS = 14
SECONDS = 10.0


def letter(host: str, port: int, wish: str) -> str:
    """A text for the network team: what is asked for, from where to where, and what it is not."""
    return (
        f"Subject: outgoing HTTPS from {socket.gethostname()} to {host}, port {port}\n\n"
        f"We take part in a study with FedSlice. Its site agent on {socket.gethostname()} talks to {host} "
        f"only.\n\n{wish}\n\n"
        f"- Direction: outgoing only. The agent accepts no connections from outside.\n"
        f"- Destination: {host}, TCP port {port}, TLS 1.2 or 1.3. No other address is needed.\n"
        f"- What goes out: sealed (encrypted) updates, counts, and heartbeats. No patient data leave the "
        f"hospital.\n"
        f"- Uploads may have some hundred megabytes and last for minutes."
    )


def network(state: State) -> Iterator[Check]:
    """Proxy, name and TLS, one after the other: the first red row is the one to mend."""
    parts = urlsplit(state.config.coordinator)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    way = proxy_for(state.config.coordinator)
    if way is not None:
        told = f"{way.shown} ({way.variable})"
        try:
            socket.create_connection((way.parts.hostname or "", way.port), timeout=SECONDS).close()
        except OSError as error:
            wish = f"Please let this machine use the proxy {way.parts.hostname}, port {way.port}."
            hint = f"Correct {way.variable}, or ask your network team whether this machine may use the proxy."
            yield Check("proxy", "fail", f"{told} does not answer: {_why(error)}", hint,
                        letter(host, port, wish))  # fmt: skip
            return
        yield Check("proxy", "pass", told)
    else:
        yield Check("proxy", "pass", "none; direct connection")
        try:
            addresses = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        except OSError:
            hint = "Ask your network team whether this machine's DNS knows the name, or set HTTPS_PROXY."
            wish = f"Please let this machine resolve the name {host}, or tell us the proxy that it shall use."
            yield Check("DNS", "fail", f"{host} has no address here", hint, letter(host, port, wish))
            return
        yield Check("DNS", "pass", f"{host} is {', '.join(sorted(map(str, addresses))[:3])}")
    if parts.scheme == "https":
        yield from _tls(way, host, port, state.config.ca_bundle)
        return
    outcome: Outcome = "warn" if state.config.insecure_http else "pass"
    hint = "Use https:// for anything but a trial." if state.config.insecure_http else ""
    yield Check("TLS", outcome, "none (plain HTTP)", hint)


def _tls(way: Proxy | None, host: str, port: int, ca_bundle: str | None) -> Iterator[Check]:
    try:
        certificate, spoken = _shake_hands(tls_context(ca_bundle), way, host, port)
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or "no handshake"
        signer = _signer_unverified(way, host, port)
        hint = (
            "If your network opens TLS, ask for an exception, or enrol with --ca-bundle FILE and the "
            "certificate of your proxy."
        )
        wish = (
            f"Please exempt {host} from TLS inspection. What arrives here now is a certificate by {signer}, "
            "which this machine does not trust."
        )
        yield Check("TLS", "fail", f"not trusted ({why}); the certificate is by {signer}", hint,
                    letter(host, port, wish))  # fmt: skip
        return
    except OSError as error:
        hint = f"Ask your network team to allow outgoing connections to {host}, port {port}."
        wish = f"Please allow outgoing connections to {host}, port {port}."
        yield Check("TLS", "fail", f"no connection: {_why(error)}", hint, letter(host, port, wish))
        return
    days = (certificate.not_valid_after_utc.timestamp() - time.time()) / 86400
    signer = _signer(certificate)
    found = f"{spoken}, by {signer}, {days:.0f} days left"
    if days < CERTIFICATE_DAYS:
        yield Check("TLS", "warn", found, "Tell the operator that the certificate ends soon.")
    else:
        yield Check("TLS", "pass", found)
    if ca_bundle is None:
        yield Check("TLS inspection", "pass", "none: an authority that everybody trusts signed")
        return
    with contextlib.suppress(OSError):
        _shake_hands(public_context(), way, host, port)
        yield Check("TLS inspection", "pass", "none: an authority that everybody trusts signed")
        return
    hint = (
        f"If {signer} is your own proxy, it reads heartbeats and counts; updates stay sealed. Ask for an "
        "exception if you can."
    )
    wish = f"Please exempt {host} from TLS inspection; it is opened by {signer} now."
    yield Check("TLS inspection", "warn", f"likely: only your --ca-bundle knows {signer}", hint,
                letter(host, port, wish))  # fmt: skip


def _shake_hands(
    context: ssl.SSLContext, way: Proxy | None, host: str, port: int
) -> tuple[x509.Certificate, str]:
    """The certificate that is shown for `host`, and the version of TLS. Raises OSError (or its SSLError)."""
    with _connect(way, host, port) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
        shown = secure.getpeercert(binary_form=True)
        if shown is None:
            raise OSError("no certificate")
        return x509.load_der_x509_certificate(shown), secure.version() or "TLS"


def _connect(way: Proxy | None, host: str, port: int) -> socket.socket:
    """A TCP connection to the coordinator, by the proxy where there is one (CONNECT, RFC 9110, 9.3.6)."""
    if way is None:
        return socket.create_connection((host, port), timeout=SECONDS)
    line = socket.create_connection((way.parts.hostname or "", way.port), timeout=SECONDS)
    if way.parts.scheme == "https":
        line = public_context().wrap_socket(line, server_hostname=way.parts.hostname)
    asked = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
    if way.parts.username:
        pair = f"{unquote(way.parts.username)}:{unquote(way.parts.password or '')}".encode()
        asked += f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}\r\n"
    line.sendall(f"{asked}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < 16384:
        more = line.recv(1024)
        if not more:
            break
        answer += more
    status = answer.split(b"\r\n", 1)[0].decode("ascii", "replace")
    if " 200" not in status:
        line.close()
        raise OSError(f"the proxy refuses: {printable(status, 80) or 'no answer'}")
    return line


def _signer_unverified(way: Proxy | None, host: str, port: int) -> str:
    """Who signed what is shown here; nothing is sent over this connection, and nothing believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return _signer(_shake_hands(context, way, host, port)[0])
    except (OSError, ValueError):
        return "somebody who does not say"


def _signer(certificate: x509.Certificate) -> str:
    for oid in (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME):
        for attribute in certificate.issuer.get_attributes_for_oid(oid):
            return printable(attribute.value, 80)
    return "an authority without a name"


def _why(error: OSError) -> str:
    return printable(error.strerror or error, 120)
