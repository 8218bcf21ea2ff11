"""Check group 12: how the host started the enclave or TD, field by field, against the reference value.

A measurement covers what was loaded. What follows is chosen by whoever starts it (or by the signer), and is
in the report as well. Every field of either report is judged here or in another check; none is only shown.

Source: Intel SDM volume 3D, REPORTBODY; Intel, "TDX Module ABI Specification", TDINFO_STRUCT.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attestation.checks.examination import Examination, NotApplicable, Outcome, Passed
from attestation.quote import SgxReport
from contracts.policy import Reference, SgxReference, TdxReference
from contracts.refusal import Refusal

if TYPE_CHECKING:
    from attestation.td_report import TdReport

Field = tuple[str, str, str]  # name, expected, found; under the reference's mask where it has one


def configuration(e: Examination) -> Outcome:
    """All fields are those of one reference value that names this enclave or TD.

    Raises: `attest.configuration`.
    """
    if e.policy is None:
        return NotApplicable("no policy was given: it is only asked whether the evidence is genuine")
    faults: list[Field] = []
    for reference in e.references:
        fields = list(_fields(e.quote.report, reference))
        wrong = [field for field in fields if field[1] != field[2]]
        if not wrong:
            return Passed(_words(fields, 1), _words(fields, 2))
        faults += wrong
    name, expected, found = faults[0]
    raise Refusal("attest.configuration", what=name, expected=expected, found=found)


def _fields(report: SgxReport | TdReport, reference: Reference) -> Iterator[Field]:
    if isinstance(report, SgxReport) and isinstance(reference, SgxReference):
        yield masked("FLAGS", reference.flags, report.flags, reference.flags_mask)
        yield masked("XFRM", reference.xfrm, int.from_bytes(report.xfrm, "little"), reference.xfrm_mask)
        yield "MISCSELECT", reference.misc_select, f"{report.misc_select:08x}"
        yield "CONFIGID", reference.config_id, report.config_id.hex()
        yield "CONFIGSVN", str(reference.config_svn), str(report.config_svn)
        yield "ISVEXTPRODID", reference.ext_product_id, report.isv_ext_product_id.hex()
        yield "ISVFAMILYID", reference.family_id, report.isv_family_id.hex()
    elif not isinstance(report, SgxReport) and isinstance(reference, TdxReference):
        from attestation.checks.trust_domain import fields

        yield from fields(report, reference)


def masked(name: str, expected: str, found: int, mask: str) -> Field:
    bits = int(mask, 16)
    return name, f"{int(expected, 16) & bits:016x}", f"{found & bits:016x}"


def _words(fields: list[Field], which: int) -> str:
    """The values, a run of zeros as one."""
    shown = ((field[0], field[which]) for field in fields)
    return ", ".join(f"{name} {value if value.strip('0') else 'zero'}" for name, value in shown)
