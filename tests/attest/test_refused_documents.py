"""TCB info and QE identity not signed for the purpose, in date and about this platform are refused."""

import json

import pytest

from attestation.development import certificates as pki
from attestation.development_quoting.keys import raw_signature
from tests.attest.workshop import AT


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_document_signed_by_the_pck(workshop, name):
    """The owner of any platform has a key that Intel certified. It must not sign what Intel publishes."""
    fields = workshop.document(name, lambda value: None, key=workshop.platform.signer.pck_key)
    for chain in (workshop.chain, workshop.links[0] + workshop.root.root.pem):
        changed = fields | {f"{name}_issuer_chain": chain.decode()}
        assert workshop.code(collateral=changed) == "attest.tcb_signer"


def test_a_document_signed_by_a_pck_that_is_named_like_the_signer(workshop):
    key = workshop.platform.signer.pck_key
    extension = pki.sgx_extension(bytes(16), bytes(16))
    leaf = workshop.certificate(pki.TCB_SIGNING_NAME, key.public_key(), "root", sgx_extension=extension)
    fields = workshop.document("tcb_info", lambda value: None, key=key)
    fields["tcb_info_issuer_chain"] = (leaf + workshop.root.root.pem).decode()
    assert workshop.code(collateral=fields) == "attest.tcb_signer"


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_document_with_another_signature(workshop, name):
    fields = workshop.collateral()
    other = fields[f"{name}_signature"].replace("a", "b")
    assert workshop.code(collateral=fields | {f"{name}_signature": other}) == f"attest.{name}_signature"
    longer = fields[f"{name}_signature"] + "00"
    assert workshop.code(collateral=fields | {f"{name}_signature": longer}) == f"attest.{name}_signature"


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_document_is_judged_by_its_bytes_not_its_meaning(workshop, name):
    fields = workshop.collateral()
    spaced = json.dumps(json.loads(fields[name]))
    assert workshop.code(collateral=fields | {name: spaced}) == f"attest.{name}_signature"


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_documents_dates_count_to_the_second(workshop, name):
    def dates(value):
        value["issueDate"], value["nextUpdate"] = "2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z"

    fields = workshop.document(name, dates)
    assert AT == 1_800_000_000  # 2027-01-15T08:00:00Z
    for at, code in (
        (AT - 1, f"attest.{name}_not_yet_valid"),
        (AT, None),
        (AT + 3600, None),
        (AT + 3601, f"attest.{name}_expired"),
    ):
        assert workshop.code(collateral=fields, at=at) == code


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"id": "OTHER"},
        {"unknown": 1},
        {"tcbLevels": []},
        {"tcbEvaluationDataNumber": -1},
        {"issueDate": "2027-02-30T00:00:00Z"},
        {"issueDate": "2027-01-15T08:00:00+00:00"},
        {"nextUpdate": "tomorrow"},
    ],
    ids=lambda change: "-".join(map(str, *change.items())) if isinstance(change, dict) else None,
)
def test_a_document_of_another_form(workshop, name, change):
    fields = workshop.document(name, lambda value: value.update(change))
    assert workshop.code(collateral=fields) == f"attest.{name}_malformed"


def test_a_document_that_says_a_field_twice(workshop):
    fields = workshop.collateral()
    text = fields["tcb_info"].replace('"version":3', '"version":3,"version":3')
    signature = raw_signature(workshop.root.tcb_signing.key, text.encode()).hex()
    changed = fields | {"tcb_info": text, "tcb_info_signature": signature}
    assert workshop.code(collateral=changed) == "attest.tcb_info_malformed"


def test_tcb_info_of_another_kind_of_tee(workshop):
    tdx = workshop.collateral("tdx")
    fields = workshop.collateral() | {name: tdx[name] for name in ("tcb_info", "tcb_info_signature")}
    assert workshop.code(collateral=fields) == "attest.tcb_info_kind"


def test_qe_identity_of_another_kind_of_tee(workshop):
    tdx = workshop.collateral("tdx")
    fields = workshop.collateral() | {name: tdx[name] for name in ("qe_identity", "qe_identity_signature")}
    assert workshop.code(collateral=fields) == "attest.qe_identity_kind"


def test_tcb_info_of_another_family(workshop):
    fields = workshop.document("tcb_info", lambda value: value.update(fmspc="00906ED50000"))
    assert workshop.code(collateral=fields) == "attest.fmspc"


def test_tcb_info_of_another_pce(workshop):
    fields = workshop.document("tcb_info", lambda value: value.update(pceId="0001"))
    assert workshop.code(collateral=fields) == "attest.pce_id"
