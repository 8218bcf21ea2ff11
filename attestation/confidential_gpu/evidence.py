"""What a confidential GPU shows, and what a policy would say of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from contracts.canonical import canonical
from contracts.evidence import Claims

NONCE_DOMAIN = b"fedslice/gpu-nonce/v1"
NVIDIA_ROOT_SHA256 = "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
"""SHA-256 of the DER of "NVIDIA Device Identity CA", as NVIDIA's verifier brings it."""


@dataclass(frozen=True)
class GpuEvidence:
    """`report` is what the driver gives: the SPDM request GET_MEASUREMENTS, then the signed answer. `chain`
    is in PEM, the GPU's own certificate first. `ocsp` are answers in DER, one for each authority below the
    root, in the chain's order."""

    report: bytes
    chain: bytes
    ocsp: tuple[bytes, ...]


@dataclass(frozen=True)
class GpuReference:
    """A GPU that may be trusted: driver and VBIOS by version, and for each index of a measurement the digests
    (hex) that count, as NVIDIA's signed RIMs of these versions list them."""

    driver: str
    vbios: str
    measurements: dict[int, tuple[str, ...]]
    root_sha256: str = NVIDIA_ROOT_SHA256


def nonce_for(claims: Claims) -> bytes:
    """What the trust domain asks its GPU with, 32 bytes: over its own claims, so over the relying party's
    nonce and the program's keys. The same claims are in the trust domain's quote."""
    return hashlib.sha256(NONCE_DOMAIN + b"\x00" + canonical(claims)).digest()
