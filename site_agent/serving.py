"""A served model as this site uses it: verified here, asked under seal, asked again when its enclave dies.

What leaves the site are features of the public front, sealed to the enclave whose evidence was judged here by
the policy of the manifest that this site approved. The lengths of texts show in the sizes of messages.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from contracts.agents_api.enclaves import SERVING_EVIDENCE, NonceBody
from contracts.agents_api.serving import CLOSE, OPEN, SERVED, STEP, ServedAnswer
from contracts.evidence import Claims
from contracts.manifest import Manifest
from contracts.policy import Program
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from contracts.sealed.session import ClientHello, SessionChannel, decode, encode
from contracts.serving_calls import CloseArguments, OpenArguments, StepArguments
from site_agent.approvals import approved_manifest
from site_agent.evidence import Verifier
from site_agent.formatting import printable
from site_agent.proofs import require_appraisal
from site_agent.receipts import ReceiptBook
from site_agent.state import State
from site_agent.transport import Coordinator
from translations.catalogues import words

_ = words("site_agent")

PROGRAM: Program = "split_server"
PART_BYTES = 512 << 10
PATIENCE = 600.0
"""Seconds that a question may wait for an enclave that is being started again."""
MAX_BREAKS = 5
BROKEN = {
    "serving.unknown_session",
    "serving.out_of_order",
    "serving.bad_message",
    "serving.bad_opening",
    "serving.too_many_sessions",
}
"""After these the enclave is verified again and another session opened."""

T = TypeVar("T")


def offers(coordinator: Coordinator) -> list[ServedAnswer]:
    """What may be asked.

    Raises: `agent.bad_answer`.
    """
    return coordinator.ask(SERVED, Nothing())


def choose(state: State, coordinator: Coordinator, asked: str | None) -> tuple[ServedAnswer, Manifest]:
    """The run that `asked` names by its id, the beginning of its fingerprint, or its study's name; without
    it the only one there is.

    Raises: `serving.not_here`, `run.not_approved_here`, or `run.wrong_manifest` where the coordinator names
    another run for this manifest.
    """
    wanted = (asked or "").lower()
    found = [
        offer
        for offer in offers(coordinator)
        if not wanted
        or wanted in (offer.run.lower(), offer.study.lower())
        or (len(wanted) >= 8 and offer.manifest_hash.startswith(wanted))
    ]
    if len(found) != 1:
        raise Refusal("serving.not_here", asked=printable(asked or "any name", 80), found=len(found))
    manifest = approved_manifest(state, found[0].manifest_hash)
    if manifest.run != found[0].run or manifest.split is None:
        raise Refusal("run.wrong_manifest", fingerprint=manifest.hash[:16])
    return found[0], manifest


class ServedModel:
    """Sessions with one run's served model. Not for several threads."""

    def __init__(
        self, state: State, coordinator: Coordinator, manifest: Manifest, tell: Callable[[str], None]
    ) -> None:
        self._state, self._coordinator, self._manifest, self._tell = state, coordinator, manifest, tell
        self._verifier = Verifier(manifest, PROGRAM, state.folder)
        self._receipts = ReceiptBook(state, manifest, coordinator)
        self._claims: Claims | None = None
        self._channel: SessionChannel | None = None
        self._breaks = 0

    def ask(self, question: bytes) -> bytes:
        """The answer to a question that stands for itself; asked again as a whole if the session breaks."""
        return self.persist(lambda: self._ask(question))

    def ask_on(self, question: bytes, again: Callable[[], bytes]) -> bytes:
        """The answer to a question that goes on with the session. If the session is gone, `again` gives the
        question that says all of it at once."""
        if self._channel is not None:
            try:
                return self._asked(question)
            except Refusal as refusal:
                self._broken(refusal)
        return self.persist(lambda: self._ask(again()))

    def persist(self, attempt: Callable[[], T]) -> T:
        """Try until an answer comes.

        Raises: `serving.lost` after MAX_BREAKS breaks without one.
        """
        while True:
            try:
                return attempt()
            except Refusal as refusal:
                self._broken(refusal)

    def close(self) -> None:
        """End the session at the enclave. It would end by itself."""
        if self._channel is not None:
            name, self._channel = self._channel.name, None
            try:
                self._coordinator.post(CLOSE, CloseArguments(name), patience=0, run=self._manifest.run)
            except Refusal:
                return

    def _broken(self, refusal: Refusal) -> None:
        """Forget the session and the enclave if that is what the refusal means; else raise it."""
        self._channel = None
        if refusal.code not in BROKEN:
            raise refusal
        self._breaks += 1
        if self._breaks > MAX_BREAKS:
            raise Refusal("serving.lost", times=self._breaks) from refusal
        self._claims = None
        self._tell(_("%(fault)s Verifying the enclave and asking again.") % {"fault": refusal})
        self._coordinator.rest(0.2 * self._breaks)

    def _ask(self, question: bytes) -> bytes:
        if self._channel is None:
            self._channel = self._open()
        return self._asked(question)

    def _asked(self, question: bytes) -> bytes:
        """Send a question in parts, and open its answer."""
        channel = self._channel
        assert channel is not None
        answered = None
        for start in range(0, len(question), PART_BYTES):
            more = start + PART_BYTES < len(question)
            number = channel.sent
            sealed = encode(channel.seal(question[start : start + PART_BYTES], more=more))
            body = StepArguments(channel.name, number, sealed, more)
            answered = self._coordinator.ask(STEP, body, patience=PATIENCE, run=self._manifest.run)
        if answered is None or answered.sealed is None:
            raise Refusal("agent.bad_answer", fault="the served model's answer is missing")
        answer = channel.open(decode(answered.sealed))
        self._breaks = 0
        return answer

    def _open(self) -> SessionChannel:
        if self._claims is None:
            self._tell(_("Verifying the served model's enclave."))
            self._claims = self._verify()
        hello = ClientHello(
            self._manifest.hash,
            self._state.config.site,
            self._state.key,
            hpke_key=self._claims.hpke_key,
            signing_key=self._claims.signing_key,
            receipt=self._receipts.catch_up(),
        )
        body = OpenArguments(hello.opening)
        opened = self._coordinator.ask(OPEN, body, patience=PATIENCE, run=self._manifest.run)
        return hello.finish(opened.session, decode(opened.proof))

    def _verify(self) -> Claims:
        """The claims of the enclave, once its evidence for a nonce of ours was found good here, and stands
        in the log.

        Raises: the code of the failed check, or as `require_appraisal`.
        """
        nonce = secrets.token_hex(32)
        run, body = self._manifest.run, NonceBody(nonce)
        shown = self._coordinator.ask(SERVING_EVIDENCE, body, patience=PATIENCE, run=run)
        claims = self._verifier.evidence(shown.evidence, nonce).claims
        require_appraisal(self._state, self._coordinator, self._manifest, claims)
        return claims
