"""This evidence beside the earlier one of the same enclave, with what differs marked."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from federation.attestation.models import AppraisalRecord


class EvidenceLine(NamedTuple):
    """One property of both pieces of evidence, in words."""

    name: str
    earlier: str
    now: str

    @property
    def differs(self) -> bool:
        return self.earlier != self.now


def compare(earlier: AppraisalRecord, now: AppraisalRecord) -> list[EvidenceLine]:
    """What the two verdicts say, property by property, then every check whose outcome changed."""
    old, new = _whole(earlier), _whole(now)
    names = {
        "verdict": _("Verdict"),
        "code": _("Code"),
        "measurement": _("Measurement"),
        "status": _("TCB status"),
        "advisories": _("Advisories"),
        "tee": _("Kind of TEE"),
        "fmspc": _("Platform family (FMSPC)"),
        "ca": _("PCK CA"),
        "tcb_evaluation": _("TCB evaluation number"),
        "root_ca_crl_number": _("Root CA CRL number"),
        "pck_crl_number": _("PCK CRL number"),
        "root_sha256": _("Trust root"),
        "verifier": _("Verifier's version"),
    }
    lines = [
        EvidenceLine(label, _words(old.get(name)), _words(new.get(name))) for name, label in names.items()
    ]
    lines.append(
        EvidenceLine(_("Signing key"), earlier.claims.get("signing_key", "–"), now.claims["signing_key"])
    )
    before = {check["name"]: check["outcome"] for check in earlier.checks}
    changed = [check for check in now.checks if before.get(check["name"], "–") != check["outcome"]]
    return [
        *lines,
        *(EvidenceLine(check["name"], before.get(check["name"], "–"), check["outcome"]) for check in changed),
    ]


def _whole(record: AppraisalRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record.log_entry.data)["body"].get("appraisal", {})
    return found


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or _("none")
    return "–" if value in (None, "") else str(value)
