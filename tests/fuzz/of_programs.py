"""Requests and answers: an enclave's wire and mailbox, agents' tokens and bodies, coordinator's answers."""

from __future__ import annotations

import hashlib
import json
import socket
import tempfile
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec

from contracts.bound_request import bind_request
from contracts.kept_keys import signing_key, signing_secret
from enclave.programs import wire
from enclave_host.mailbox import HostMailbox
from enclave_jobs.jobs.results import lease_of, read_result
from site_agent.transport import read_as, read_json
from tests.fuzz.targets import target
from tests.log.conftest import Enclave, History, tell
from tests.support.instances import HERE


@cache
def history() -> History:
    """The log of tests/log, once."""
    from attestation import development

    folder = Path(tempfile.mkdtemp(prefix="fedslice-fuzz-"))
    root, host = folder / "root", folder / "host"
    development.create_root(root)
    development.install_platform(host, development.issue_platform(root, development.create_platform(host)))
    made = tell.__wrapped__(Enclave(root, development.load_platform(host)))  # type: ignore[attr-defined]
    return made()  # type: ignore[no-any-return]


MESSAGES = (
    wire.WireRequest(1, "bind", {"manifest": "x", "approvals": {}}),
    wire.Reply(1, result={"a": 1}),
    wire.Hello("0" * 64, "aggregator", wire.PROTOCOL),
)


def framed(message: msgspec.Struct) -> list[bytes]:
    body = msgspec.json.encode(message)
    return [len(body).to_bytes(4, "big") + body]


def received(kind: type[Any], data: bytes) -> object:
    ours, theirs = socket.socketpair()
    with theirs, ours:
        theirs.setblocking(False)
        theirs.send(data[: 1 << 16])
        theirs.shutdown(socket.SHUT_WR)
        channel = wire.WireChannel.__new__(wire.WireChannel)  # a socket pair knows no TCP_NODELAY
        channel._socket, channel._buffer = ours, bytearray()
        return channel.receive(kind, timeout=5.0)


for _message in MESSAGES:
    target(f"wire: {type(_message).__name__}", partial(framed, _message))(partial(received, type(_message)))


@target(
    "host.json", lambda: [b'{"port":1,"token":"%s","runtime":"development","platform":null}' % (b"0" * 64)]
)
def _host(data: bytes) -> object:
    """The program ends on what is not of the form; this names how."""
    try:
        return msgspec.json.decode(data, type=wire.HostFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@cache
def mailbox() -> HostMailbox:
    return HostMailbox.create(Path(tempfile.mkdtemp(prefix="fedslice-fuzz-")))


@target("mailbox", lambda: [hashlib.sha256(b"content").hexdigest().encode() + b"content"])
def _mailbox(data: bytes) -> object:
    """The first 64 bytes are a name that a host asks for, the others what lies under a good name."""
    name, content = data[:64].decode("utf-8", "surrogateescape"), data[64:]
    folder = mailbox().folder
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / hashlib.sha256(b"content").hexdigest()).write_bytes(content)
    with mailbox().incoming(name, limit=1 << 16) as source:
        return source.read()


@cache
def operations() -> dict[str, type[Any]]:
    """The arguments of every operation of every program."""
    from contracts.release_calls import ReleaseArguments
    from enclave.programs import slice_front, slice_offloaded
    from enclave.programs.afterwards import Afterwards
    from enclave.programs.aggregator import Aggregator
    from enclave.programs.client_slice import ClientSlice
    from enclave.programs.split_server import SplitServer

    found: dict[str, type[Any]] = {}
    for program in (Aggregator, ClientSlice, SplitServer):
        running = program(None, mailbox())  # type: ignore[arg-type]  # nothing is asked for evidence
        found |= {
            f"{program.name} {op}": operation.call.arguments for op, operation in running.operations.items()
        }
    later = Afterwards(None, mailbox(), None).operations  # type: ignore[arg-type]
    found |= {f"split_server {op}": operation.call.arguments for op, operation in later.items()}
    found |= {
        f"client_slice {op}": operation.call.arguments
        for op, operation in (
            slice_offloaded.offered(None, mailbox().folder)  # type: ignore[arg-type]
            | slice_front.offered(None, None, None)  # type: ignore[arg-type]
        ).items()
    }
    return found | {"aggregator release": ReleaseArguments}


@target(
    "arguments of operations", lambda: [json.dumps({"op": op, "args": {}}).encode() for op in operations()]
)
def _arguments(data: bytes) -> object:
    said = msgspec.json.decode(data, type=dict[str, Any]) if _is_json(data) else {}
    kind = operations().get(str(said.get("op")))
    try:
        return kind and msgspec.json.decode(msgspec.json.encode(said.get("args")), type=kind)
    except msgspec.ValidationError:
        return None


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict) and bool(msgspec.json.decode(data))
    except (ValueError, RecursionError):
        return False


