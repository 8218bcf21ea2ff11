"""Writes the test vectors that docs/protocol.md points at: `python tests/sealing/vectors/make.py`.

Run it only when a format changes on purpose, with its version. The sealed stream differs each time (its data
key and HPKE's are random); all the rest is deterministic.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[2]))

from contracts.approvals import approval_payload  # noqa: E402
from contracts.canonical import canonical  # noqa: E402
from contracts.evidence import Claims, report_data  # noqa: E402
from contracts.fingerprint import key_fingerprint, site_fingerprint  # noqa: E402
from contracts.kept_keys import hpke_key, hpke_secret, signing_key, signing_secret  # noqa: E402
from contracts.log import growth, merkle  # noqa: E402
from contracts.log.checkpoint import Checkpoint  # noqa: E402
from contracts.log.following import sign_checkpoint  # noqa: E402
from contracts.log.note import NoteKey  # noqa: E402
from contracts.log.note_writing import vkey_of  # noqa: E402
from contracts.manifest import (  # noqa: E402
    APPROVAL_DOMAIN,
    Aggregation,
    DatasetRef,
    Lora,
    Manifest,
    ModelSpec,
    Privacy,
    Release,
    ServerOptimizer,
    Site,
    Training,
)
from contracts.policy import Policy, SgxReference  # noqa: E402
from contracts.receipts import (  # noqa: E402
    NO_RECEIPT,
    Averaging,
    InstanceCount,
    NoisySteps,
    Receipt,
    ReceiptInput,
    Scoring,
    Spent,
    receipt_hash,
)
from contracts.release_statement import ReleasedProgram, ReleaseStatement, sign_statement  # noqa: E402
from contracts.roster import Roster, RosterEntry, countersign, roster_hash  # noqa: E402
from contracts.sealed.stream import Binding, seal  # noqa: E402
from contracts.server_statements import sign_receipt  # noqa: E402

SITES = {f"site-{name}": signing_key(name.encode() * 32) for name in "abc"}
APPROVERS = {f"site-{name}": signing_key(name.upper().encode() * 32) for name in "abc"}
ENCLAVE, RECEIVER = signing_key(b"E" * 32), hpke_key(bytes(range(96)))
LOG = signing_key(b"L" * 32)
MAKERS = signing_key(b"M" * 32)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


MANIFEST = Manifest(
    version=1,
    run="run-vector",
    study="Triage of example notes",
    purpose="A test vector: nothing here is real.",
    method="method-1",
    placement="all_in_tee",
    runtime="development",
    model=ModelSpec(
        "embedded:all-MiniLM-L6-v2",
        "sequence-classification",
        {"config.json": sha("config"), "model.safetensors": sha("model")},
        ("cardiology", "neurologie – ä"),
        128,
    ),
    adapter=Lora(8, 16, ("query", "value")),
    training=Training(3, 1, 16, 0.0002, 20),
    sites=tuple(
        Site(
            site,
            f"Hospital {site[-1].upper()}",
            key.public,
            APPROVERS[site].public,
            DatasetRef(f"d-{site[-1]}", sha(site), 700),
        )
        for site, key in SITES.items()
    ),
    aggregation=Aggregation(
        "ffa-lora",
        2,
        600,
        1.5,
        500,
        Privacy("site", 1.0, 1e-5),
        optimizer=ServerOptimizer("fedadam", 0.01, 0.9, 0.99, 0.001),
    ),
    policy=Policy("development", sha("root"), (SgxReference("aggregator", mrenclave=sha("mrenclave")),)),
    release=Release("nothing", 2),
    minimum_time=1_800_000_000,
)


def write(name: str, value: dict[str, Any]) -> None:
    (FOLDER / name).write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def make() -> None:
    (FOLDER / "manifest.json").write_bytes(canonical(MANIFEST))
    approval = APPROVERS["site-a"].sign(
        APPROVAL_DOMAIN, approval_payload(MANIFEST.hash, "site-a", ["site-a", "site-b"])
    )
    write(
        "approval.json",
        {
            "manifest_hash": MANIFEST.hash,
            "site": "site-a",
            "secret": signing_secret(APPROVERS["site-a"]).hex(),
            "fingerprint": site_fingerprint(SITES["site-a"].public, APPROVERS["site-a"].public),
            "domain": APPROVAL_DOMAIN,
            "confirmed": ["site-a", "site-b"],
            "signature": approval,
        },
    )
    released = ReleasedProgram("aggregator", 1, 2, sha("mrenclave"), mrsigner=sha("mrsigner"))
    statement = sign_statement(ReleaseStatement(1, 7, 1_900_000_000, (released,)), MAKERS)
    write(
        "release_statement.json",
        {
            "secret": signing_secret(MAKERS).hex(),
            "fingerprint": key_fingerprint(MAKERS.public),
            "signed": msgspec.to_builtins(statement),
        },
    )
    claims = Claims(sha("nonce"), RECEIVER.public, ENCLAVE.public, MANIFEST.hash, "aggregator")
    write(
        "evidence.json",
        {
            "claims": msgspec.to_builtins(claims),
            "canonical_sha256": hashlib.sha256(canonical(claims)).hexdigest(),
            "report_data": report_data(claims).hex(),
        },
    )
    binding = Binding(MANIFEST.hash, 1, "update", "site-a")
    plaintext, target = b"The tuned parameters of nobody.", io.BytesIO()
    sealed = seal(
        io.BytesIO(plaintext),
        target,
        binding=binding,
        recipients={"aggregator": RECEIVER.public},
        signer=SITES["site-a"],
    )
    write(
        "stream.json",
        {
            "binding": msgspec.to_builtins(binding),
            "recipient": "aggregator",
            "recipient_secret": hpke_secret(RECEIVER).hex(),
            "recipient_key_sha256": hashlib.sha256(bytes.fromhex(RECEIVER.public)).hexdigest(),
            "sender_key": SITES["site-a"].public,
            "plaintext": plaintext.decode(),
            "sealed": base64.b64encode(target.getvalue()).decode(),
            "sealed_sha256": sealed.sha256,
        },
    )
    inputs = tuple(RosterEntry(site, sha(f"update of {site}")) for site in SITES)
    roster = Roster(MANIFEST.hash, 1, inputs, NO_RECEIPT, True)
    write(
        "roster.json",
        {
            "roster": msgspec.to_builtins(roster),
            "canonical": canonical(roster).decode(),
            "hash": roster_hash(roster),
            "countersignatures": {site: countersign(roster, key) for site, key in SITES.items()},
        },
    )
    receipt = Receipt(
        version=1,
        manifest=MANIFEST.hash,
        run=MANIFEST.run,
        round=1,
        roster=roster_hash(roster),
        inputs=tuple(ReceiptInput(entry.site, entry.sha256, 123456, 560) for entry in inputs),
        output=sha("next"),
        state=sha("state"),
        metrics={"pooled": {"accuracy": 0.65, "loss": 1.0, "rows": 420}, "averaging": {"deviation": 1e-7}},
        previous=NO_RECEIPT,
        program="aggregator",
        measurement=sha("mrenclave"),
        development=True,
        issued=1_800_000_100,
        averaging=Averaging("ffa-lora", cohort=3, clip=1.5, clipped=None, capped=1, noise=0.5),
        privacy=Spent(
            "site",
            "gaussian",
            noise=1.0,
            delta=1e-5,
            rounds=1,
            sites=tuple(NoisySteps(site, 1.0, 1) for site in SITES),
        ),
        scoring=Scoring(tuple(SITES), None),
        instances=tuple(InstanceCount(site, 1, sha(f"key of {site}")) for site in SITES),
    )
    write(
        "receipt.json",
        {
            "signed": msgspec.to_builtins(sign_receipt(receipt, ENCLAVE)),
            "canonical": canonical(receipt).decode(),
            "hash": receipt_hash(receipt),
            "enclave_secret": signing_secret(ENCLAVE).hex(),
        },
    )
    store = growth.MemoryStore()
    leaves = [canonical(roster), canonical(receipt), b"{}"]
    for index, leaf in enumerate(leaves):
        growth.append(store, index, merkle.leaf_hash(leaf))
    head = Checkpoint("fedslice.example/log", 3, growth.root(store, 3))
    write(
        "checkpoint.json",
        {
            "leaves": [leaf.decode() for leaf in leaves],
            "log_secret": signing_secret(LOG).hex(),
            "vkey": vkey_of(NoteKey(head.origin, LOG.public)),
            "note": sign_checkpoint(head, LOG),
            "inclusion_of_leaf_1": [node.hex() for node in growth.inclusion_proof(store, 1, 3)],
            "consistency_2_to_3": [node.hex() for node in growth.consistency_proof(store, 2, 3)],
        },
    )


if __name__ == "__main__":
    make()
