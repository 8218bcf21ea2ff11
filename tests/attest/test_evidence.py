"""What a quote binds, and how evidence travels."""

import hashlib
import json

import msgspec
import pytest
from msgspec.structs import replace

from contracts.evidence import Claims, Evidence, report_data
from tests.attest.workshop import CLAIMS


def test_report_data_is_the_hash_that_the_protocol_describes():
    """Written out by hand: domain, a zero byte, the claims as canonical JSON with sorted keys."""
    canonical = json.dumps(msgspec.to_builtins(CLAIMS), separators=(",", ":"), sort_keys=True).encode()
    expected = hashlib.sha512(b"fedslice/report-data/v1\x00" + canonical).digest()
    assert report_data(CLAIMS) == expected
    assert len(expected) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "aa" * 32},
        {"hpke_key": "aa"},
        {"signing_key": "aa" * 32},
        {"manifest": "aa" * 32},
        {"program": "client_slice"},
    ],
)
def test_every_claim_is_bound(change):
    assert report_data(replace(CLAIMS, **change)) != report_data(CLAIMS)


def test_evidence_travels_as_json_with_the_quote_in_base64():
    evidence = Evidence(b"\x00\xff", {"tcb_info": "{}"}, CLAIMS)
    text = msgspec.json.encode(evidence)
    assert json.loads(text)["quote"] == "AP8="
    assert msgspec.json.decode(text, type=Evidence) == evidence


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"nonce": "AA" * 32},
        {"hpke_key": "abc"},
        {"hpke_key": ""},
        {"hpke_key": "aa\n"},
        {"program": "shell"},
    ],
)
def test_claims_are_read_strictly(change):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(CLAIMS) | change, type=Claims)
