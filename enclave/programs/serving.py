"""Serving a trained tail: sessions of attested, metered and limited questions, answered inside the enclave.

The host relays messages (`contracts.sealed.session`) that it cannot read, and is told counts only: sessions,
questions, texts, tokens and bytes, all of which it could count by the sizes of what it relays.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from contracts.releases import SERVE, allowed, require_approved
from contracts.sealed.session import Opening, SessionChannel, accept, decode, encode
from contracts.serving_calls import Meters, ServeArguments, SessionOpened, SiteMeter, StepArguments, Stepped
from enclave.programs.identity import Identity

MAX_QUESTION_BYTES = 64 << 20


class Served(Protocol):
    """The model behind the sessions: `slicing.questions.TailAnswers`."""

    receipt: str

    def text(self) -> Any:
        """What a new session remembers of its text."""

    def answer(self, question: bytes, text: Any) -> tuple[bytes, int, int]:
        """(answer, texts, tokens) to a question of a session."""


@dataclass(frozen=True)
class SessionLimits:
    """What one site may use of an enclave. An idle session is closed after `idle` seconds."""

    sessions: int = 8
    messages: int = 100_000
    bytes: int = 8 << 30
    idle: float = 900.0


@dataclass
class Meter:
    """Counts of a site."""

    sessions: int = 0
    questions: int = 0
    texts: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass
class _Open:
    """An open session. `last` repeats the answer to a message whose answer was lost on its way."""

    site: str
    channel: SessionChannel
    touched: float
    text: Any
    pending: bytearray = field(default_factory=bytearray)
    taken: int = 0
    last: tuple[int, bytes, Stepped] | None = None


class Serving:
    """All sessions of one enclave. `served` gives the trained model, or refuses with `serving.not_ready`."""

    def __init__(
        self,
        identity: Identity,
        served: Callable[[], Served],
        limits: SessionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity, self._served = identity, served
        self._limits, self._clock = limits or SessionLimits(), clock
        self._sessions: dict[str, _Open] = {}
        self._revoked: set[str] = set()
        self._ordered: str | None = None
        self._meters: dict[str, Meter] = {}

    def begin(self, asked: ServeArguments) -> Nothing:
        """Serve the parameters after this receipt, as enough of the run's sites have signed. The host brings
        the signatures; its word counts for nothing.

        Raises: `serving.not_allowed`, `serving.not_ready`, `state.not_named`, `release.wrong_receipt`, or
        as `require_approved`.
        """
        identity = self._identity
        allowed(identity.manifest, SERVE)
        receipt = self._served().receipt
        if asked.receipt != receipt:
            raise Refusal("release.wrong_receipt")
        require_approved(identity.manifest, receipt, asked.release_approvals, identity.approvals, SERVE)
        self._ordered = receipt
        return Nothing()

    def open(self, opening: Opening) -> SessionOpened:
        """Open a session for a site of the manifest.

        Raises: `serving.not_ready`, `state.not_named`, `serving.not_signed` before `begin`,
        `manifest.unknown_site`, `serving.revoked`, `serving.bad_opening`, `serving.another_past` where the
        site knows another last receipt of the run, or `serving.too_many_sessions`.
        """
        identity = self._identity
        served = self._served()
        if self._ordered != served.receipt:
            raise Refusal("serving.not_signed", needed=identity.manifest.release.approvals)
        site = identity.manifest.site(opening.site)
        if site.id in self._revoked:
            raise Refusal("serving.revoked")
        channel, proof = accept(
            opening,
            manifest=identity.manifest_hash,
            public_key=site.public_key,
            hpke=identity.hpke,
            signing_key=identity.signing.public,
        )
        if opening.receipt != served.receipt:
            raise Refusal("serving.another_past")
        self._expire()
        if sum(session.site == site.id for session in self._sessions.values()) >= self._limits.sessions:
            raise Refusal("serving.too_many_sessions", limit=self._limits.sessions)
        self._sessions[channel.name] = _Open(site.id, channel, self._clock(), served.text())
        self._meter(site.id).sessions += 1
        return SessionOpened(channel.name, encode(proof))

    def step(self, step: StepArguments) -> Stepped:
        """Take a message. The last of a question is answered; the others are taken note of.

        The last message may come again, as its answer may have been lost: it gets the same sealed answer.

        Raises: `serving.unknown_session`, `serving.out_of_order`, `serving.bad_message`, `serving.limit`,
        `serving.quota`, `serving.bad_question` or `split.too_long`.
        """
        self._expire()
        session = self._sessions.get(step.session)
        if session is None:
            raise Refusal("serving.unknown_session")
        sealed = decode(step.sealed)
        name = hashlib.sha256(sealed).digest()
        if session.last is not None and session.last[:2] == (step.number, name):
            return session.last[2]
        if step.number != session.channel.received:
            raise Refusal("serving.out_of_order", found=step.number, expected=session.channel.received)
        self._require_room(session, len(sealed))
        session.pending += session.channel.open(sealed, more=step.more)
        session.touched = self._clock()
        session.taken += len(sealed)
        self._meter(session.site).bytes += len(sealed)
        reply = Stepped(step.number, None, 0, 0)
        if not step.more:
            question, session.pending = bytes(session.pending), bytearray()
            reply = Stepped(step.number, *self._answer(session, question))
        session.last = (step.number, name, reply)
        return reply

    def close(self, session: str) -> Nothing:
        """Forget a session; one that is gone is no error."""
        self._sessions.pop(session, None)
        return Nothing()

    def revoke(self, sites: Iterable[str]) -> Nothing:
        """Exactly these sites have no session from now on."""
        self._revoked = set(sites)
        for name, session in list(self._sessions.items()):
            if session.site in self._revoked:
                del self._sessions[name]
        return Nothing()

    def meters(self) -> Meters:
        """Counts by site, and how many sessions are open."""
        self._expire()
        counts = {site: SiteMeter(**vars(meter)) for site, meter in sorted(self._meters.items())}
        return Meters(len(self._sessions), counts)

    def _answer(self, session: _Open, data: bytes) -> tuple[str, int, int]:
        answer, texts, tokens = self._served().answer(data, session.text)
        meter, most = self._meter(session.site), self._identity.manifest.release.answers
        if most and meter.texts + texts > most:
            raise Refusal("serving.quota", limit=most)
        meter.questions += 1
        meter.texts += texts
        meter.tokens += tokens
        return encode(session.channel.seal(answer)), texts, tokens

    def _require_room(self, session: _Open, more: int) -> None:
        if len(session.pending) + more > MAX_QUESTION_BYTES:
            raise Refusal("serving.limit", limit=MAX_QUESTION_BYTES, unit="bytes a question")
        if session.taken + more > self._limits.bytes:
            raise Refusal("serving.limit", limit=self._limits.bytes, unit="bytes")
        if session.channel.received >= self._limits.messages:
            raise Refusal("serving.limit", limit=self._limits.messages, unit="messages")

    def _expire(self) -> None:
        now = self._clock()
        for name, session in list(self._sessions.items()):
            if now - session.touched > self._limits.idle:
                del self._sessions[name]

    def _meter(self, site: str) -> Meter:
        return self._meters.setdefault(site, Meter())
