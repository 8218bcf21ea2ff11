"""Whether a policy that is about to be approved has the floors that were seen. No enclave loads this."""

from __future__ import annotations

from attestation.floors import Floors
from contracts.policy import Policy
from contracts.refusal import Refusal


def require_floors(policy: Policy, seen: Floors) -> None:
    """A policy with lower floors than this relying party has itself seen would let older collateral count.

    For whoever approves a manifest: an agent, by the floors that it keeps.

    Raises: `attest.policy_floor`.
    """
    for own in seen.seen:
        if own.root_sha256 != policy.root_sha256:
            continue
        known = seen.of(own.root_sha256, own.fmspc, own.ca)
        policy_floors = Floors().under(policy).of(own.root_sha256, own.fmspc, own.ca)
        least = policy.minimum_tcb_evaluation
        pairs = {
            "TCB info": (known.tcb_evaluation, max(policy_floors.tcb_evaluation, least)),
            "QE identity": (known.qe_evaluation, max(policy_floors.qe_evaluation, least)),
            "root CA CRL": (known.root_ca_crl_number, policy_floors.root_ca_crl_number),
            "PCK CRL": (known.pck_crl_number, policy_floors.pck_crl_number),
        }
        for name, (expected, found) in pairs.items():
            if found < expected:
                what = f"{name} of {own.fmspc} ({own.ca})"
                raise Refusal("attest.policy_floor", what=what, expected=expected, found=found)
