"""The gate before every release of keys or parameters, and its entry in the log.

A release is: a client slice is admitted (the server enclave will seal to its key), the server enclave's
evidence is handed to a site (which will seal to its keys), and sealed parameters are published. Before each,
every reference value of the approved policy must still hold: suspending one stops its use here.
"""

from __future__ import annotations

from typing import Any

from contracts.policy import Policy
from contracts.refusal import Refusal
from federation.attestation import references
from federation.attestation.log import append
from federation.attestation.models import LogEntry
from transparency_log.entry import KEY_RELEASE


def require_in_force(policy: Policy) -> None:
    """Raises: `reference.lapsed` where a reference value of the policy was suspended."""
    if references.still_in_force(policy):
        return
    value = references.lapsed(policy)[0]
    raise Refusal(
        "reference.lapsed", program=value.program, measurement=references.measurement_of(value)[:16]
    )


def log_admission(
    *, manifest: str, run: str, site: str, enclave: str, signing_key: str, measurement: str | None
) -> LogEntry:
    """A site's client slice is about to be admitted: the server enclave will seal to its keys.

    Like every entry it is appended before the action; should the enclave then refuse, the log says more than
    happened, never less.
    """
    return _append(
        "admission",
        manifest=manifest,
        run=run,
        site=site,
        enclave=enclave,
        signing_key=signing_key,
        measurement=measurement,
        program="client_slice",
    )


def log_parameters(
    *, manifest: str, run: str, round: int, output: str, recipients: list[str], sites: list[str]
) -> LogEntry:
    """Sealed parameters are about to be published. `output` is the file's SHA-256, `recipients` the signing
    keys of the client slices that can open it, `sites` whose they are."""
    return _append(
        "parameters",
        manifest=manifest,
        run=run,
        round=round,
        output=output,
        recipients=recipients,
        sites=sites,
        program="aggregator",
    )


def _append(what: str, **body: Any) -> LogEntry:
    return append(KEY_RELEASE, {"what": what, **body})
