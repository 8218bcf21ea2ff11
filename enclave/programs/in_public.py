"""What must stand in the log before a client slice admits an aggregator, and so before it seals anything.

The hospital's own host is an adversary here, so its agent's demand for proofs counts for nothing: the enclave
asks itself. Whoever shows it another manifest or aggregator than the other hospitals' has to do it in public,
under the log's key that the manifest pins, and before the witnesses that the manifest names.
"""

from __future__ import annotations

from contracts.client_slice_calls import InLog
from contracts.evidence import Claims
from contracts.log.note import parse_vkey
from contracts.log.proof import require_logged
from contracts.log.relied_on import require_appraisal_entry, require_manifest_entry
from contracts.manifest import Manifest
from contracts.refusal import Refusal


def require_in_log(manifest: Manifest, claims: Claims, shown: InLog) -> None:
    """That the manifest, and an enclave with these claims as accepted, stand in the manifest's log.

    Raises: `log.none_named`, or as `require_logged` and the entries' checks do.
    """
    if manifest.log is None:
        raise Refusal("log.none_named")
    key, witnesses = parse_vkey(manifest.log.key), [parse_vkey(name) for name in manifest.log.witnesses]
    require_manifest_entry(require_logged(shown.manifest, "manifest", key, witnesses)[0], manifest)
    require_appraisal_entry(require_logged(shown.appraisal, "appraisal", key, witnesses)[0], claims)
