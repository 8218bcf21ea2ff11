"""The parser reads only what it can write again, and knows no exception but its own."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.own_quote import read_own
from attestation.quote import MAX_QUOTE_BYTES, QE_REPORT_CERTIFICATION, parse
from attestation.td_report import TdReport
from contracts.refusal import Refusal
from tests.attest.corpus import ABSENT, CASES

needs_corpus = pytest.mark.skipif(not CASES, reason=ABSENT)
GENUINE = sorted({case.quote for case in CASES})


def refusal(data):
    with pytest.raises(Refusal) as caught:
        parse(data)
    return caught.value.code


@needs_corpus
def test_genuine_quotes_come_back_byte_for_byte():
    assert len(GENUINE) == 14
    for data in GENUINE:
        quote = parse(data)
        assert quote.encode() == data
        assert data.startswith(quote.signed)


@needs_corpus
def test_fields_stand_where_intel_puts_them():
    import dcap_qvl

    for data in GENUINE:
        ours, theirs = parse(data).report, dcap_qvl.parse_quote(data).report
        assert ours.report_data == theirs.report_data
        if isinstance(ours, TdReport):
            assert (ours.mrtd, ours.rtmrs[0], ours.rtmrs[3]) == (theirs.mr_td, theirs.rt_mr0, theirs.rt_mr3)
            assert ours.tee_tcb_svn == theirs.tee_tcb_svn
            assert ours.td_attributes.to_bytes(8, "little") == theirs.td_attributes
            assert ours.mrservicetd == getattr(theirs, "mr_service_td", None)
        else:
            assert (ours.mrenclave, ours.mrsigner) == (theirs.mr_enclave, theirs.mr_signer)
            assert ours.attributes == theirs.attributes


@needs_corpus
def test_an_enclave_finds_the_same_in_its_own_quote():
    """`own_quote` has the places of two fields alone; versions 3, 4 and 5 are all there."""
    assert {parse(data).header.version for data in GENUINE} == {3, 4, 5}
    for data in GENUINE:
        report = parse(data).report
        assert read_own(data) == (report.report_data, report.measurement)


@pytest.mark.parametrize("change", [{0: 2}, {4: 0x42}, {0: 5}], ids=["version", "TEE", "SGX v5"])
def test_an_enclave_reads_nothing_in_what_is_no_quote_of_its_kinds(workshop, change):
    data = bytearray(workshop.quote("sgx").encode())
    for place, value in change.items():
        data[place] = value
    for wrong in (bytes(data), bytes(workshop.quote("sgx").encode()[:431]), b""):
        with pytest.raises(Refusal) as caught:
            read_own(wrong)
        assert caught.value.code == "source.wrong_quote"


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_a_shorter_or_longer_quote_is_malformed(workshop, tee):
    data = workshop.quote(tee).encode()
    for end in {*range(0, len(data), 97), len(data) - 1}:
        assert refusal(data[:end]) == "attest.quote_malformed"
    for tail in (b"\0", b"\n", b"\0" * 70):
        assert refusal(data + tail) == "attest.quote_malformed"


def test_bytes_between_the_parts_are_malformed(workshop):
    """The outer length covers one byte more than the parts inside need."""
    data = workshop.quote().encode()
    start = 48 + 384
    length = struct.unpack_from("<I", data, start)[0]
    assert refusal(data[:start] + struct.pack("<I", length + 1) + data[start + 4 :] + b"\0") == (
        "attest.quote_malformed"
    )
    data = workshop.quote("tdx").encode()
    outer, inner = 48 + 584, 48 + 584 + 4 + 128 + 2
    for at in (outer, inner):
        length = struct.unpack_from("<I", data, at)[0]
        data = data[:at] + struct.pack("<I", length + 1) + data[at + 4 :]
    assert refusal(data + b"\0") == "attest.quote_malformed"


def test_a_quote_over_the_limit_is_not_read():
    assert refusal(bytes(MAX_QUOTE_BYTES + 1)) == "attest.quote_too_large"
    assert refusal(bytes(MAX_QUOTE_BYTES)) == "attest.quote_unsupported"


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"\x02\0"),  # version
        (0, b"\x04\0"),  # SGX in a quote v4
        (0, b"\x05\0"),
        (2, b"\x03\0"),  # ECDSA P-384
        (4, b"\x01\0\0\0"),  # TEE type
        (4, b"\x81\0\0\0"),  # TDX in a quote v3
        (12, b"\0"),  # QE vendor
        (48 + 384 + 4 + 128 + 384 + 64 + 2 + 32, b"\x06\0"),  # certification data
    ],
)
def test_what_we_do_not_know_is_unsupported(workshop, at, value):
    data = workshop.quote().encode()
    assert refusal(data[:at] + value + data[at + len(value) :]) == "attest.quote_unsupported"


@pytest.mark.parametrize(("kind", "size"), [(1, 384), (2, 648), (3, 584), (4, 648), (3, 649), (2, 0)])
def test_a_v5_body_is_what_it_says_it_is(workshop, kind, size):
    data = workshop.quote("tdx").encode()
    v5 = b"\x05\0" + data[2:48] + struct.pack("<HI", kind, size) + data[48:]
    expected = "malformed" if kind in (2, 3) else "unsupported"
    assert refusal(v5) == f"attest.quote_{expected}"
    assert parse(b"\x05\0" + data[2:48] + struct.pack("<HI", 2, 584) + data[48:]).tee == "tdx"


@given(st.binary(max_size=6000))
def test_any_bytes_are_read_or_refused(data):
    _read_or_refused(data)


@needs_corpus
@given(st.data())
def test_damaged_quotes_are_read_or_refused(data):
    """Cut, repeated, overwritten: what is still read comes back byte for byte."""
    quote = bytearray(data.draw(st.sampled_from(GENUINE)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(quote)))
        end = data.draw(st.integers(at, min(len(quote), at + 64)))
        quote[at:end] = data.draw(st.binary(max_size=64))
    _read_or_refused(bytes(quote))


@needs_corpus
@given(st.sampled_from([432, 436 + 128, 632, 636 + 130, 702]), st.binary(min_size=4, max_size=4), st.data())
def test_any_length_field_is_read_or_refused(at, value, data):
    quote = data.draw(st.sampled_from(GENUINE))
    _read_or_refused(quote[:at] + value + quote[at + 4 :])


def _read_or_refused(data):
    try:
        quote = parse(data)
    except Refusal as refused:
        assert refused.code.startswith("attest.quote_")
        assert str(refused)
    else:
        assert quote.encode() == data
        assert quote.header.version in (3, 4, 5)
        assert QE_REPORT_CERTIFICATION == 6
