"""What a relying party accepts as evidence: the appraisal policy and its reference values (RFC 9334).

A policy is part of every run manifest, so each site approves it by approving the manifest's hash. It is data:
no check reads anything from the environment, and the trust root is named here, never by the evidence.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from msgspec import Meta, Struct

Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hex48 = Annotated[str, Meta(pattern=r"^[0-9a-f]{96}\Z")]
Hex4 = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
Hex8 = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
Hex16 = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
Hex6 = Annotated[str, Meta(pattern=r"^[0-9a-f]{12}\Z")]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Program = Literal["aggregator", "client_slice", "split_server"]
TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
]


EVERY_BIT = "f" * 16


class SgxReference(Struct, tag="sgx", forbid_unknown_fields=True, frozen=True):
    """An accepted SGX identity: one MRENCLAVE, or one MRSIGNER with product id and minimum SVN.

    The rest is how the host may have started it, which MRENCLAVE does not cover: ATTRIBUTES (FLAGS and
    XFRM, as 64-bit numbers, each compared under its mask), MISCSELECT, and what key separation and sharing
    (KSS) adds. What a reference does not name is the least: initialised, 64 bit, x87 and SSE, all else
    zero. No mask hides debug mode or a provisioning key.

    Source: Intel SDM volume 3D, ATTRIBUTES and REPORTBODY.
    """

    program: Program
    mrenclave: Hex32 | None = None
    mrsigner: Hex32 | None = None
    product_id: Annotated[int, Meta(ge=0, le=0xFFFF)] | None = None
    minimum_svn: Annotated[int, Meta(ge=0, le=0xFFFF)] | None = None
    flags: Hex8 = "0000000000000005"
    flags_mask: Hex8 = EVERY_BIT
    xfrm: Hex8 = "0000000000000003"
    xfrm_mask: Hex8 = EVERY_BIT
    misc_select: Hex4 = "0" * 8
    config_id: Hex64 = "0" * 128
    config_svn: Annotated[int, Meta(ge=0, le=0xFFFF)] = 0
    ext_product_id: Hex16 = "0" * 32
    family_id: Hex16 = "0" * 32


class TdxReference(Struct, tag="tdx", forbid_unknown_fields=True, frozen=True):
    """An accepted trust domain: its build-time measurement and its four run-time registers. RTMR3 names the
    program, for the measured image's launcher extends it by nothing else (contracts/launch.py).

    The rest is what its host chose: TDATTRIBUTES and XFAM (64-bit numbers, under their masks), and the
    three fields that the host may fill as it likes and no register covers. What a reference does not name
    is the least: SEPT_VE_DISABLE, x87 and SSE, all else zero. Whose TDX module runs, MRSIGNERSEAM and its
    SVN say, by Intel's TCB info; a reference may name modules (MRSEAM) besides.

    Source: Intel, "TDX Module ABI Specification", TDINFO_STRUCT and ATTRIBUTES.
    """

    program: Program
    mrtd: Hex48
    rtmrs: Annotated[tuple[Hex48, ...], Meta(min_length=4, max_length=4)]
    td_attributes: Hex8 = "0000000010000000"
    td_attributes_mask: Hex8 = EVERY_BIT
    xfam: Hex8 = "0000000000000003"
    xfam_mask: Hex8 = EVERY_BIT
    mrconfigid: Hex48 = "0" * 96
    mrowner: Hex48 = "0" * 96
    mrownerconfig: Hex48 = "0" * 96
    mrseams: Annotated[tuple[Hex48, ...], Meta(max_length=64)] = ()

    @property
    def measurement(self) -> str:
        """The name of all five together, in hex: SHA-384(MRTD ‖ RTMR0 ‖ … ‖ RTMR3)."""
        return hashlib.sha384(bytes.fromhex("".join((self.mrtd, *self.rtmrs)))).hexdigest()


Reference = SgxReference | TdxReference


class CollateralFloor(Struct, forbid_unknown_fields=True, frozen=True):
    """Older collateral counts no more for platforms `fmspc` (hex) under the PCK CA `ca`: what the coordinator
    knew when the manifest was frozen. Intel's two tcbEvaluationDataNumber, both CRL numbers, and the Unix
    second in which each of the four was issued."""

    fmspc: Hex6
    ca: Literal["processor", "platform"]
    tcb_evaluation: Count
    qe_evaluation: Count
    root_ca_crl_number: Count
    pck_crl_number: Count
    tcb_info_issued: Count
    qe_identity_issued: Count
    root_ca_crl_issued: Count
    pck_crl_issued: Count


class Policy(Struct, forbid_unknown_fields=True, frozen=True):
    """`root_sha256` is the SHA-256 of the DER of the only accepted root certificate; `root` says whose it is.

    A TCB status is accepted if it is listed and each advisory with it is listed too (UpToDate needs
    no advisory). `minimum_tcb_evaluation` is the floor for Intel's tcbEvaluationDataNumber on every platform,
    `floors` say more of the kinds of platforms that were known. Whoever judges by this policy starts there.
    """

    root: Literal["intel", "development"]
    root_sha256: Hex32
    references: Annotated[tuple[Reference, ...], Meta(min_length=1, max_length=64)]
    accepted_statuses: tuple[TcbStatus, ...] = ("UpToDate",)
    accepted_advisories: Annotated[tuple[str, ...], Meta(max_length=256)] = ()
    minimum_tcb_evaluation: Count = 0
    floors: Annotated[tuple[CollateralFloor, ...], Meta(max_length=512)] = ()
