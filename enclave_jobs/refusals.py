"""The HTTP status of the jobs' codes, beside those of `federation/refusals.py`."""

from __future__ import annotations

from federation.refusals import STATUS

_CONFLICT = (
    "lease.late", "blob.wrong_offset", "blob.busy", "run.not_active", "run.reattest", "run.not_admitted",
    "contribution.replayed", "contribution.not_uploaded", "blob.too_many_uploads", "blob.no_direct_way",
    "blob.parts_missing",
    "serving.off", "serving.failed", "serving.unfinished", "serving.unknown_session", "serving.out_of_order",
    "serving.too_many_sessions",
)  # fmt: skip
_UNAVAILABLE = (
    "supervisor.unreachable", "supervisor.no_enclave", "program.busy", "program.timeout", "program.died",
    "serving.starting", "serving.not_ready", "blob.lost", "blob.storage_away",
)  # fmt: skip


def register() -> None:
    """Add them. Called when Django is set up."""
    STATUS.update(
        {
            **dict.fromkeys(("job.unknown", "run.unknown", "blob.unknown"), 404),
            **dict.fromkeys(("lease.foreign", "blob.foreign"), 403),
            **dict.fromkeys(("blob.too_large", "blob.frame_too_large"), 413),
            **dict.fromkeys(_CONFLICT, 409),
            **dict.fromkeys(_UNAVAILABLE, 503),
            "serving.too_fast": 429,
            "serving.revoked": 403,
            "blob.range": 416,
            "blob.storage_full": 507,
        }
    )
