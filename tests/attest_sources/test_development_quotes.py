"""What the development root issues is what Intel's structures are: an independent verifier accepts it."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import dcap_qvl
import pytest
from asn1crypto import core
from cryptography import x509

from attestation import development
from attestation.development_quoting import constants
from tests.attest_sources.conftest import AT

CORPUS = Path(__file__).parents[2] / "../shared/attestation-corpus"
REPORT_DATA = hashlib.sha512(b"report data").digest()
MRTD = b"\x0a" * 48
RTMRS = tuple(bytes([i]) * 48 for i in range(4))
SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")


def _sgx(installation, report_data=REPORT_DATA):
    return installation.platform.sgx_quote(
        report_data, mrenclave=b"\x01" * 32, mrsigner=b"\x02" * 32, product_id=7, svn=9
    )


def _tdx(installation, report_data=REPORT_DATA):
    return installation.platform.tdx_quote(report_data, mrtd=MRTD, rtmrs=RTMRS)


def test_dcap_qvl_accepts_an_sgx_quote_and_reads_what_was_put_in(installation, judge):
    quote = _sgx(installation)
    verdict = judge(quote, installation)
    assert (verdict.status, verdict.advisory_ids) == ("UpToDate", [])
    report = json.loads(verdict.to_json())["report"]["SgxEnclave"]
    assert report["mr_enclave"] == "01" * 32
    assert report["mr_signer"] == "02" * 32
    assert (report["isv_prod_id"], report["isv_svn"]) == (7, 9)
    assert report["report_data"] == REPORT_DATA.hex()
    assert report["attributes"] == "05" + "00" * 7 + "03" + "00" * 7


def test_dcap_qvl_accepts_a_tdx_quote_and_reads_what_was_put_in(installation, judge):
    verdict = judge(_tdx(installation), installation, tee="tdx")
    assert (verdict.status, verdict.advisory_ids) == ("UpToDate", [])
    report = json.loads(verdict.to_json())["report"]["TD10"]
    assert report["mr_td"] == MRTD.hex()
    assert [report[f"rt_mr{i}"] for i in range(4)] == [rtmr.hex() for rtmr in RTMRS]
    assert report["report_data"] == REPORT_DATA.hex()


@pytest.mark.parametrize(("make", "tee"), [(_sgx, "sgx"), (_tdx, "tdx")])
def test_dcap_qvl_recognises_platform_ca_and_fmspc(installation, make, tee):
    quote = dcap_qvl.parse_quote(make(installation))
    assert quote.ca() == "platform"
    assert quote.fmspc() == constants.FMSPC.hex().upper()
    assert quote.quote_type() == tee.upper()
    assert quote.header.version == {"sgx": 3, "tdx": 4}[tee]


@pytest.mark.parametrize(("make", "tee"), [(_sgx, "sgx"), (_tdx, "tdx")])
def test_development_evidence_is_refused_under_intels_root(installation, make, tee):
    collateral = development.collateral(installation.root, AT, tee)
    parsed = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(collateral))
    with pytest.raises(ValueError, match=r"[Vv]erif"):
        dcap_qvl.verify(make(installation), parsed, AT)


def test_the_evidence_of_one_installation_is_refused_by_another(install, installation, judge, tmp_path):
    with pytest.raises(ValueError, match=r"[Vv]erif"):
        judge(_sgx(install(tmp_path)), installation)


@pytest.mark.parametrize(("make", "tee"), [(_sgx, "sgx"), (_tdx, "tdx")])
def test_a_changed_bit_anywhere_in_the_signed_part_is_refused(installation, judge, make, tee):
    quote = make(installation)
    signed = 432 if tee == "sgx" else 632
    for position in range(0, signed, 13):
        spoilt = bytearray(quote)
        spoilt[position] ^= 1
        with pytest.raises(ValueError, match=r"."):
            judge(bytes(spoilt), installation, tee=tee)


def test_quotes_over_different_report_data_differ_and_repeat_exactly(installation):
    assert _sgx(installation) == _sgx(installation)
    assert _sgx(installation) != _sgx(installation, bytes(64))


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_report_data_of_another_length_cannot_be_put_into_a_quote(installation, length):
    for make in (_sgx, _tdx):
        with pytest.raises(ValueError, match="where the structure has 64"):
            make(installation, bytes(length))


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_collateral_is_valid_from_before_the_hour_for_thirty_days(installation, judge, tee):
    quote = {"sgx": _sgx, "tdx": _tdx}[tee](installation)
    issued = AT - AT % 3600 - 3600
    month = 30 * 24 * 3600
    for at in (issued, AT, issued + month - 1):
        assert judge(quote, installation, tee=tee, at=at).status == "UpToDate"
    for at in (issued - 1, issued + month + 1):
        with pytest.raises(ValueError, match=r"."):
            judge(quote, installation, tee=tee, at=at)


def test_collateral_asked_twice_within_an_hour_is_the_same_bytes(installation):
    start = AT - AT % 3600
    assert development.collateral(installation.root, start) == development.collateral(
        installation.root, start + 3599
    )
    assert development.collateral(installation.root, start) != development.collateral(
        installation.root, start + 3600
    )


def test_collateral_for_a_time_before_the_root_is_refused(installation):
    from contracts.refusal import Refusal

    for at in (0, 4_000_000_000):
        with pytest.raises(Refusal) as caught:
            development.collateral(installation.root, at)
        assert caught.value.code == "development.out_of_range"


def test_a_revoked_platform_is_refused_and_the_list_number_rises(install, judge, tmp_path):
    made = install(tmp_path)
    quote = _sgx(made)

    def number(at):
        crl = x509.load_der_x509_crl(bytes.fromhex(development.collateral(made.root, at)["pck_crl"]))
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    assert judge(quote, made).status == "UpToDate"
    before = number(AT)
    development.revoke_platform(made.root, made.chain, at=AT + 5)
    development.revoke_platform(made.root, made.chain, at=AT + 900)
    assert number(AT + 4) == before
    assert number(AT + 5) == number(AT + 86_400) == before + 1
    assert judge(quote, made, collateral_at=AT + 4).status == "UpToDate"
    with pytest.raises(ValueError, match="Revoked"):
        judge(quote, made, collateral_at=AT + 5)


def test_a_level_below_the_current_one_is_out_of_date_with_an_advisory(installation):
    for tee in ("sgx", "tdx"):
        info = json.loads(development.collateral(installation.root, AT, tee)["tcb_info"])
        current, past = info["tcbLevels"]
        assert current["tcbStatus"] == "UpToDate"
        assert (past["tcbStatus"], past["advisoryIDs"]) == ("OutOfDate", [constants.PAST_ADVISORY])
        assert past["tcb"]["pcesvn"] < current["tcb"]["pcesvn"]


def _extension(pem: bytes) -> core.Sequence:
    leaf = x509.load_pem_x509_certificates(pem)[0]
    return core.load(leaf.extensions.get_extension_for_oid(SGX_EXTENSION).value.value)


def _shape(value: core.Asn1Value) -> object:
    """Tags and object identifiers of a DER value, without its contents."""
    if isinstance(value, core.Sequence):
        parts = [value[i] for i in range(len(value))]
        if parts and isinstance(parts[0], core.ObjectIdentifier):
            return (parts[0].native, *[_shape(part) for part in parts[1:]])
        return [_shape(part) for part in parts]
    return (value.class_, value.tag)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="shared/attestation-corpus is not here")
def test_the_pck_extension_has_the_very_shape_of_a_genuine_one(installation):
    genuine = (CORPUS / "tdx-v4-uptodate-then-outofdate" / "quote.bin").read_bytes()
    pem = genuine[genuine.index(b"-----BEGIN") :].rstrip(b"\0")
    assert _shape(_extension(installation.chain)) == _shape(_extension(pem))


@pytest.mark.skipif(not CORPUS.is_dir(), reason="shared/attestation-corpus is not here")
@pytest.mark.parametrize(
    ("tee", "case"),
    [("sgx", "sgx-v3-prod-swhardening-processorca"), ("tdx", "tdx-v4-uptodate-then-outofdate")],
)
def test_collateral_has_the_very_fields_of_genuine_collateral(installation, tee, case):
    genuine = json.loads(sorted((CORPUS / case).glob("collateral-*.json"))[0].read_text())
    ours = development.collateral(installation.root, AT, tee)
    assert list(ours) == list(genuine)
    for field in ("tcb_info", "qe_identity"):
        assert list(json.loads(ours[field])) == list(json.loads(genuine[field]))
        assert len(ours[f"{field}_signature"]) == len(genuine[f"{field}_signature"]) == 128
    info, real = json.loads(ours["tcb_info"]), json.loads(genuine["tcb_info"])
    assert list(info["tcbLevels"][0]["tcb"]) == list(real["tcbLevels"][0]["tcb"])
    assert len(info["fmspc"]) == len(real["fmspc"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
def test_openssl_accepts_the_chain_with_strict_x509_rules(installation, tmp_path):
    pems = installation.chain.split(b"-----END CERTIFICATE-----\n")
    leaf, ca, root = (tmp_path / name for name in ("leaf.pem", "ca.pem", "root.pem"))
    for file, pem in zip((leaf, ca, root), pems, strict=False):
        file.write_bytes(pem + b"-----END CERTIFICATE-----\n")
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-attime",
        str(AT),
        "-CAfile",
        root,
        "-untrusted",
        ca,
        leaf,
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
