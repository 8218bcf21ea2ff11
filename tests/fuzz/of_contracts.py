"""What parties send each other in agreed forms: manifests, receipts, rosters, sealed files, log texts."""

from __future__ import annotations

import base64
import io
import json
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from contracts import manifest, receipt_chain, receipts, release_check, release_statement, roster
from contracts.approvals import Approval
from contracts.kept_keys import hpke_key, signing_key
from contracts.log.checkpoint import verify_checkpoint, verify_cosignatures
from contracts.log.note import parse_vkey
from contracts.log.proof import Logged, require_logged
from contracts.releases import Released, sign_release
from contracts.sealed import container, handback, package, session, shards, shares, state, stream
from contracts.sealed.frames import decrypt_frames, encrypt_frames
from contracts.sealed.handback import HandedBack
from contracts.sealed.stream import Binding
from site_agent.transport import read_as, read_json
from tests.fuzz.targets import target
from transparency_log.bundle import verify_bundle
from transparency_log.entry import parse_entry, typed_body

VECTORS = Path(__file__).parents[1] / "sealing" / "vectors"
SITE, ENCLAVE = signing_key(b"a" * 32), signing_key(b"E" * 32)
RECEIVER = hpke_key(bytes(range(96)))
KEY, HASH = bytes(range(32)), "a" * 64
BINDING = Binding(HASH, 1, "update", "site-a")
ABOUT = shards.ShardOrigin("site-a", HASH, "training", 0)
TEXT = b"The tuned parameters of nobody." * 40
LIMIT = 1 << 20


@cache
def vector(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_bytes())


def decoded(data: bytes) -> Any:
    """JSON as the agent reads an answer."""
    answered = read_json(httpx.Response(200, stream=httpx.ByteStream(data)))
    return None if answered is None else read_as(answered, object)


def dumped(*values: Any) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


@target("manifest", lambda: [(VECTORS / "manifest.json").read_bytes().strip()])
def _manifest(data: bytes) -> object:
    return manifest.parse(data)


@target("receipt", lambda: dumped(vector("receipt")["signed"]))
def _receipt(data: bytes) -> object:
    return receipts.receipt_hash(receipt_chain.parse_receipt(data).receipt)


@target("roster", lambda: dumped(vector("roster")["roster"]))
def _roster(data: bytes) -> object:
    read = roster.parse_roster(data)
    roster.verify_roster(read, vector("roster")["countersignatures"], the_manifest(), everybody())
    return roster.roster_hash(read)


@cache
def everybody() -> dict[str, Approval]:
    sites = tuple(site.id for site in the_manifest().sites)
    return {site: Approval(sites, "") for site in sites}


@cache
def the_manifest() -> manifest.Manifest:
    return manifest.parse((VECTORS / "manifest.json").read_bytes().strip())


@target("release statement", lambda: dumped(vector("release_statement")["signed"]))
def _release_statement(data: bytes) -> object:
    return release_statement.parse_statement(data)


def releases_made() -> list[bytes]:
    import msgspec

    released = Released(
        1,
        HASH,
        "run",
        HASH,
        "export",
        HASH,
        9,
        HASH,
        ("site-a",),
        (),
        program="aggregator",
        measurement=HASH,
        development=True,
        issued=1,
    )
    return [msgspec.json.encode(sign_release(released, ENCLAVE))]


def sealed(write: Any, data: bytes = TEXT) -> bytes:
    target = io.BytesIO()
    write(io.BytesIO(data), target)
    return target.getvalue()


@cache
def streams() -> tuple[bytes, bytes]:
    def write(source: io.BytesIO, to: io.BytesIO) -> None:
        stream.seal(source, to, binding=BINDING, recipients={"aggregator": RECEIVER.public}, signer=SITE)

    return sealed(write), sealed(write, b"")


@target("sealed stream", lambda: list(streams()))
def _stream(data: bytes) -> object:
    out = io.BytesIO()
    return stream.unseal(
        io.BytesIO(data), out, binding=BINDING, recipient="aggregator", key=RECEIVER, sender_key=SITE.public,
        limit=LIMIT,
    )  # fmt: skip


