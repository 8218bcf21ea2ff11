"""Of which kind of platform a quote is, so that the collateral for it can be looked up.

Nothing is believed by this, and nothing released: the verifier checks that quote and collateral fit.
"""

from __future__ import annotations

from typing import NamedTuple

from attestation.certificates import common_name, load_chain
from attestation.pck import read_platform
from attestation.quote import Tee, parse, unpadded
from contracts.refusal import Refusal


class PlatformKind(NamedTuple):
    """`fmspc` (hex) names a family of processors, `ca` the PCK CA: processor or platform."""

    tee: Tee
    fmspc: str
    ca: str


def platform_kind(quote: bytes) -> PlatformKind:
    """Read it from the quote's own PCK certificate.

    Raises: the verifier's codes where it cannot; `attest.chain_broken`.
    """
    parsed = parse(unpadded(quote))
    chain = load_chain(parsed.pck_chain, "PCK certificate chain")
    if len(chain) != 3:
        raise Refusal(
            "attest.chain_broken",
            what="PCK certificate chain",
            expected="PCK, PCK CA, root",
            found=f"{len(chain)} certificates",
        )
    ca = "processor" if "Processor" in common_name(chain[1]) else "platform"
    return PlatformKind(parsed.tee, read_platform(chain[0]).fmspc.hex(), ca)
