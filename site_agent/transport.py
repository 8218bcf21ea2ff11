"""The line to the coordinator: HTTPS, outward only, every request with its own short-lived token.

A token is a JWT signed by the site's key (RFC 7523 style, EdDSA by RFC 8037): 30 seconds, one use, for this
method, path and body alone (contracts/bound_request.py). A retry gets a fresh one. What comes back is bounded
in size and never believed: the callers check it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.agents_api.endpoint import B, Endpoint, W
from contracts.bound_request import AGENTS_API, BoundRequest, bind_request
from contracts.instance import Instance
from contracts.kept_keys import signing_secret
from contracts.refusal import Fact, Refusal
from contracts.signing import SigningKey
from error_catalogue import CATALOGUE
from outgoing.client import client_for
from outgoing.faults import in_plain_words, is_tls
from outgoing.proxies import proxy_for
from outgoing.tls import tls_context
from site_agent import AGENT_VERSION
from site_agent.addresses import base_url
from site_agent.backoff import pause, retry_after
from site_agent.formatting import printable, readable_seconds
from site_agent.storage import Storage
from translations.catalogues import words

_ = words("site_agent")

log = logging.getLogger(__name__)

AUDIENCE = "fedslice-coordinator"
TOKEN_SECONDS = 30
MAX_ANSWER_BYTES = 8 << 20
PASSING = ("agent.unreachable", "agent.proxy", "agent.bad_answer")
JSON = {"Content-Type": "application/json"}
TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True)
class HttpAnswer(Generic[W]):
    """A response that was read in full: headers, and what its endpoint answers (None where it is empty)."""

    headers: httpx.Headers
    value: W | None


class Coordinator:
    """The coordinator as the agent sees it. Any thread may use it.

    `identity` is (site id, site key, where this runs); without it only `enrol` makes sense. `stop` ends every
    wait. `tell` gets a plain sentence when a request has to wait, and when it goes on. `storage` is the
    second destination, for sealed files, where the hospital has named one.
    """

    def __init__(
        self,
        address: str,
        identity: tuple[str, SigningKey, Instance] | None = None,
        *,
        ca_bundle: str | None = None,
        insecure_http: bool = False,
        stop: threading.Event | None = None,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        self.address = base_url(address, insecure_http=insecure_http)
        self.host = urlsplit(self.address).netloc
        self.stop = stop or threading.Event()
        self.storage: Storage | None = None
        self._tell = tell
        self._site, self._key = "", None
        if identity is not None:
            self._site = identity[0]
            self._key = Ed25519PrivateKey.from_private_bytes(signing_secret(identity[1]))
            self._instance = identity[2]
        self._client = client_for(
            self.address,
            tls_context(ca_bundle),
            timeout=TIMEOUT,
            headers={"User-Agent": f"fedslice-site-agent/{AGENT_VERSION}"},
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        if self.storage is not None:
            self.storage.close()

    def ask(
        self,
        endpoint: Endpoint[B, W],
        body: B,
        *,
        patience: float = 60.0,
        query: Mapping[str, str | int] | None = None,
        **where: str,
    ) -> W:
        """What the coordinator answers to a request of the agents' API, tried again while that can help.
        `where` says what stands in the endpoint's path.

        `patience` (seconds) bounds all tries together. Raises the coordinator's refusal under its own code,
        or `agent.unreachable`, `agent.proxy`, `agent.overloaded`, `agent.bad_answer`, `agent.refused`,
        `agent.stopped`.
        """
        answer = self.answer(endpoint, body, patience=patience, query=query, **where)
        if answer.value is None:
            raise Refusal("agent.bad_answer", fault="it is empty")
        return answer.value

    def answer(
        self,
        endpoint: Endpoint[B, W],
        body: B,
        *,
        patience: float = 60.0,
        query: Mapping[str, str | int] | None = None,
        **where: str,
    ) -> HttpAnswer[W]:
        """As `ask`, with the headers, and where the answer may be empty."""
        headers, said = self._persist(endpoint, body, patience, query, where)
        return HttpAnswer(headers, None if said is None else read_as(said, endpoint.answer))

    def post(self, endpoint: Endpoint[B, W], body: B, *, patience: float = 60.0, **where: str) -> None:
        """As `ask`, where all that counts is that it was not refused: what is answered is not read."""
        self._persist(endpoint, body, patience, None, where)

    def send(self, endpoint: Endpoint[B, W], content: bytes, headers: dict[str, str], **where: str) -> W:
        """One try with raw bytes; the caller persists."""
        _, said = self._once(endpoint.method, endpoint.at(None, **where), content, headers)
        return read_as(said or msgspec.Raw(), endpoint.answer)

    def last_words(self, endpoint: Endpoint[B, W], body: B, **where: str) -> None:
        """One request, one try, also when the agent is stopping."""
        content = msgspec.json.encode(body)
        with self.stream(endpoint.method, endpoint.at(None, **where), content, JSON) as response:
            response.read()

    def _persist(
        self,
        endpoint: Endpoint[B, W],
        body: B,
        patience: float,
        query: Mapping[str, str | int] | None,
        where: dict[str, str],
    ) -> tuple[httpx.Headers, msgspec.Raw | None]:
        """Send it again while the refusal `is_passing`, for at most `patience` seconds."""
        path = endpoint.at(query, **where)
        content = msgspec.json.encode(body) if endpoint.method == "POST" else None
        headers = {} if content is None else JSON
        started = time.monotonic()
        number = 0
        while True:
            try:
                answer = self._once(endpoint.method, path, content, headers)
            except Refusal as refusal:
                if not is_passing(refusal):
                    raise
                seconds = pause(number, asked_pause(refusal))
                if time.monotonic() - started + seconds > patience:
                    raise
                self._tell(
                    _("%(fault)s Next try in %(time)s.")
                    % {"fault": refusal, "time": readable_seconds(seconds)}
                )
                self.rest(seconds)
                number += 1
                continue
            if number:
                waited = max(1.0, time.monotonic() - started)  # "after 0.0 s" says nothing
                self._tell(
                    _("The coordinator %(host)s answers again, after %(time)s.")
                    % {"host": self.host, "time": readable_seconds(waited)}
                )
            return answer

    def rest(self, seconds: float) -> None:
        """Wait.

        Raises: `agent.stopped` if the agent is asked to end meanwhile.
        """
        if self.stop.wait(seconds):
            raise Refusal("agent.stopped")

    @contextmanager
    def stream(
        self, method: str, path: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """One try, with the response's body still to be read. Network faults become `agent.unreachable` or
        `agent.proxy`, and error answers become refusals."""
        request = self._client.build_request(
            method,
            self.address + AGENTS_API + path,
            content=content,
            headers=(headers or {}) | self._authorization(bind_request(method, path, content)),
        )
        try:
            response = self._client.send(request, stream=True)
            try:
                if response.status_code >= 400 or 300 <= response.status_code < 400:
                    raise self._refusal(response)
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            raise self._no_line(error) from error
        except httpx.HTTPError as error:
            raise Refusal("agent.bad_answer", fault=type(error).__name__) from error

    def _no_line(self, error: httpx.TransportError) -> Refusal:
        """Whose fault it is: where a proxy stands in the way, a connection that was not made is one to it."""
        fault = in_plain_words(error)
        # TLS is spoken with the coordinator, through the proxy that was reached.
        proxied = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
        if proxied and not is_tls(error) and (way := proxy_for(self.address)) is not None:
            facts = {"proxy": way.shown, "variable": way.variable, "host": self.host}
            return Refusal("agent.proxy", **facts, fault=fault)
        return Refusal("agent.unreachable", host=self.host, fault=fault)

    def _once(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> tuple[httpx.Headers, msgspec.Raw | None]:
        if self.stop.is_set():
            raise Refusal("agent.stopped")
        with self.stream(method, path, content, headers) as response:
            return response.headers, read_json(response)

    def _authorization(self, bound: BoundRequest) -> dict[str, str]:
        if self._key is None:
            return {}
        now = int(time.time())
        claims = {
            "iss": self._site,
            "sub": self._site,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "jti": str(uuid.uuid4()),
            **bound._asdict(),
            **self._instance._asdict(),
        }
        return {"Authorization": f"Bearer {jwt.encode(claims, self._key, algorithm='EdDSA')}"}

    def _refusal(self, response: httpx.Response) -> Refusal:
        """The coordinator's error under its own code; its words only where the code is new to us."""
        status = response.status_code
        try:
            said = read_json(response)
            body = None if said is None else read_as(said, object)
        except Refusal:
            body = None
        code = body.get("code") if isinstance(body, dict) else None
        facts = body.get("facts") if isinstance(body, dict) else None
        safe = {name: _fact(value) for name, value in (facts if isinstance(facts, dict) else {}).items()}
        known = isinstance(code, str) and code in CATALOGUE and code != "internal"
        if status == 429 or status >= 500:
            asked = retry_after(response.headers.get("retry-after"))
            if known and CATALOGUE[str(code)].retry:
                return CoordinatorBusy(str(code), safe, asked)
            if not known:
                return CoordinatorBusy("agent.overloaded", {"host": self.host, "status": status}, asked)
        if known:
            return CoordinatorRefusal(str(code), safe)
        if not isinstance(body, dict) or not isinstance(code, str):
            onward = _host_of(response.headers.get("location", "")) if status < 400 else ""
            fault = f"it sends us on to {onward}" if onward else "not from the agents' API"
            return Refusal("agent.bad_answer", fault=f"status {status}, {fault}")
        text = printable(f"{body.get('message', '')} {body.get('hint', '')}", 500)
        if body.get("reference"):
            text += f" Reference: {printable(body['reference'], 40)}."
        return Refusal("agent.refused", found=printable(code, 64), text=text)


