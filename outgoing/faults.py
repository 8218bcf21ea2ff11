"""What went wrong on the way out, in words for somebody who does not know our libraries.

Checks and transport say the same of the same fault: both ask here.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator

import httpx

# X509_V_ERR_*, openssl/x509_vfy.h: Python names none of them.
NOT_YET_VALID, EXPIRED = 9, 10
SELF_SIGNED = 18
WRONG_NAME, WRONG_ADDRESS = 62, 64

_CERTIFICATE = {
    NOT_YET_VALID: "its TLS certificate is not valid yet by this machine's clock",
    EXPIRED: "its TLS certificate has ended",
    SELF_SIGNED: "its TLS certificate is signed by itself",
    WRONG_NAME: "its TLS certificate is for another name",
    WRONG_ADDRESS: "its TLS certificate is for another address",
}
_SYSTEM = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.ENETUNREACH: "there is no network to it",
    errno.EHOSTUNREACH: "there is no route to it",
    errno.ECONNRESET: "the connection was cut",
    errno.EPIPE: "the connection was cut",
    errno.EADDRNOTAVAIL: "there is no network to it",
}
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE")
OLD_TLS = ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE")


def why(error: OSError) -> str:
    """The cause, after `it cannot be reached: `. Nothing that the other side wrote is in it."""
    match error:
        case ssl.SSLCertVerificationError():
            unknown = "its TLS certificate is not trusted here (a proxy that opens TLS?)"
            return _CERTIFICATE.get(error.verify_code, unknown)
        case ssl.SSLEOFError():
            return "the connection was cut within the TLS handshake (a firewall that filters by name?)"
        case ssl.SSLError() if error.reason in NO_TLS:
            return "what answers there speaks no TLS"
        case ssl.SSLError() if error.reason in OLD_TLS:
            return "what answers there speaks only TLS that is too old to be safe"
        case ssl.SSLError():
            return f"the TLS handshake failed ({error.reason or 'no reason given'})"
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return "this machine's DNS does not answer"
        case socket.gaierror():
            return "its name is not known to this machine's DNS"
        case TimeoutError():
            return "it did not answer in time"
        case _:
            return _SYSTEM.get(error.errno or 0, error.strerror or "the connection broke off")


def in_plain_words(error: httpx.TransportError) -> str:
    """`why` for what the HTTP client raised."""
    if isinstance(error, httpx.ProxyError):
        status = re.match(r"[1-5][0-9]{2}\b", str(error))
        asks = " and asks for a user name and a password" if status and status[0] == "407" else ""
        return f"the proxy did not let us through{f' ({status[0]})' if status else ''}{asks}"
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    causes = (cause for cause in _causes(error) if isinstance(cause, OSError))
    return next((why(cause) for cause in causes), "the connection broke off")


def is_tls(error: httpx.TransportError) -> bool:
    """Whether somebody was reached, and TLS with them failed."""
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
