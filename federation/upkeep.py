"""What the control plane forgets because it has expired. The sweep (enclave_jobs) calls this now and then."""

from __future__ import annotations

from federation.attestation import collateral, nonces
from federation.people import resets
from federation.sites import maintenance
from federation.sites import services as sites


def forget_expired() -> dict[str, int]:
    """Drop rows that can decide nothing any more; returns how many of each kind."""
    return {
        "token_ids": sites.forget_expired_token_ids(),
        "maintenance": maintenance.forget_past(),
        "nonces": nonces.forget_expired(),
        "collateral": collateral.forget_superseded(),
        "reset_wishes": resets.forget_expired(),
    }
