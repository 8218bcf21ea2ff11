"""Whoever changes a bit of valid evidence gets a refusal, or the same evidence under the same name.

Signatures cover nearly every byte. What they do not cover (white space around certificates, the case of hex,
the malleability of ECDSA) must not give one quote two names in the log.
"""

import random
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.appraisal import judge
from attestation.certificates import load_chain
from attestation.checks import CHECKS
from attestation.checks.examination import Examination
from attestation.offline import appraise_offline
from attestation.quote import MAX_QUOTE_BYTES, parse, unpadded
from tests.attest.corpus import ABSENT, ACCEPTED, one

pytestmark = pytest.mark.skipif(not ACCEPTED, reason=ABSENT)

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ONE_OF_EACH = [one(name) for name in ("sgx-v3-prod-cfg", "tdx-v4-gcp", "tdx-v5")] if ACCEPTED else []


def ours(case, quote=None, collateral=None):
    """Our checks alone: dcap-qvl must not be needed to see the change."""
    return judge(
        Examination(
            case.quote if quote is None else quote,
            case.collateral if collateral is None else collateral,
            case.at,
        ),
        CHECKS,
    )


def names(appraisal):
    return appraisal.quote_sha256, appraisal.collateral_sha256


def check_flip(case, appraisal):
    assert appraisal.code != "attest.internal"
    if appraisal.verdict == "accepted":
        assert names(appraisal) == names(ours(case))
    return appraisal.verdict == "refused"


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flipped_field(collateral, name, bit):
    text = flipped(collateral[name].encode(), bit).decode("utf-8", errors="surrogateescape")
    return collateral | {name: text}


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_flipped_bit_of_a_quote_is_refused_or_changes_no_name(data):
    case = data.draw(st.sampled_from(ACCEPTED))
    bit = data.draw(st.integers(0, 8 * len(case.quote) - 1))
    check_flip(case, ours(case, quote=flipped(case.quote, bit)))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_flipped_bit_of_collateral_is_refused_or_changes_no_name(data):
    case = data.draw(st.sampled_from(ACCEPTED))
    collateral = case.collateral
    name = data.draw(st.sampled_from(sorted(collateral)))
    bit = data.draw(st.integers(0, 8 * len(collateral[name].encode()) - 1))
    check_flip(case, ours(case, collateral=flipped_field(collateral, name, bit)))


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_every_flipped_bit_before_the_certificates_is_refused(case):
    """Header, body, keys, signatures, QE report: nothing there is outside what signatures cover."""
    end = case.quote.index(b"-----BEGIN")
    for bit in random.Random(3).sample(range(8 * end), 250):
        assert ours(case, quote=flipped(case.quote, bit)).verdict == "refused", bit


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("phase", "case"), list(enumerate(ONE_OF_EACH)), ids=lambda value: getattr(value, "name", "")
)
def test_every_third_bit_of_a_quote(phase, case):
    end = case.quote.index(b"-----BEGIN")
    kept = [
        bit
        for bit in range(phase, 8 * len(case.quote), 3)
        if not check_flip(case, ours(case, quote=flipped(case.quote, bit)))
    ]
    # Line ends, the padding behind the last certificate, and nothing before the certificates.
    assert all(bit >= 8 * end for bit in kept)
    assert len(kept) < 100


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_every_thirtyfirst_bit_of_collateral(case):
    collateral = case.collateral
    for name, value in collateral.items():
        for bit in range(0, 8 * len(value.encode()), 31):
            check_flip(case, ours(case, collateral=flipped_field(collateral, name, bit)))


def other_signature(signature):
    """(r, n - s): as valid as (r, s), for anybody to compute."""
    r, s = signature[:32], int.from_bytes(signature[32:])
    return r + (P256_ORDER - s).to_bytes(32)


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_the_other_ecdsa_signature_gives_no_second_name(case):
    quote = parse(case.quote)
    twins = [
        replace(quote, signature=other_signature(quote.signature)),
        replace(quote, qe_signature=other_signature(quote.qe_signature)),
    ]
    for twin in twins:
        assert twin.encode() != case.quote
        found = appraise_offline(twin.encode(), case.collateral, case.at)
        assert found.verdict == "accepted"
        assert names(found) == names(ours(case))


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_white_space_and_padding_give_no_second_name(case):
    quote = parse(case.quote)
    text = quote.pck_chain.rstrip(b"\0")
    for chain in (text, text + b"\0\0\0", text + b"\n\n", text.replace(b"\n", b"\r\n"), b"\n" + text):
        found = ours(case, quote=replace(quote, pck_chain=chain).encode())
        assert (found.verdict, names(found)) == ("accepted", names(ours(case)))
    fields = case.collateral
    changed = {
        name: value.upper() if name.endswith(("crl", "signature")) else value
        for name, value in fields.items()
    }
    changed |= {name: value + "\n" for name, value in fields.items() if name.endswith("chain")}
    found = ours(case, collateral=changed)
    assert (found.verdict, names(found)) == ("accepted", names(ours(case)))