@target(
    "sealed stream's header",
    lambda: [container.read_header(io.BytesIO(one), stream.MAGIC)[1] for one in streams()],
)
def _stream_header(data: bytes) -> object:
    return container.parse_header(data, stream.StreamHeader)


def frames() -> list[bytes]:
    out = io.BytesIO()
    encrypt_frames(
        io.BytesIO(TEXT), lambda *chunks: [out.write(chunk) for chunk in chunks], key=KEY, context=b"c"
    )
    return [out.getvalue()]


@target("frames", frames)
def _frames(data: bytes) -> object:
    return decrypt_frames(io.BytesIO(data), io.BytesIO(), lambda *_: None, key=KEY, context=b"c", limit=LIMIT)


def states() -> list[bytes]:
    own = state.StateBinding("aggregator", HASH, 1, HASH)
    tails = state.StateBinding("split_server", HASH, 1, HASH)
    escrow = shares.deposit(KEY, dict.fromkeys("abc", RECEIVER.public), 2, HASH)
    return [
        sealed(lambda source, to: state.seal_state(source, to, key=KEY, binding=own)),
        sealed(lambda source, to: state.seal_state(source, to, key=KEY, binding=tails, escrow=escrow)),
    ]


@target("sealed state", states)
def _state(data: bytes) -> object:
    return state.unseal_state(
        io.BytesIO(data), io.BytesIO(), key=KEY, program="aggregator", manifest=HASH, limit=LIMIT
    )


@target("escrow of a state", states)
def _escrow(data: bytes) -> object:
    escrow = state.read_escrow(io.BytesIO(data))
    return escrow and shares.withdraw(escrow, "a", RECEIVER, HASH)


@target("shares", lambda: [b"".join(shares.split(KEY, ["a", "b", "c"], 2).shares.values())])
def _shares(data: bytes) -> object:
    size = len(data) // 3
    parts = {name: data[at * size : (at + 1) * size] for at, name in enumerate("abc")}
    return shares.combine(parts, 2, shares.commitment_of(KEY))


@target(
    "feature shard, sealed",
    lambda: [sealed(lambda source, to: shards.seal_shard(source, to, key=KEY, about=ABOUT))],
)
def _shard(data: bytes) -> object:
    return shards.open_shard(io.BytesIO(data), io.BytesIO(), key=KEY, about=ABOUT, limit=LIMIT)


def site_keys() -> list[bytes]:
    refs = tuple(shards.ShardRef(name, str(n) * 64, 9, 9) for n, name in enumerate(shards.PURPOSES))
    return [shards.canonical(shards.SiteKeys(shards.ShardIndex("site-a", HASH, refs), (KEY, KEY, KEY), HASH))]


@target("shard keys", site_keys)
def _site_keys(data: bytes) -> object:
    """The site itself may seal anything: what is fuzzed is what stands inside."""
    out = io.BytesIO()
    inside = Binding(HASH, 0, shards.KEYS_KIND, "site-a")
    stream.seal(
        io.BytesIO(data), out, binding=inside, recipients={shards.SERVER: RECEIVER.public}, signer=SITE
    )
    return shards.unwrap_keys(
        io.BytesIO(out.getvalue()), manifest=HASH, site="site-a", site_key=SITE.public, key=RECEIVER
    )


@target("package", lambda: [package.zipped({"release.json": b"{}", "README.md": b"read me"})])
def _package(data: bytes) -> object:
    return package.unpack(data)


@target("checkpoint", lambda: [vector("checkpoint")["note"].encode()])
def _checkpoint(data: bytes) -> object:
    key = parse_vkey(vector("checkpoint")["vkey"])
    verify_cosignatures(data, [key])
    return verify_checkpoint(data, key)


@target("verifier key", lambda: [vector("checkpoint")["vkey"].encode()])
def _vkey(data: bytes) -> object:
    return parse_vkey(data.decode("utf-8", "replace"))


