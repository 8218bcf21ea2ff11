"""What a PCK certificate says of its platform: Intel's SGX extension, OID 1.2.840.113741.1.13.1.

The PPID in it names one processor for ever: it is read past and never kept, logged or shown.

Source: Intel, "SGX PCK Certificate and CRL Profile Specification" 1.5, section 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from asn1crypto import core
from cryptography import x509

from contracts.refusal import Refusal

SGX_EXTENSION = "1.2.840.113741.1.13.1"

_TCB, _PCE_ID, _FMSPC = (f"{SGX_EXTENSION}.{n}" for n in (2, 3, 4))
_PCE_SVN = f"{_TCB}.17"


@dataclass(frozen=True)
class Platform:
    """The platform of a PCK: `components` are the SVNs of its 16 SGX TCB components, `pce_svn` of its PCE."""

    fmspc: bytes
    pce_id: bytes
    components: bytes
    pce_svn: int


class _Pair(core.Sequence):
    _fields = [("id", core.ObjectIdentifier), ("value", core.Any)]


class _Pairs(core.SequenceOf):
    _child_spec = _Pair


def has_extension(certificate: x509.Certificate) -> bool:
    """Whether the certificate carries the extension, which only PCK certificates do."""
    try:
        return any(extension.oid.dotted_string == SGX_EXTENSION for extension in certificate.extensions)
    except (ValueError, x509.DuplicateExtension):
        return False


def read_platform(certificate: x509.Certificate) -> Platform:
    """The platform that a PCK certificate describes.

    Raises: `attest.certificate_malformed`.
    """
    try:
        oid = x509.ObjectIdentifier(SGX_EXTENSION)
        value = certificate.extensions.get_extension_for_oid(oid).value
        if not isinstance(value, x509.UnrecognizedExtension):
            raise ValueError("not an opaque extension")
        fields = _pairs(_Pairs.load(value.value, strict=True))
        tcb = _pairs(fields[_TCB].parse(spec=_Pairs))
        return Platform(
            fmspc=_octets(fields[_FMSPC], 6),
            pce_id=_octets(fields[_PCE_ID], 2),
            components=bytes(_integer(tcb[f"{_TCB}.{n}"], 0xFF) for n in range(1, 17)),
            pce_svn=_integer(tcb[_PCE_SVN], 0xFFFF),
        )
    except (KeyError, ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise Refusal(
            "attest.certificate_malformed", what="PCK certificate", found="its SGX extension cannot be read"
        ) from error


def _pairs(sequence: _Pairs) -> dict[str, core.Any]:
    pairs = [(pair["id"].dotted, pair["value"]) for pair in sequence]
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a field stands twice")
    return dict(pairs)


def _octets(value: core.Any, length: int) -> bytes:
    octets = value.parse(spec=core.OctetString).native
    if len(octets) != length:
        raise ValueError("wrong length")
    return bytes(octets)


def _integer(value: core.Any, limit: int) -> int:
    number = int(value.parse(spec=core.Integer).native)
    if not 0 <= number <= limit:
        raise ValueError("out of range")
    return number