class CoordinatorRefusal(Refusal):
    """A refusal that the coordinator sent. Its facts may have any names."""

    def __init__(self, code: str, facts: dict[str, Fact]) -> None:
        super().__init__(code)
        self.facts = facts


class CoordinatorBusy(CoordinatorRefusal):
    """The coordinator cannot do it now (429 or 5xx). `asked` is its Retry-After in seconds, or None."""

    def __init__(self, code: str, facts: dict[str, Fact], asked: float | None) -> None:
        super().__init__(code, facts)
        self.asked = asked


def is_passing(refusal: Refusal) -> bool:
    """Whether the same request can succeed a little later: the line was down, or the coordinator was busy."""
    return isinstance(refusal, CoordinatorBusy) or refusal.code in PASSING


def asked_pause(refusal: Refusal) -> float | None:
    """How long the coordinator asked us to wait, if it did (seconds)."""
    return refusal.asked if isinstance(refusal, CoordinatorBusy) else None


def _fact(value: Any) -> Fact:
    return value if isinstance(value, int | float | None) else printable(value, 300)


def read_json(response: httpx.Response) -> msgspec.Raw | None:
    """The response's JSON, read within the limit; None if it is empty."""
    data = bytearray()
    for part in response.iter_bytes():
        data += part
        if len(data) > MAX_ANSWER_BYTES:
            raise Refusal("agent.bad_answer", fault=f"it is larger than {MAX_ANSWER_BYTES >> 20} MiB")
    if not data:
        return None
    try:
        return msgspec.json.decode(data, type=msgspec.Raw)
    except (ValueError, RecursionError) as error:
        page = "text/html" in response.headers.get("content-type", "")
        raise Refusal("agent.bad_answer", fault=f"it is {'a web page' if page else 'not JSON'}") from error


def read_as(said: msgspec.Raw, kind: type[W]) -> W:
    """JSON as a value of this kind. Nobody asks again for another form: it was taken, and answered.

    Raises: `agent.bad_answer`.
    """
    try:
        return msgspec.json.decode(said, type=kind)  # it lets no half of a character pair through
    except (ValueError, RecursionError) as error:
        raise Refusal("agent.bad_answer", fault=printable(error, 200)) from error


def _host_of(address: str) -> str:
    try:
        return printable(urlsplit(address).netloc, 100)
    except ValueError:
        return ""
