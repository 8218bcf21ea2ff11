"""Quotes, certificates, CRLs, signed documents, collateral and event logs, as somebody else's bytes."""

from __future__ import annotations

import base64
import json
import tempfile
import time
from functools import cache
from pathlib import Path

import httpx
import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import certificates, collateral, documents, event_log, pck, quote
from attestation.appraisal import appraise
from contracts.agents_api.runs import SignerAnswer
from contracts.evidence import Evidence
from contracts.launch import read_launches, rtmr3_after
from federation.attestation.collateral_files import read_file
from site_agent.transport import read_as, read_json
from tests.attest.test_event_log import LOG
from tests.attest.workshop import AT, CLAIMS, EVENT_LOG, EXPECTED, SGX, Workshop
from tests.fuzz.targets import target


@cache
def workshop() -> Workshop:
    return Workshop(Path(tempfile.mkdtemp(prefix="fedslice-fuzz-")))


@cache
def evidence() -> Evidence:
    shop = workshop()
    return Evidence(shop.quote().encode(), shop.collateral(), CLAIMS)


@cache
def fields() -> dict[str, str]:
    return dict(evidence().collateral)


def quotes() -> list[bytes]:
    return [workshop().quote(tee).encode() for tee in ("sgx", "tdx")]


def chains() -> list[bytes]:
    return [value.encode() for name, value in fields().items() if "chain" in name]


@target("quote", quotes)
def _quote(data: bytes) -> object:
    return quote.parse(quote.unpadded(data))


@target("certificate chain", chains)
def _chain(data: bytes) -> object:
    return [pck.has_extension(one) for one in certificates.load_chain(data, "chain")]


@target("PCK certificate", lambda: [quote.parse(evidence().quote).pck_chain])
def _pck(data: bytes) -> object:
    chain = certificates.load_chain(data, "chain")
    certificates.common_name(chain[0])
    certificates.check_end_entity(chain[0], "PCK Certificate", "leaf")
    certificates.check_period(chain[0], int(time.time()), "leaf")
    return pck.read_platform(chain[0])


def leaves() -> list[bytes]:
    return [
        one.public_bytes(Encoding.DER)
        for one in certificates.load_chain(quote.parse(evidence().quote).pck_chain, "")
    ]


@target("certificate in DER", leaves)
def _extension(data: bytes) -> object:
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"
    return [pck.read_platform(one) for one in certificates.load_chain(pem, "chain")]


@target("CRL", lambda: [bytes.fromhex(fields()[name]) for name in ("root_ca_crl", "pck_crl")])
def _crl(data: bytes) -> object:
    crl = certificates.load_crl(data, "CRL")
    return [revoked.serial_number for revoked in crl]


@target("TCB info", lambda: [fields()["tcb_info"].encode()])
def _tcb(data: bytes) -> object:
    return documents.read_signed(data, documents.TcbInfo)


@target("QE identity", lambda: [fields()["qe_identity"].encode()])
def _identity(data: bytes) -> object:
    return documents.read_signed(data, documents.QeIdentity)


@target("collateral", lambda: [json.dumps(fields()).encode()])
def _collateral(data: bytes) -> object:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return collateral.decode(read_file(Path(file.name)))


@target("event log", lambda: [LOG, LOG + b"\xff" * 64])
def _events(data: bytes) -> object:
    return event_log.replay(event_log.read_events(data))


@target("launcher's event log", lambda: [EVENT_LOG.encode(), EVENT_LOG.encode() * 3])
def _launches(data: bytes) -> object:
    return rtmr3_after(*(launch.digest for launch in read_launches(data.decode("ascii", "replace"))))


@target("evidence", lambda: [json.dumps(shown()).encode()])
def _evidence(data: bytes) -> object:
    """As an agent reads what the coordinator shows, and then the whole appraisal."""
    answered = read_json(httpx.Response(200, stream=httpx.ByteStream(data)))
    read = read_as(answered or msgspec.Raw(b"null"), SignerAnswer).evidence
    return appraise(read, workshop().policy(SGX), at=AT, expected=EXPECTED)


def shown() -> dict[str, object]:
    return msgspec.to_builtins(evidence())
