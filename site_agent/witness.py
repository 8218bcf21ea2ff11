"""The site watches the coordinator's transparency log: it only grows, and what the site relies on is in it.

The fingerprint of the log's key was typed at enrolment. A log that is cut, rewritten or shown again is a
fork; the site keeps what it was shown as proof, and works no further until a person has looked at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contracts.agents_api.log import CHECKPOINT, CONSISTENCY, PROOF
from contracts.fingerprint import fingerprint
from contracts.log.checkpoint import Checkpoint, verify_checkpoint
from contracts.log.following import follow
from contracts.log.note import NoteKey, parse_vkey
from contracts.log.proof import Logged, require_logged
from contracts.manifest import Manifest
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from site_agent.files import create_private, write_private
from site_agent.state import State
from site_agent.transport import Coordinator

FORKS = {
    "log.not_consistent",
    "log.went_back",
    "log.bad_checkpoint_signature",
    "log.wrong_origin",
    "log.new_key",
}


def log_key_fingerprint(vkey: str) -> str:
    """Of a log's verifier key, name and all: what is typed at enrolment."""
    return fingerprint(vkey.strip().encode())


class LogWitness:
    """Follows one coordinator's log. `folder` keeps its key, the last checkpoint, and the proof of a fork;
    `pinned` is the fingerprint of its key."""

    def __init__(self, folder: Path, pinned: str | None) -> None:
        self._folder = folder
        self._pinned = pinned
        self._key = folder / "key"
        self._checkpoint = folder / "checkpoint"

    @classmethod
    def of(cls, state: State) -> LogWitness:
        """This site's."""
        return cls(state.log, state.config.log_key)

    def require_no_fork(self) -> None:
        """Raises: `log.fork` while the proof of one lies in the folder."""
        for proof in sorted(self._folder.glob("fork-*.json")):
            raise Refusal("log.fork", fault=f"see {proof.name}")

    def seen(self) -> Checkpoint | None:
        """The last checkpoint that was accepted, or None."""
        if not self._checkpoint.exists():
            return None
        return verify_checkpoint(self._checkpoint.read_bytes(), parse_vkey(self._key.read_text()))

    def look(self, coordinator: Coordinator, *, patience: float = 60.0) -> Checkpoint:
        """Fetch the present checkpoint, see that it grew from the last one, and keep it.

        Raises: `log.fork` (the proof is kept), `log.key_not_pinned`, `log.other_key`, or an `agent.` code
        where the line is down.
        """
        self.require_no_fork()
        shown = coordinator.ask(CHECKPOINT, Nothing(), patience=patience)
        return self._follow(coordinator, shown.checkpoint, shown.key, patience=patience)

    def require(
        self, coordinator: Coordinator, manifest: Manifest, kind: str, **about: str | int
    ) -> tuple[dict[str, Any], Logged]:
        """The body of the log's entry of this kind about the manifest's run, and its proof: it is in the log
        that this site follows, under a checkpoint that every witness of the manifest has cosigned.

        A missing proof is a refusal.

        Raises: `approval.other_log`, `log.not_included`, `log.not_cosigned`, `log.wrong_entry`, what the
        coordinator raises, or as `look`.
        """
        self.require_no_fork()
        log = manifest.log
        if log is None or self._pinned is None or log_key_fingerprint(log.key) != self._pinned:
            raise Refusal("approval.other_log")
        asked = {"kind": kind, "manifest": manifest.hash, **about}
        logged = coordinator.ask(PROOF, Nothing(), query=asked)
        self._follow(coordinator, logged.checkpoint, log.key, older=True)
        witnesses = [parse_vkey(witness) for witness in log.witnesses]
        return require_logged(logged, kind, self._parsed(log.key), witnesses)[0], logged

    def _parsed(self, key: str) -> NoteKey:
        """The log's key.

        Raises: `log.key_not_pinned`, `log.new_key` or `log.other_key`.
        """
        if self._pinned is None:
            raise Refusal("log.key_not_pinned")
        if self._key.exists() and self._key.read_text() != key:
            raise Refusal("log.new_key")
        if log_key_fingerprint(key) != self._pinned:
            raise Refusal("log.other_key", found=log_key_fingerprint(key), expected=self._pinned)
        create_private(self._key, key.encode())
        return parse_vkey(key)

    def _follow(
        self, coordinator: Coordinator, note: str, key: str, *, older: bool = False, patience: float = 60.0
    ) -> Checkpoint:
        """Accept a checkpoint that grew from the last one; with `older` also one that the last one grew from
        (what witnesses have cosigned lags behind)."""
        proof: list[str] = []
        try:
            new = verify_checkpoint(note, self._parsed(key))
            seen = self.seen()
            before, after = seen, new
            if older and seen is not None and new.size < seen.size:
                before, after = new, seen
            if before is not None and 0 < before.size < after.size:
                sizes = {"from": before.size, "to": after.size}
                proof = coordinator.ask(CONSISTENCY, Nothing(), query=sizes, patience=patience).proof
            follow(before, after, [bytes.fromhex(value) for value in proof])
        except Refusal as refusal:
            if refusal.code in FORKS:
                self._keep_proof(note, key, proof, refusal)
                raise Refusal("log.fork", fault=str(refusal)) from refusal
            raise
        if after is new:
            write_private(self._checkpoint, note.encode())
        return new

    def _keep_proof(self, note: str, key: str, proof: list[str], refusal: Refusal) -> None:
        before = self._checkpoint.read_text() if self._checkpoint.exists() else None
        evidence = {
            "code": refusal.code,
            "seen": before,
            "seen_key": self._key.read_text() if self._key.exists() else None,
            "shown": note,
            "shown_key": key,
            "proof": proof,
        }
        number = len(list(self._folder.glob("fork-*.json"))) + 1
        write_private(self._folder / f"fork-{number}.json", json.dumps(evidence, indent=1).encode())
