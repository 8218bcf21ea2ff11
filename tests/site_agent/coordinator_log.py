"""A coordinator's log for a server that only pretends to be one: a real tree, real checkpoints."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from contracts.canonical import canonical
from contracts.log import merkle
from contracts.log.checkpoint import Checkpoint, cosign, sign_checkpoint, witness_key
from contracts.log.note import NoteKey
from contracts.manifest import Manifest
from contracts.signing import SigningKey
from tests.site_agent.conftest import Reply, Request, Server
from tests.site_agent.factories import LOG_KEY, ORIGIN

WITNESS = SigningKey.from_bytes(b"W" * 32)
WITNESS_KEY = witness_key("witness.example/w1", WITNESS.public)


class Log:
    """`entries` may be changed as no honest log's would. `cosigned` says whether the witness signs."""

    def __init__(self, server: Server | None = None) -> None:
        self.key = LOG_KEY
        self.origin = ORIGIN
        self.entries = [b"one", b"two", b"three"]
        self.cosigned = False
        if server is not None:
            server.answer = self

    @property
    def store(self) -> merkle.MemoryStore:
        store = merkle.MemoryStore()
        for index, entry in enumerate(self.entries):
            merkle.append(store, index, merkle.leaf_hash(entry))
        return store

    @property
    def note(self) -> str:
        size = len(self.entries)
        note = sign_checkpoint(Checkpoint(self.origin, size, merkle.root(self.store, size)), self.key)
        if not self.cosigned:
            return note
        log = NoteKey(self.origin, self.key.public)
        return cosign(note, log=log, seen=None, proof=(), name=WITNESS_KEY.name, signer=WITNESS, at=1)

    def add(self, kind: str, body: dict[str, Any]) -> None:
        """An entry, as the coordinator appends it."""
        entry = {"version": 1, "kind": kind, "at": 1, "body": msgspec.to_builtins(body), "attachments": []}
        self.entries.append(canonical(entry))

    def freeze(self, manifest: Manifest) -> None:
        """What is logged before a site is asked for its approval."""
        self.add("manifest", {"manifest": manifest.hash, "run": manifest.run, "study": "s1"})

    def prove(self, kind: str) -> dict[str, Any]:
        """The newest entry of a kind, with its proof."""
        named = f'"kind":"{kind}"'.encode()
        index = max(number for number, entry in enumerate(self.entries) if named in entry)
        proof = merkle.inclusion_proof(self.store, index, len(self.entries))
        return {
            "entry": self.entries[index].decode(),
            "index": index,
            "checkpoint": self.note,
            "proof": [value.hex() for value in proof],
        }

    def __call__(self, request: Request) -> Reply:
        address = urlsplit(request.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "log/checkpoint":
            vkey = NoteKey(self.origin, self.key.public).vkey
            return Reply(body={"checkpoint": self.note, "key": vkey, "size": len(self.entries)})
        if address.path == "log/proof":
            try:
                return Reply(body=self.prove(asked["kind"]))
            except ValueError:
                return Reply(409, {"code": "log.not_logged", "facts": {"kind": asked["kind"]}})
        first, second = int(asked["from"]), int(asked["to"])
        proof = merkle.consistency_proof(self.store, first, second)
        return Reply(body={"first": first, "second": second, "proof": [value.hex() for value in proof]})