@pytest.mark.parametrize(
    "extra", [b"# a comment\n", b"\x0b", b"-----BEGIN X-----\n-----END X-----\n", b"\xff"]
)
def test_anything_else_around_certificates_is_refused(extra):
    case = ONE_OF_EACH[0]
    quote = parse(case.quote)
    certificates = load_chain(quote.pck_chain, "chain")
    pem = [certificate.public_bytes(Encoding.PEM) for certificate in certificates]
    for chain in (extra + b"".join(pem), extra.join(pem), b"".join(pem) + extra):
        found = ours(case, quote=replace(quote, pck_chain=chain).encode())
        if found.verdict == "accepted":
            assert not extra.strip(), "only white space may pass"
            assert names(found) == names(ours(case))
        else:
            assert found.code == "attest.certificate_malformed"


def test_bytes_behind_the_quote_that_are_no_padding_are_refused():
    for case in ONE_OF_EACH:
        for tail in (b"\1", b"\n", bytes(100) + b"x"):
            assert ours(case, quote=case.quote + tail).code == "attest.quote_malformed"


def test_refused_evidence_never_takes_the_name_of_what_it_was_made_from():
    """A log entry 'refused' under a genuine quote's name would be slander."""
    case = ONE_OF_EACH[0]
    bit = 8 * (case.quote.index(b"-----BEGIN") - 100)
    spoilt = ours(case, quote=flipped(case.quote, bit))
    assert spoilt.verdict == "refused"
    assert spoilt.quote_sha256 != ours(case).quote_sha256


def test_a_field_too_many_or_too_few_is_refused():
    case = ONE_OF_EACH[0]
    fields = case.collateral
    assert ours(case, collateral=fields | {"note": "x"}).code == "attest.collateral_malformed"
    for name in fields:
        fewer = {key: value for key, value in fields.items() if key != name}
        assert ours(case, collateral=fewer).code == "attest.collateral_malformed"
        assert ours(case, collateral=fields | {name: 7}).code == "attest.collateral_malformed"


def test_a_copy_of_the_pck_chain_must_be_a_copy():
    """dcap-qvl believes this tenth field rather than the quote."""
    case, other = ONE_OF_EACH[0], ONE_OF_EACH[1]
    chain = parse(case.quote).pck_chain.rstrip(b"\0").decode()
    same = appraise_offline(case.quote, case.collateral | {"pck_certificate_chain": chain}, case.at)
    assert (same.verdict, names(same)) == ("accepted", names(ours(case)))
    foreign = parse(other.quote).pck_chain.rstrip(b"\0").decode()
    found = ours(case, collateral=case.collateral | {"pck_certificate_chain": foreign})
    assert found.code == "attest.chain_broken"


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_zeros_after_a_quote_change_neither_verdict_nor_name(case):
    quote = unpadded(case.quote)
    parse(quote)
    for padding in (1, 16, MAX_QUOTE_BYTES - len(quote)):
        padded = appraise_offline(quote + bytes(padding), case.collateral, case.at)
        assert (padded.verdict, names(padded)) == ("accepted", names(ours(case)))
        assert unpadded(quote + bytes(padding)) == quote


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_anything_else_after_a_quote_is_refused(case):
    quote = unpadded(case.quote)
    for tail in (b"\1", bytes(15) + b"\1", b"\1" + bytes(15), b"\n"):
        assert ours(case, quote=quote + tail).code == "attest.quote_malformed"
    assert ours(case, quote=quote + bytes(MAX_QUOTE_BYTES)).code == "attest.quote_too_large"
    assert ours(case, quote=quote[:-1]).code == "attest.quote_malformed"