def entries() -> list[bytes]:
    from tests.fuzz.of_programs import history

    return list(history().leaves)


@target("log entry", entries)
def _entry(data: bytes) -> object:
    return typed_body(parse_entry(data))


def logged() -> list[bytes]:
    from contracts.log import growth
    from tests.fuzz.of_programs import history

    reported = history()
    proof = [one.hex() for one in growth.inclusion_proof(reported.store, 0, len(reported.leaves))]
    note = merkle_note(reported)
    return dumped({"entry": reported.leaves[0].decode(), "index": 0, "checkpoint": note, "proof": proof})


def merkle_note(reported: Any) -> str:
    from contracts.log.following import sign_checkpoint

    return str(sign_checkpoint(reported.checkpoint(), reported.key))


@target("log proof", logged)
def _logged(data: bytes) -> object:
    """As the agent reads it (site_agent/witness.py)."""
    import msgspec

    from tests.fuzz.of_programs import history

    try:
        read = msgspec.json.decode(data, type=Logged)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return require_logged(read, "approval", history().note_key, [])


@cache
def bundle() -> bytes:
    from tests.fuzz.of_programs import history

    with tempfile.TemporaryDirectory() as folder:
        return history().write(Path(folder) / "b.zip", earlier=(1,)).read_bytes()


def unpacked() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle())) as read:
        return {name: read.read(name) for name in read.namelist()}


@target("audit bundle", lambda: [bundle()], milliseconds=20_000)
def _bundle(data: bytes) -> object:
    from tests.fuzz.of_programs import history

    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        file.write(data)
        file.flush()
        return verify_bundle(Path(file.name), log_key=history().note_key).verdict


@target(
    "member of a bundle",
    lambda: [b"\n".join(v.splitlines()[:9]) for v in unpacked().values()],
    milliseconds=20_000,
)
def _member(data: bytes) -> object:
    """The bytes stand, one after the other, for each member that is read line by line."""
    from tests.fuzz.of_programs import history

    verdict = None
    for name in ("bundle.json", "entries.jsonl", "proofs.jsonl", "earlier.jsonl"):
        members = unpacked()
        if name in members:
            members[name] = data
        with tempfile.NamedTemporaryFile(suffix=".zip") as file:
            with zipfile.ZipFile(file, "w") as made:
                for member, held in members.items():
                    made.writestr(member, held)
            file.flush()
            verdict = verify_bundle(Path(file.name), log_key=history().note_key).verdict
    return verdict


def openings() -> list[bytes]:
    import msgspec

    hello = session.ClientHello(
        HASH, "site-a", SITE, hpke_key=RECEIVER.public, signing_key=ENCLAVE.public, receipt=HASH
    )
    return [msgspec.json.encode(hello.opening)]


@target("session opening", openings)
def _opening(data: bytes) -> object:
    import msgspec

    try:
        read = msgspec.json.decode(data, type=session.Opening)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return session.accept(
        read, manifest=HASH, public_key=SITE.public, hpke=RECEIVER, signing_key=ENCLAVE.public
    )


@target(
    "sealed message",
    lambda: [base64.b64encode(session.SessionChannel(HASH, HASH, KEY, sends="question").seal(TEXT))],
)
def _message(data: bytes) -> object:
    sealed_part = session.decode(data.decode("latin-1"))
    return session.SessionChannel(HASH, HASH, KEY, sends="answer").open(sealed_part)


def handed_back() -> list[bytes]:
    reported = HandedBack(HASH, bytes(shares.SHARE_BYTES))
    receiver = RECEIVER.public
    return [handback.hand_back(reported, manifest=HASH, site="site-a", receiver=receiver, signer=SITE)]


@target("share handed back", handed_back)
def _handed_back(data: bytes) -> object:
    return handback.take_back(data, manifest=HASH, site="site-a", site_key=SITE.public, key=RECEIVER)


@target("release", releases_made)
def _release(data: bytes) -> object:
    return release_check.parse_release(decoded(data))
