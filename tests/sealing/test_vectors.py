"""The vectors of docs/protocol.md: these bytes must be reproduced, and these must open, in every later
version."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.approvals import Approval, approval_payload
from contracts.canonical import canonical
from contracts.evidence import Claims, report_data
from contracts.fingerprint import key_fingerprint, site_fingerprint, typed_fingerprint
from contracts.kept_keys import hpke_key, signing_key
from contracts.log import growth, merkle
from contracts.log.checkpoint import verify_checkpoint
from contracts.log.following import sign_checkpoint
from contracts.log.note import parse_vkey
from contracts.manifest import APPROVAL_DOMAIN, parse
from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import receipt_hash
from contracts.refusal import Refusal
from contracts.release_statement import parse_statement, sign_statement
from contracts.roster import countersign, parse_roster, roster_hash, verify_roster
from contracts.sealed.stream import Binding, unseal
from contracts.server_statements import sign_receipt

VECTORS = Path(__file__).parent / "vectors"
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
MANIFEST = (VECTORS / "manifest.json").read_bytes()


def vector(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def test_the_manifest_has_its_hash_and_its_approval_is_reproduced() -> None:
    manifest, approval = parse(MANIFEST), vector("approval.json")
    assert manifest.hash == hashlib.sha256(MANIFEST).hexdigest() == approval["manifest_hash"]
    payload = approval_payload(manifest.hash, approval["site"], approval["confirmed"])
    key = signing_key(bytes.fromhex(approval["secret"]))
    assert key.sign(approval["domain"], payload) == approval["signature"]
    member = manifest.site(approval["site"])
    member.verify_decision(APPROVAL_DOMAIN, payload, approval["signature"], "sealing.bad_signature")
    assert site_fingerprint(member.public_key, member.approval_key) == approval["fingerprint"]
    assert approval["fingerprint"] in PROTOCOL.read_text()


def test_a_changed_letter_of_the_manifest_is_another_manifest_or_none() -> None:
    assert parse(MANIFEST.replace(b"vector", b"victor")).hash != parse(MANIFEST).hash
    with pytest.raises(Refusal):
        parse(MANIFEST.replace(b'"version":1', b'"version": 1'))


def test_the_release_statement_is_reproduced_and_its_key_has_its_fingerprint() -> None:
    case = vector("release_statement.json")
    signed = parse_statement(case["signed"])
    key = signing_key(bytes.fromhex(case["secret"]))
    assert sign_statement(signed.statement, key) == signed
    assert key_fingerprint(signed.key) == case["fingerprint"]
    assert (
        typed_fingerprint(case["fingerprint"].lower().replace("-", " ").replace("0", "o"))
        == case["fingerprint"]
    )
    assert case["fingerprint"] in PROTOCOL.read_text()


def test_the_evidence_binding_is_reproduced() -> None:
    case = vector("evidence.json")
    claims = msgspec.convert(case["claims"], Claims)
    assert hashlib.sha256(canonical(claims)).hexdigest() == case["canonical_sha256"]
    assert report_data(claims).hex() == case["report_data"]
    by_hand = hashlib.sha512(b"fedslice/report-data/v1\x00" + canonical(case["claims"])).hexdigest()
    assert by_hand == case["report_data"]


def test_the_sealed_stream_opens() -> None:
    case = vector("stream.json")
    key = hpke_key(bytes.fromhex(case["recipient_secret"]))
    assert hashlib.sha256(bytes.fromhex(key.public)).hexdigest() == case["recipient_key_sha256"]
    blob, target = base64.b64decode(case["sealed"]), io.BytesIO()
    unseal(
        io.BytesIO(blob),
        target,
        binding=msgspec.convert(case["binding"], Binding),
        recipient=case["recipient"],
        key=key,
        sender_key=case["sender_key"],
        sha256=case["sealed_sha256"],
    )
    assert target.getvalue().decode() == case["plaintext"]


def test_the_roster_its_hash_and_its_countersignatures_are_reproduced() -> None:
    case, manifest = vector("roster.json"), parse(MANIFEST)
    roster = parse_roster(case["roster"])
    assert canonical(roster).decode() == case["canonical"] and roster_hash(roster) == case["hash"]
    for site, signature in case["countersignatures"].items():
        assert countersign(roster, signing_key(site[-1].encode() * 32)) == signature
    sites = tuple(site.id for site in manifest.sites)
    everybody = {site: Approval(sites, "") for site in sites}
    verify_roster(roster, case["countersignatures"], manifest, everybody)


def test_the_receipt_its_hash_and_its_signature_are_reproduced() -> None:
    case = vector("receipt.json")
    signed = parse_receipt(case["signed"])
    assert canonical(signed.receipt).decode() == case["canonical"]
    assert receipt_hash(signed.receipt) == case["hash"] == verify_chain([signed])
    assert sign_receipt(signed.receipt, signing_key(bytes.fromhex(case["enclave_secret"]))) == signed
    assert signed.receipt.roster == vector("roster.json")["hash"]


def test_the_checkpoint_and_its_proofs_are_reproduced() -> None:
    case = vector("checkpoint.json")
    store = growth.MemoryStore()
    hashes = [merkle.leaf_hash(leaf.encode()) for leaf in case["leaves"]]
    for index, leaf in enumerate(hashes):
        growth.append(store, index, leaf)
    head = verify_checkpoint(case["note"], parse_vkey(case["vkey"]))
    assert head.root == growth.root(store, 3)
    assert sign_checkpoint(head, signing_key(bytes.fromhex(case["log_secret"]))) == case["note"]
    inclusion = [bytes.fromhex(node) for node in case["inclusion_of_leaf_1"]]
    merkle.verify_inclusion(1, 3, hashes[1], inclusion, head.root)
    consistency = [bytes.fromhex(node) for node in case["consistency_2_to_3"]]
    growth.verify_consistency(2, 3, growth.root(store, 2), head.root, consistency)


def test_the_protocol_quotes_the_vectors_as_they_are() -> None:
    text = PROTOCOL.read_text()
    for value in (
        vector("approval.json")["manifest_hash"],
        vector("approval.json")["signature"],
        vector("evidence.json")["report_data"],
        vector("stream.json")["sealed_sha256"],
        vector("roster.json")["hash"],
        vector("receipt.json")["hash"],
        vector("receipt.json")["signed"]["signature"],
    ):
        assert value in text, value
