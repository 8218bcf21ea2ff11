"""A coordinator's log for a server that only pretends to be one."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from contracts.log import growth
from contracts.log.note import NoteKey
from contracts.log.note_writing import vkey_of
from tests.site_agent.conftest import Reply, Request, Server
from tests.support.made_log import MadeLog


class Log(MadeLog):
    """Answers the agents' questions about it."""

    def __init__(self, server: Server | None = None) -> None:
        super().__init__()
        if server is not None:
            server.answer = self

    def __call__(self, request: Request) -> Reply:
        address = urlsplit(request.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "log/checkpoint":
            vkey = vkey_of(NoteKey(self.origin, self.key.public))
            return Reply(body={"checkpoint": self.note, "key": vkey, "size": len(self.entries)})
        if address.path == "log/proof":
            try:
                return Reply(body=self.prove(asked["kind"], asked.get("manifest", "")))
            except ValueError:
                return Reply(409, {"code": "log.not_logged", "facts": {"kind": asked["kind"]}})
        first, second = int(asked["from"]), int(asked["to"])
        proof = growth.consistency_proof(self.store, first, second)
        return Reply(body={"first": first, "second": second, "proof": [value.hex() for value in proof]})
