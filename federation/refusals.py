"""The HTTP status that belongs to a code of the error catalogue."""

_FORBIDDEN = {"auth.site_suspended", "auth.site_revoked", "auth.forbidden"}
_CONFLICT = {
    "site.wrong_state", "site.name_taken", "study.wrong_state", "run.wrong_state", "enrolment.key_taken",
    "run.below_quorum", "manifest.older_format",
    "card.name_taken", "card.in_use", "card.withdrawn", "approval.stale_manifest",
    "study.stale_manifest", "study.not_approved", "reference.duplicate", "reference.suspended",
    "reference.needs_review", "reference.lapsed", "reference.under_review", "reference.rejected",
    "instance.alive", "instance.elsewhere", "instance.moved",
    "review.open", "review.closed", "review.voted", "review.needs_auditor", "collateral.older",
}  # fmt: skip
STATUS = {
    "internal": 500,
    "request.not_found": 404,
    "request.method": 405,
    "request.too_large": 413,
    "request.busy": 503,
    "invitation.used": 410,
    "invitation.expired": 410,
    "enrolment.token_used": 410,
    "enrolment.token_expired": 410,
    **dict.fromkeys(_FORBIDDEN, 403),
    **dict.fromkeys(_CONFLICT, 409),
}


def status_of(code: str) -> int:
    """The HTTP status of a refusal: 401 for a failed proof of identity, 400 where nothing else is said.

    Other packages add theirs to STATUS.
    """
    return STATUS.get(code, 401 if code.startswith("auth.") else 400)
