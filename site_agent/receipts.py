"""The receipts of a run as this site knows them: one unbroken chain, each signed by an enclave that this site
has attested itself. The last one decides what may come next, also after a restart of the agent.

The coordinator brings receipts and is not believed. What it can do is to keep the newest ones back.
"""

from __future__ import annotations

import msgspec

from contracts.agents_api.runs import RECEIPTS
from contracts.course import is_over, server_of
from contracts.evidence import Evidence
from contracts.manifest import Manifest
from contracts.program_calls import Nothing
from contracts.receipt_chain import course_fault, parse_receipt, verify_chain
from contracts.receipts import NO_RECEIPT, SignedReceipt, receipt_hash
from contracts.refusal import Refusal
from contracts.sealed.handback import MOST_NAMED
from site_agent.files import create_private
from site_agent.signers import Signers
from site_agent.state import State
from site_agent.transport import Coordinator


class ReceiptBook:
    """The receipts of one run, a file for each round."""

    def __init__(self, state: State, manifest: Manifest, coordinator: Coordinator) -> None:
        self._folder = state.receipts / manifest.hash
        self._manifest = manifest
        self._coordinator = coordinator
        self._signers = Signers(state, manifest)

    def attested(self, evidence: Evidence) -> None:
        """This site has found evidence of an enclave of this run good: what its key signs counts."""
        self._signers.enter(evidence)

    def last(self, *, before: int | None = None) -> SignedReceipt | None:
        """The latest receipt here, or the latest of a round before `before`.

        Raises: `agent.state_damaged`.
        """
        known = [number for number in self._rounds() if before is None or number < before]
        return self._read(max(known)) if known else None

    def last_hash(self, *, before: int | None = None) -> str:
        """Its hash; NO_RECEIPT before the first."""
        last = self.last(before=before)
        return NO_RECEIPT if last is None else receipt_hash(last.receipt)

    def catch_up(self) -> str:
        """Fetch what was published since, and enter it; the hash of the last receipt then.

        Each receipt continues the chain, is of a round that the manifest has, and is signed by an attested
        enclave of this run's server program.

        Raises: `receipt.*`, `sealing.bad_signature`, or an `agent.` code where the line is down.
        """
        self._require_no_fork()
        while True:
            last = self.last()
            after = 0 if last is None else last.receipt.round
            run, after_it = self._manifest.run, {"after": after}
            given = self._coordinator.ask(RECEIPTS, Nothing(), query=after_it, run=run).receipts
            for item in given:
                self._enter(bytes(item))
            if not given:
                return self.last_hash()

    def name_to(self, enclave: str) -> str:
        """The hash of the last receipt, after catching up, for the enclave with this signing key, which is
        entered first where the run is over and its manifest bounds what each enclave answers.

        Raises: as `catch_up`, or `serving.too_many_enclaves`.
        """
        name, last = self.catch_up(), self.last()
        if last is None or not self._manifest.release.answers or not is_over(self._manifest, last.receipt):
            return name
        entered = {path.name for path in self._folder.glob("named-*")}
        if f"named-{enclave}" not in entered and len(entered) >= MOST_NAMED:
            raise Refusal("serving.too_many_enclaves", limit=MOST_NAMED)
        create_private(self._folder / f"named-{enclave}", b"")
        return name

    def require_latest(self, given: bytes | SignedReceipt, *, before: int | None = None) -> SignedReceipt:
        """That this receipt is the last one (of the rounds before `before`), after catching
        up.

        Raises: as `catch_up`, or `receipt.not_ours`.
        """
        self.catch_up()
        signed = parse_receipt(given)
        self._require_same_past(signed)
        if receipt_hash(signed.receipt) != self.last_hash(before=before):
            raise _not_ours(signed, "it is not the last one of the run")
        return signed

    def _enter(self, given: bytes) -> None:
        signed, last = parse_receipt(given), self.last()
        receipt, manifest = signed.receipt, self._manifest
        self._require_same_past(signed)
        faults = {
            "it comes from another program": receipt.program != server_of(manifest),
            "its development mark is wrong": receipt.development != (manifest.policy.root == "development"),
            "it does not follow the last one seen": receipt.previous != self.last_hash(),
        }
        for fault, found in faults.items():
            if found:
                raise _not_ours(signed, fault)
        wrong = course_fault(manifest, None if last is None else last.receipt, receipt)
        if wrong is not None:
            raise _not_ours(signed, wrong)
        verify_chain(
            [signed] if last is None else [last, signed],
            after=NO_RECEIPT if last is None else last.receipt.previous,
        )
        create_private(self._folder / f"{receipt.round}.json", msgspec.json.encode(signed))

    def _require_same_past(self, signed: SignedReceipt) -> None:
        """It is this run's, by an attested enclave, and no other was seen for its round or after the receipt
        that it follows: else the server has two histories, and this is the proof."""
        receipt, manifest = signed.receipt, self._manifest
        if (receipt.manifest, receipt.run) != (manifest.hash, manifest.run):
            raise _not_ours(signed, "it belongs to another run")
        self._signers.require(signed.signing_key, self._coordinator)
        for round in self._rounds():
            known = self._read(round)
            same_place = round == receipt.round or known.receipt.previous == receipt.previous
            if same_place and receipt_hash(known.receipt) != receipt_hash(receipt):
                proof = msgspec.json.encode({"known": known, "shown": signed})
                create_private(self._folder / f"fork-{receipt_hash(receipt)[:16]}.json", proof)
                raise Refusal("receipt.fork", round=receipt.round)

    def _rounds(self) -> list[int]:
        return [int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdigit()]

    def _require_no_fork(self) -> None:
        """Nothing more is done for this run before people have looked at it."""
        for proof in sorted(self._folder.glob("fork-*.json")):
            shown = msgspec.json.decode(proof.read_bytes())["shown"]
            raise Refusal("receipt.fork", round=shown["receipt"]["round"])

    def _read(self, round: int) -> SignedReceipt:
        path = self._folder / f"{round}.json"
        try:
            return parse_receipt(path.read_bytes())
        except Refusal as error:
            raise Refusal("agent.state_damaged", file=f"receipts/{path.parent.name}/{path.name}") from error


def _not_ours(signed: SignedReceipt, fault: str) -> Refusal:
    return Refusal("receipt.not_ours", round=signed.receipt.round, fault=fault)