FILED, INDEX = {"sha256": "0" * 64, "bytes": 9}, {"site": "a", "origin": "0" * 64}
SHARDS = [{"purpose": purpose, "examples": 3, **FILED} for purpose in ("training", "validation", "test")]
RESULTS: dict[str, dict[str, Any]] = {
    "join": {},
    "train": {"update": FILED, "samples": 3, "measures": {"seconds": 0.5}},
    "countersign": {"countersignature": "0" * 128},
    "share": {"share": "AAAA"},
    "features": {"index": {**INDEX, "shards": SHARDS}, "keys": FILED},
}


def result(kind: str, data: bytes) -> object:
    lease_of(data)
    return read_result(kind, data)


for _kind, _fields in RESULTS.items():
    _seed = json.dumps({"lease": 1, **_fields}).encode()
    target(f"result of {_kind}", partial(list, [_seed]))(partial(result, _kind))


def tokens() -> list[bytes]:
    site, key = the_site()
    import time

    import jwt

    claims = {
        "iss": site.pk, "sub": site.pk, "aud": "fedslice-coordinator", "iat": int(time.time()),
        "exp": int(time.time()) + 60, "jti": "0" * 32, **bind_request("POST", "heartbeat", b"")._asdict(),
        **HERE._asdict(),
    }  # fmt: skip
    token = jwt.encode(claims, key, algorithm="EdDSA")
    return [token.encode(), b" ".join([json.dumps(claims).encode()])]


@cache
def the_site() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from federation.sites.models import Site

    key = signing_key(b"k" * 32)
    return Site(id="site-a", public_key=key.public), Ed25519PrivateKey.from_private_bytes(signing_secret(key))


@target("agent's token", tokens)
def _token(data: bytes) -> object:
    """What starts with a brace is taken as claims that the site itself signs; the rest as a token."""
    import jwt

    from federation.sites.authentication import verified_token

    site, key = the_site()
    text = data.decode("utf-8", "surrogateescape")
    if data[:1] == b"{":
        try:
            text = jwt.encode(json.loads(data), key, algorithm="EdDSA")
        except (TypeError, ValueError, RecursionError):
            return None
    return verified_token(text, site)


@target("coordinator's answer", lambda: [b'{"id":"job","lease":3}', b"", b"null"])
def _answered(data: bytes) -> object:
    answered = read_json(httpx.Response(200, stream=httpx.ByteStream(data)))
    return None if answered is None else read_as(answered, object)


BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "enrol": ("contracts.agents_api.sites", "EnrolBody", {
        "token": "t", "public_key": "0" * 64, "approval_key": "0" * 64,
        "agent_version": "0.1", "runtime": "development",
    }),
    "heartbeat": ("contracts.agents_api.sites", "HeartbeatBody", {
        "agent_version": "0.1", "runtime": "development", "checks": [{"name": "clock", "outcome": "pass"}],
    }),
    "datasets": ("contracts.agents_api.datasets", "DatasetBody", {
        "name": "notes", "digest": "0" * 64,
        "card": {"rows": 9, "labels": {}, "splits": {"train": 9}, "text_length": {"p50": 10}},
    }),
    "approvals": ("contracts.agents_api.studies", "SignatureBody", {
        "manifest_hash": "0" * 64, "confirmed": ["a"], "signature": "0" * 128,
    }),
    "releases": ("contracts.agents_api.releases", "ReleaseApprovalBody", {
        "run": "r", "rule": "export", "receipt": "0" * 64,
        "approval": {"hpke_key": None, "confirmed": [], "signature": "0" * 128},
    }),
    "threads": ("contracts.agents_api.studies", "MessageBody", {
        "study": "s", "kind": "decline", "about": "study", "text": "No", "manifest_hash": "0" * 64,
    }),
    "blobs": ("contracts.agents_api.blobs", "NewBlob", {"sha256": "0" * 64, "bytes": 9, "run": "r"}),
    "failure": ("contracts.agents_api.jobs", "Failure", {"lease": 1, "code": "internal", "facts": {"a": 1}}),
    "progress": ("contracts.agents_api.jobs", "ProgressBody", {"lease": 1, "stage": "s", "fraction": 0.5}),
    "step": ("contracts.serving_calls", "StepArguments", {"session": "0" * 64, "number": 0, "sealed": ""}),
}  # fmt: skip


def body(module: str, kind: str, data: bytes) -> object:
    from federation.wire import read_body

    request: Any = SimpleNamespace(body=data)
    return read_body(request, getattr(import_module(module), kind))


for _path, (_module, _struct, _valid) in BODIES.items():
    target(f"body of {_path}", partial(list, [json.dumps(_valid).encode()]))(partial(body, _module, _struct))
