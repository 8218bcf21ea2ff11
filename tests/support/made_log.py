"""A log as a coordinator keeps it: a real tree, real checkpoints, and entries that a test may change."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.canonical import canonical
from contracts.kept_keys import signing_key
from contracts.log import growth, merkle
from contracts.log.checkpoint import Checkpoint
from contracts.log.following import sign_checkpoint
from contracts.log.note import NoteKey
from contracts.log.note_writing import vkey_of
from contracts.manifest import Manifest
from tests.support.witness import cosign, witness_key

LOG_KEY = signing_key(b"L" * 32)
ORIGIN = "coordinator.example/log"
VKEY = vkey_of(NoteKey(ORIGIN, LOG_KEY.public))
WITNESS = signing_key(b"W" * 32)
WITNESS_KEY = witness_key("witness.example/w1", WITNESS.public)


class MadeLog:
    """`entries` may be changed as no honest log's would. `cosigned`: the witness signs; `borrowed`:
    its cosignature of the checkpoint of a log of this name is put under this one's."""

    def __init__(self) -> None:
        self.key = LOG_KEY
        self.origin = ORIGIN
        self.entries = [b"one", b"two", b"three"]
        self.cosigned, self.borrowed = False, ""

    @property
    def store(self) -> growth.MemoryStore:
        store = growth.MemoryStore()
        for index, entry in enumerate(self.entries):
            growth.append(store, index, merkle.leaf_hash(entry))
        return store

    @property
    def note(self) -> str:
        size = len(self.entries)
        root = growth.root(self.store, size)
        note = sign_checkpoint(Checkpoint(self.origin, size, root), self.key)
        if self.borrowed:
            other = sign_checkpoint(Checkpoint(self.borrowed, size, root), self.key)
            return note + self._cosigned(other, self.borrowed).splitlines(keepends=True)[-1]
        return self._cosigned(note, self.origin) if self.cosigned else note

    def _cosigned(self, note: str, origin: str) -> str:
        log = NoteKey(origin, self.key.public)
        return cosign(note, log=log, seen=None, proof=(), name=WITNESS_KEY.name, signer=WITNESS, at=1)

    def add(self, kind: str, body: dict[str, Any]) -> None:
        """An entry, as the coordinator appends it."""
        entry = {"version": 1, "kind": kind, "at": 1, "body": msgspec.to_builtins(body), "attachments": []}
        self.entries.append(canonical(entry))

    def freeze(self, manifest: Manifest) -> None:
        """What is logged before a site is asked for its approval."""
        self.add("manifest", {"manifest": manifest.hash, "run": manifest.run, "study": "s1"})

    def prove(self, kind: str, manifest: str = "") -> dict[str, Any]:
        """The newest entry of a kind, if there is one the newest of it that names this manifest, with its
        proof."""
        named = f'"kind":"{kind}"'.encode()
        of_kind = [number for number, entry in enumerate(self.entries) if named in entry]
        of_run = [number for number in of_kind if manifest.encode() in self.entries[number]]
        index = max(of_run or of_kind)
        proof = growth.inclusion_proof(self.store, index, len(self.entries))
        return {
            "entry": self.entries[index].decode(),
            "index": index,
            "checkpoint": self.note,
            "proof": [value.hex() for value in proof],
        }
