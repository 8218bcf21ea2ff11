"""This site's part in one run of Method 2: which server enclave it has verified.

The site needs no TEE: what it computes with is its own text and a public front. What it must see to is that
its keys go to no other enclave than the one that its own people approved, so the evidence is judged here, by
the policy of the approved manifest, for a nonce drawn here, before a key is wrapped.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable

from contracts.agents_api.enclaves import EVIDENCE, EvidenceAnswer, NonceBody
from contracts.evidence import Claims
from contracts.manifest import Manifest
from contracts.policy import Program
from contracts.refusal import Refusal
from site_agent.approvals import approved_manifest
from site_agent.evidence import Verifier
from site_agent.files import private_folder
from site_agent.methods.interface import RUN_OVER
from site_agent.proofs import require_appraisal
from site_agent.receipts import ReceiptBook
from site_agent.state import State
from site_agent.transport import Coordinator

SERVER: Program = "split_server"


class SplitRunSession:
    """This site's part in one run of Method 2: which server enclave it has verified."""

    def __init__(self, state: State, coordinator: Coordinator, run: str, manifest_hash: str) -> None:
        """Raises: `run.not_approved_here`: nothing is asked or computed for such a manifest."""
        self.manifest: Manifest = approved_manifest(state, manifest_hash)
        self.folder = private_folder(state.runs / self.manifest.hash)
        self._state = state
        self._coordinator = coordinator
        self._run = run
        self.receipts = ReceiptBook(state, self.manifest, coordinator)
        self._verifier = Verifier(self.manifest, SERVER, state.folder)
        self._verified: tuple[int, Claims] | None = None

    def verified(self, epoch: int, tell: Callable[..., None]) -> Claims:
        """The claims of the server enclave of this epoch, once its evidence was found good here.

        Raises: the code of the failed check, or `run.reattest` where another enclave answers.
        """
        if self._verified is None or self._verified[0] != epoch:
            tell("verifying the server enclave")
            self._verified = self._verify(epoch)
            if self._verified[0] != epoch:
                raise Refusal("run.reattest")
        return self._verified[1]

    def is_active(self) -> bool:
        """Whether the coordinator still has something for this run; in doubt, yes."""
        try:
            asked = NonceBody(secrets.token_hex(32))
            self._coordinator.post(EVIDENCE, asked, patience=0, run=self._run)
        except Refusal as refusal:
            return refusal.code not in RUN_OVER
        return True

    def attest_again(self) -> None:
        """Forget what was verified."""
        self._verified = None

    def close(self) -> None:
        """Nothing runs for it outside of a job."""

    def forget(self) -> None:
        """The run is over."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _verify(self, epoch: int) -> tuple[int, Claims]:
        nonce = secrets.token_hex(32)
        answer = self._ask(NonceBody(nonce, epoch))
        evidence = self._verifier.evidence(answer.evidence, nonce)
        require_appraisal(self._state, self._coordinator, self.manifest, evidence.claims)
        self.receipts.attested(evidence)
        return answer.epoch, evidence.claims

    def _ask(self, body: NonceBody) -> EvidenceAnswer:
        return self._coordinator.ask(EVIDENCE, body, run=self._run)
