"""The row of a certificate that is not trusted: which of the causes it is, and who can fix that."""

from __future__ import annotations

import os
import ssl
import time
from datetime import datetime

from cryptography import x509

from outgoing import faults
from site_agent.check_rows import CheckRow
from site_agent.formatting import counted, printable
from site_agent.letters import letter
from site_agent.lines import Shown

CLOCK = "If this machine's clock is wrong, switch time synchronisation on: timedatectl set-ntp true."


def not_trusted(error: ssl.SSLCertVerificationError, shown: Shown | None, host: str, port: int) -> CheckRow:
    """`shown` is what was seen there without belief, None where nothing could be seen."""
    if shown is None:
        return CheckRow("TLS", "fail", f"not trusted: {faults.why(error)}", _own_authority("its authority"))
    by = f"it is by {signer_of(shown.leaf)}"
    match error.verify_code:
        case faults.EXPIRED:
            ends = min(found.not_valid_after_utc for found in shown.chain)
            own = shown.leaf.not_valid_after_utc == ends
            which = "the certificate" if own else "a certificate in its chain"
            hint = f"Tell the operator to renew it. {CLOCK}"
            return CheckRow("TLS", "fail", f"{which} ended on {_day(ends)}; {by}", hint)
        case faults.NOT_YET_VALID:
            begins = max(found.not_valid_before_utc for found in shown.chain)
            now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            found = f"the certificate begins on {_day(begins)}; this machine's clock says {now}; {by}"
            return CheckRow("TLS", "fail", found, f"{CLOCK} If it is right, tell the operator.")
        case faults.WRONG_NAME | faults.WRONG_ADDRESS:
            found = f"the certificate is for {_names(shown.leaf)}, not for {host}; {by}"
            hint = (
                "Enrol with the address that the coordinator's page shows. If that is this one, something "
                "answers in its place (ask your network team), or the operator's certificate lacks the name."
            )
            return CheckRow("TLS", "fail", found, hint)
    return _unknown(shown, host, port)


def _unknown(shown: Shown, host: str, port: int) -> CheckRow:
    signer = signer_of(shown.leaf)
    wish = (
        f"Please exempt {host} from TLS inspection. What arrives here now is a certificate by {signer}, "
        "which this machine does not trust."
    )
    store = "".join(
        f" {name} ({printable(os.environ[name], 80)}) replaces this machine's store and does not hold it."
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")
        if os.environ.get(name)
    )
    last = shown.chain[-1]
    if shown.leaf.issuer == shown.leaf.subject:
        found = f"not trusted: the certificate is signed by itself ({signer})"
        hint = f"{_own_authority('this certificate')} Else the operator needs one by an authority."
    elif last.issuer == last.subject:
        found = f"not trusted: the certificate is by {signer}, whose authority is not known here"
        hint = _own_authority("that authority's certificate")
    else:
        missing = _name_of(last.issuer)
        found = (
            f"not trusted: the certificate is by {signer}, and {missing} is not known here "
            f"({counted(len(shown.chain), 'certificate')} sent)"
        )
        hint = (
            f"If {missing} is a public authority's intermediate, the operator must have its certificate sent "
            f"as well (the full chain). {_own_authority('its certificate')}"
        )
    return CheckRow("TLS", "fail", found, hint + store, letter(host, port, wish))


def _own_authority(certificate: str) -> str:
    return (
        "If your network opens TLS, ask for an exception, or enrol with --ca-bundle FILE and "
        f"{certificate} (PEM)."
    )


def signer_of(certificate: x509.Certificate) -> str:
    """Who signed it, as it says itself."""
    return _name_of(certificate.issuer)


def _name_of(name: x509.Name) -> str:
    for oid in (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return printable(attribute.value, 80)
    return "an authority without a name"


def _names(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return printable(", ".join(str(name.value) for name in list(names)[:3]), 200) or "nobody"
    except (x509.ExtensionNotFound, ValueError):
        return "no name at all"


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
