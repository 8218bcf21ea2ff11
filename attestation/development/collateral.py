"""What Intel's provisioning service answers, for the development root: CRLs, TCB info v3, QE identity v2.

JSON values are signed as raw bytes, r ‖ s. The result is a pure function of (root, revocations, hour of
`at`), so two calls within an hour give the same bytes and the same hash.

Source: formats: Intel, "API Documentation v4" (PCS).
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from attestation.development import certificates as pki
from attestation.development.root import DevelopmentRoot, moment, open_root
from attestation.development_quoting import constants as dev
from attestation.development_quoting.keys import raw_signature

Tee = Literal["sgx", "tdx"]
LIFETIME = timedelta(days=30)
HOUR = 3600


def collateral(root_dir: Path | str, at: int, tee: Tee = "sgx") -> dict[str, str]:
    """QuoteCollateralV3 as JSON fields (binary ones in hex) for a quote appraised at Unix time `at`.

    Everything was issued between one and two hours before `at`, so that a clock a little behind does not
    see the future, and is valid for 30 days.

    Raises: `development.out_of_range`.
    """
    root = open_root(root_dir)
    issued = moment(at, back=at % HOUR + HOUR)
    window = {"this_update": issued, "next_update": issued + LIFETIME}
    # As with Intel, a CRL keeps its number until its content changes; nothing is ever taken off, so the
    # number never falls.
    revoked = {serial: moment(when) for serial, when in root.revoked.items() if when <= at}
    root_crl = pki.revocation_list(pki.ROOT_NAME, root.root.key, number=1, revoked={}, **window)
    pck_crl = pki.revocation_list(
        pki.PCK_CA_NAME, root.pck_ca.key, number=1 + len(revoked), revoked=revoked, **window
    )
    dates = {"issueDate": _iso(issued), "nextUpdate": _iso(issued + LIFETIME)}
    tcb_info, tcb_signature = _signed(root, _tcb_info(tee, dates))
    qe_identity, qe_signature = _signed(root, _qe_identity(tee, dates))
    signer_chain = (root.tcb_signing.pem + root.root.pem).decode()
    return {
        "pck_crl_issuer_chain": (root.pck_ca.pem + root.root.pem).decode(),
        "root_ca_crl": root_crl.hex(),
        "pck_crl": pck_crl.hex(),
        "tcb_info_issuer_chain": signer_chain,
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_signature,
        "qe_identity_issuer_chain": signer_chain,
        "qe_identity": qe_identity,
        "qe_identity_signature": qe_signature,
    }


def _tcb_info(tee: Tee, dates: dict[str, str]) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id": tee.upper(),
        "version": 3,
        **dates,
        "fmspc": dev.FMSPC.hex().upper(),
        "pceId": dev.PCE_ID.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": dev.TCB_EVALUATION,
    }
    if tee == "tdx":
        # The development module is signed by nobody (48 zero bytes), as Intel's own is.
        signer = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        levels = [
            {"tcb": {"isvsvn": dev.TDX_MODULE_SVN}, "tcbDate": dev.CURRENT_TCB_DATE, "tcbStatus": "UpToDate"},
            {
                "tcb": {"isvsvn": dev.TDX_MODULE_SVN - 1},
                "tcbDate": dev.PAST_TCB_DATE,
                "tcbStatus": "OutOfDate",
                "advisoryIDs": [dev.PAST_ADVISORY],
            },
        ]
        version = dev.TEE_TCB_SVN[1]
        head["tdxModule"] = signer
        head["tdxModuleIdentities"] = [{"id": f"TDX_{version:02X}", **signer, "tcbLevels": levels}]
    current = {"tcbDate": dev.CURRENT_TCB_DATE, "tcbStatus": "UpToDate"}
    past = {"tcbDate": dev.PAST_TCB_DATE, "tcbStatus": "OutOfDate", "advisoryIDs": [dev.PAST_ADVISORY]}
    head["tcbLevels"] = [
        {"tcb": _level(tee, dev.PCE_SVN), **current},
        {"tcb": _level(tee, dev.PCE_SVN - 1), **past},
    ]
    return head


def _level(tee: Tee, pce_svn: int) -> dict[str, Any]:
    tcb: dict[str, Any] = {
        "sgxtcbcomponents": [{"svn": svn} for svn in dev.SGX_COMPONENTS],
        "pcesvn": pce_svn,
    }
    if tee == "tdx":
        tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in dev.TDX_COMPONENTS]
    return tcb


def _qe_identity(tee: Tee, dates: dict[str, str]) -> dict[str, Any]:
    return {
        "id": "QE" if tee == "sgx" else "TD_QE",
        "version": 2,
        **dates,
        "tcbEvaluationDataNumber": dev.TCB_EVALUATION,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11" + "00" * 15,
        "attributesMask": "FB" + "FF" * 7 + "00" * 8,
        "mrsigner": dev.QE_MRSIGNER.hex().upper(),
        "isvprodid": dev.SGX_QE_PRODUCT if tee == "sgx" else dev.TD_QE_PRODUCT,
        "tcbLevels": [
            {"tcb": {"isvsvn": dev.QE_SVN}, "tcbDate": dev.CURRENT_TCB_DATE, "tcbStatus": "UpToDate"},
            {
                "tcb": {"isvsvn": dev.QE_SVN - 1},
                "tcbDate": dev.PAST_TCB_DATE,
                "tcbStatus": "OutOfDate",
                "advisoryIDs": [dev.PAST_ADVISORY],
            },
        ],
    }


def _signed(root: DevelopmentRoot, value: dict[str, Any]) -> tuple[str, str]:
    text = json.dumps(value, separators=(",", ":"))
    return text, raw_signature(root.tcb_signing.key, text.encode()).hex()


def _iso(when: Any) -> str:
    return str(when.strftime("%Y-%m-%dT%H:%M:%SZ"))
