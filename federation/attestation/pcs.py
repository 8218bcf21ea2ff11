"""Fetch collateral from Intel's provisioning certification service (PCS) or a cache of it (PCCS).

Paths and header names: Intel, "API Documentation v4" (api.portal.trustedservices.intel.com), and its
"Design Guide for Intel SGX Provisioning Certificate Caching Service" for `rootcacrl`. The address
is a setting with no default (FEDSLICE_PCCS). Nothing that comes back is believed here: `collateral.take`
checks every signature.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from datetime import timedelta
from urllib.parse import unquote

import httpx
from cryptography import x509
from django.conf import settings
from django.utils import timezone

from attestation.certificates import fingerprint, load_chain
from attestation.checks.examination import INTEL_ROOT_SHA256
from contracts.refusal import Refusal
from federation.attestation import collateral
from federation.attestation.models import CollateralSet, PlatformKind, Root
from outgoing.client import client_for
from outgoing.tls import tls_context

logger = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(20.0, connect=10.0)
MAX_ANSWER = 2 * 1024 * 1024
# Intel issues monthly; half a day is often enough to see a new TCB recovery early.
REFRESH_EVERY = timedelta(hours=12)
RETRY_AFTER = timedelta(minutes=10)

ISSUER_HEADER = {
    "tcb": ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"),
    "qe": ("SGX-Enclave-Identity-Issuer-Chain", "Enclave-Identity-Issuer-Chain"),
    "crl": ("SGX-PCK-CRL-Issuer-Chain",),
}


def refresh(at: int | None = None) -> dict[str, int]:
    """Fetch for every known kind of hardware platform that is due. Returns how many were fetched and failed.

    Without an address nothing is fetched. One kind that fails leaves its set in use and does not stop others.
    """
    done = {"fetched": 0, "failed": 0}
    if not settings.PCCS_URL:
        return done
    with client_for(settings.PCCS_URL, tls_context(), timeout=TIMEOUT) as client:
        for kind in PlatformKind.objects.all():
            if not _due(kind):
                continue
            fault = ""
            try:
                fields = fetch(client, settings.PCCS_URL, kind.tee, kind.fmspc, kind.ca)
                collateral.take(fields, source=settings.PCCS_URL, at=int(time.time()) if at is None else at)
                done["fetched"] += 1
            except Refusal as refusal:
                fault = refusal.code
                done["failed"] += 1
                logger.warning("collateral for %s: %s", kind, refusal)
            PlatformKind.objects.filter(pk=kind.pk).update(tried_at=timezone.now(), fault=fault)
    return done


def fetch(client: httpx.Client, base: str, tee: str, fmspc: str, ca: str) -> dict[str, str]:
    """QuoteCollateralV3 fields for a kind of platform.

    Raises: `collateral.unreachable` or `collateral.unreadable`.
    """
    base = base.rstrip("/")
    tcb = _get(client, f"{base}/{tee}/certification/v4/tcb", {"fmspc": fmspc})
    qe = _get(client, f"{base}/{tee}/certification/v4/qe/identity")
    crl = _get(client, f"{base}/sgx/certification/v4/pckcrl", {"ca": ca, "encoding": "der"})
    tcb_info, tcb_signature = _signed(tcb, "tcbInfo")
    identity, identity_signature = _signed(qe, "enclaveIdentity")
    chain = _chain(crl, "crl")
    return {
        "pck_crl_issuer_chain": chain,
        "root_ca_crl": _root_crl(client, base, chain).hex(),
        "pck_crl": _der(crl.content).hex(),
        "tcb_info_issuer_chain": _chain(tcb, "tcb"),
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_signature,
        "qe_identity_issuer_chain": _chain(qe, "qe"),
        "qe_identity": identity,
        "qe_identity_signature": identity_signature,
    }


def root_crl_address(chain: str) -> str:
    """Where the root's own certificate says that its CRL is; only of Intel's root, which we pin.

    Intel's PCS, unlike a PCCS, has no `rootcacrl`.

    Raises: `attest.root_untrusted` or `collateral.unreadable`.
    """
    root = load_chain(chain.encode(), "issuer chain")[-1]
    if fingerprint(root) != INTEL_ROOT_SHA256:
        raise Refusal("attest.root_untrusted", expected=INTEL_ROOT_SHA256, found=fingerprint(root))
    try:
        points = root.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound as error:
        raise Refusal("collateral.unreadable", fault="the root names no CRL") from error
    names = [name.value for point in points for name in point.full_name or ()]
    for name in names:
        if isinstance(name, str) and name.startswith("https://"):
            return name
    raise Refusal("collateral.unreadable", fault="the root names no CRL")


def _due(kind: PlatformKind) -> bool:
    """Every half day; after a fault, or where there is no set that holds, sooner."""
    if kind.tried_at is None:
        return True
    since = timezone.now() - kind.tried_at
    holds = CollateralSet.objects.filter(
        root=Root.INTEL, tee=kind.tee, fmspc=kind.fmspc, ca=kind.ca, expires__gt=timezone.now()
    ).exists()
    return since >= (REFRESH_EVERY if holds and not kind.fault else RETRY_AFTER)


def _get(client: httpx.Client, url: str, params: dict[str, str] | None = None) -> httpx.Response:
    answer = _ask(client, url, params)
    if answer.status_code != 200:
        raise Refusal("collateral.unreachable", address=url, fault=f"HTTP {answer.status_code}")
    return answer


def _ask(client: httpx.Client, url: str, params: dict[str, str] | None = None) -> httpx.Response:
    try:
        with client.stream("GET", url, params=params) as answer:
            data = bytearray()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > MAX_ANSWER:
                    raise Refusal("collateral.unreadable", fault="the answer is too large")
            return httpx.Response(answer.status_code, headers=_plain(answer), content=bytes(data))
    except httpx.HTTPError as error:
        raise Refusal("collateral.unreachable", address=url, fault=type(error).__name__) from error


def _plain(answer: httpx.Response) -> httpx.Headers:
    """The headers without those that told how the body, decoded by now, was carried."""
    carried = ("content-encoding", "transfer-encoding", "content-length")
    return httpx.Headers([(name, value) for name, value in answer.headers.items() if name not in carried])


def _signed(answer: httpx.Response, name: str) -> tuple[str, str]:
    """The signed JSON value exactly as it was sent, and its signature in hex.

    The signature is over the value's own bytes, so it is cut out of the text and never written again.
    """
    text = answer.text
    found = re.match(rf'\s*\{{\s*"{name}"\s*:\s*', text)
    tail = re.search(r'\s*,\s*"signature"\s*:\s*"([0-9a-fA-F]{128})"\s*\}\s*\Z', text)
    if found is None or tail is None:
        raise Refusal("collateral.unreadable", fault=f"the answer is not {name} and a signature")
    return text[found.end() : tail.start()], tail.group(1)


def _chain(answer: httpx.Response, kind: str) -> str:
    """The issuer chain of an answer: PEM, URL-encoded, in a header."""
    for name in ISSUER_HEADER[kind]:
        if name in answer.headers:
            return unquote(answer.headers[name])
    raise Refusal("collateral.unreadable", fault=f"the answer has no header {ISSUER_HEADER[kind][0]}")


def _root_crl(client: httpx.Client, base: str, chain: str) -> bytes:
    answer = _ask(client, f"{base}/sgx/certification/v4/rootcacrl")
    if answer.status_code == 404:
        return _der(_get(client, root_crl_address(chain)).content)
    if answer.status_code != 200:
        raise Refusal("collateral.unreachable", address=base, fault=f"HTTP {answer.status_code}")
    return _der(answer.content)


def _der(data: bytes) -> bytes:
    """A CRL as DER; caches answer in hex or PEM as well."""
    text = data.strip()
    if text.startswith(b"-----BEGIN X509 CRL-----"):
        lines = [line for line in text.splitlines() if not line.startswith(b"-----")]
        try:
            return base64.b64decode(b"".join(lines), validate=True)
        except ValueError as error:
            raise Refusal("collateral.unreadable", fault="a CRL is no PEM") from error
    if re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", text):
        return bytes.fromhex(text.decode())
    return data
