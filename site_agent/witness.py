"""The site watches the coordinator's transparency log: it may only grow, and the site remembers how far.

The log's key is the first that the site has seen. A log that is cut, rewritten or shown anew is a fork;
the site keeps what it was shown as proof, and works no further until a person has looked at it.
"""

from __future__ import annotations

import json
from pathlib import Path

from contracts.log.checkpoint import Checkpoint, follow, verify_checkpoint
from contracts.log.note import parse_vkey
from contracts.refusal import Refusal
from site_agent.files import create_private, write_private
from site_agent.transport import Answer, Coordinator

FORKS = {
    "log.not_consistent",
    "log.went_back",
    "log.bad_checkpoint_signature",
    "log.wrong_origin",
    "log.new_key",
}


class LogWitness:
    """Follows one coordinator's log. `folder` keeps its key, the last checkpoint, and the proof of a fork."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = folder / "key"
        self._checkpoint = folder / "checkpoint"

    def require_no_fork(self) -> None:
        """Refuses with `log.fork` while the proof of one lies in the folder."""
        for proof in sorted(self._folder.glob("fork-*.json")):
            raise Refusal("log.fork", fault=f"see {proof.name}")

    def seen(self) -> Checkpoint | None:
        """The last checkpoint that was accepted, or None."""
        if not self._checkpoint.exists():
            return None
        return verify_checkpoint(self._checkpoint.read_bytes(), parse_vkey(self._key.read_text()))

    def look(self, coordinator: Coordinator, *, patience: float = 60.0) -> Checkpoint:
        """Fetch the present checkpoint, see that it grew from the last one, and keep it.

        Refuses with `log.fork` (the proof is kept), or with an `agent.` code where the line is down.
        """
        self.require_no_fork()
        shown = coordinator.call("GET", "log/checkpoint", patience=patience)
        note, key = shown.field("checkpoint", str), shown.field("key", str)
        proof: list[str] = []
        try:
            if not create_private(self._key, key.encode()) and self._key.read_text() != key:
                raise Refusal("log.new_key")
            new = verify_checkpoint(note, parse_vkey(key))
            seen = self.seen()
            if seen is not None and 0 < seen.size < new.size:
                path = f"log/consistency?from={seen.size}&to={new.size}"
                proof = _hashes(coordinator.call("GET", path, patience=patience))
            follow(seen, new, [bytes.fromhex(value) for value in proof])
        except Refusal as refusal:
            if refusal.code in FORKS:
                self._keep_proof(note, key, proof, refusal)
                raise Refusal("log.fork", fault=str(refusal)) from refusal
            raise
        write_private(self._checkpoint, note.encode())
        return new

    def _keep_proof(self, note: str, key: str, proof: list[str], refusal: Refusal) -> None:
        before = self._checkpoint.read_text() if self._checkpoint.exists() else None
        evidence = {
            "code": refusal.code,
            "seen": before,
            "seen_key": self._key.read_text(),
            "shown": note,
            "shown_key": key,
            "proof": proof,
        }
        number = len(list(self._folder.glob("fork-*.json"))) + 1
        write_private(self._folder / f"fork-{number}.json", json.dumps(evidence, indent=1).encode())


def _hashes(answer: Answer) -> list[str]:
    values = answer.field("proof", list)
    if not all(isinstance(value, str) and len(value) == 64 and value.isalnum() for value in values):
        raise Refusal("agent.bad_answer", fault="the consistency proof is not a list of hashes")
    try:
        return [bytes.fromhex(value).hex() for value in values]
    except ValueError as error:
        raise Refusal("agent.bad_answer", fault="the consistency proof is not a list of hashes") from error
