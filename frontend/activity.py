"""The actions of the audit trail in words, and the page of what each was done to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _

from federation.audit.models import AuditEntry

ACTIONS = {
    "person.operator_created": _("made the first operator"),
    "person.invited": _("invited somebody"),
    "person.invited_again": _("sent an invitation again"),
    "person.uninvited": _("took an invitation back"),
    "person.joined": _("joined"),
    "person.deactivated": _("closed an account"),
    "person.reactivated": _("opened an account again"),
    "person.language_chosen": _("chose the language of pages and mails"),
    "person.mails_chosen": _("chose which mails to get"),
    "person.profile_changed": _("changed name or time zone"),
    "person.post_changed": _("gave a colleague another post"),
    "person.role_changed": _("gave another role"),
    "person.auditor_confirmed": _("confirmed an auditor"),
    "person.password_changed": _("changed the password"),
    "person.reset_mailed": _("mailed a link for a new password"),
    "person.password_reset": _("chose a new password by mail"),
    "second_factor.on": _("turned the second factor on"),
    "second_factor.off": _("turned the second factor off"),
    "second_factor.reset": _("reset somebody's second factor"),
    "second_factor.recovery_code_used": _("signed in by a recovery code"),
    "second_factor.codes_renewed": _("made new recovery codes"),
    "site.invited": _("invited a hospital"),
    "site.named": _("named the hospital"),
    "site.enrolment_token_made": _("made an enrolment command"),
    "site.enrolled": _("enrolled the agent"),
    "site.key_token_made": _("made a command for another approval key"),
    "site.approval_key_replaced": _("replaced the approval key"),
    "site.active": _("connected the agent"),
    "site.machine": _("runs the agent on this machine"),
    "site.moved": _("moved the agent to another machine"),
    "site.second_machine": _("spoke from a second machine, and was refused"),
    "site.suspended": _("suspended the hospital"),
    "site.uninvited": _("took a hospital's invitation back"),
    "site.revoked": _("revoked the hospital for good"),
    "maintenance.planned": _("planned maintenance"),
    "maintenance.removed": _("removed a maintenance window"),
    "dataset.published": _("published a dataset"),
    "dataset.withdrawn": _("withdrew a dataset"),
    "dataset.described": _("described a dataset"),
    "study.created": _("drafted a study"),
    "study.updated": _("changed a draft"),
    "study.freeze_asked": _("asked for the study to be frozen"),
    "study.frozen": _("froze the study"),
    "study.reopened": _("took the study back to a draft"),
    "study.cancelled": _("cancelled the study"),
    "study.approved_in_browser": _("approved in the browser"),
    "study.approval_signed": _("signed the approval at the hospital"),
    "thread.erased": _("erased a message"),
    "serving.starting": _("switched serving on"),
    "serving.off": _("switched serving off"),
    "serving.revoked": _("stopped serving a hospital"),
    "serving.allowed": _("serves a hospital again"),
    "release.asked": _("asked for the release of the parameters"),
    "release.approved": _("signed for the release of the parameters"),
    "serving.approved": _("signed for serving the model"),
    "release.released": _("released the parameters"),
    "release.downloaded": _("downloaded the released parameters"),
    "start.kept": _("brought a released adapter for a study to start from"),
    "sweep.created": _("made a sweep"),
    "contribution.refused": _("refused a contribution"),
    "run.launched": _("launched the run"),
    "run.proceeded_early": _("let the run go on with those who were there"),
    "run.noted": _("wrote a note or tags beside the run"),
    "run.paused": _("paused the run"),
    "run.resumed": _("resumed the run"),
    "run.cancelled": _("cancelled the run"),
    "run.failed": _("stopped the run by an error"),
    "run.finished": _("finished the run"),
    "model.registration_asked": _("asked for a base model to be registered"),
    "model.registered": _("registered a base model"),
    "reference.added": _("accepted a measurement"),
    "reference.suspended": _("suspended a measurement"),
    "review.opened": _("opened a review"),
    "review.proposed": _("put a measurement forward"),
    "review.approval": _("approved a measurement"),
    "review.rejection": _("rejected a measurement"),
    "review.approved": _("decided a review: approved"),
    "review.rejected": _("decided a review: rejected"),
    "collateral.imported": _("imported collateral"),
    "checkpoint.cosigned": _("imported a cosignature"),
    "log.exported": _("exported a bundle"),
    "evidence.downloaded": _("fetched raw evidence"),
}
KINDS = (
    ("person.", _("People")),
    ("second_factor.", _("Second factor")),
    ("site.", _("Hospitals")),
    ("maintenance.", _("Maintenance")),
    ("dataset.", _("Datasets")),
    ("study.", _("Studies")),
    ("sweep.", _("Sweeps")),
    ("thread.", _("Threads")),
    ("serving.", _("Serving")),
    ("release.", _("Releases")),
    ("run.", _("Runs")),
    ("reference.", _("Reference values")),
    ("review.", _("Reviews")),
    ("collateral.", _("Collateral")),
    ("model.", _("Base models")),
    ("log.", _("Bundles")),
    ("evidence.", _("Raw evidence")),
    ("checkpoint.", _("Cosignatures")),
)
_PAGES = {
    "site": "site",
    "study": "study",
    "run": "run",
    "sweep": "sweep",
    "dataset": "dataset",
    "user": "person",
    "log": "log-entry",
    "review": "review",
}


def described(rows: Iterable[AuditEntry]) -> list[dict[str, Any]]:
    """The actions with their words and the page of what each was done to."""
    return [{"row": row, "words": in_words(row.action), "url": page_of(row.target)} for row in rows]


def in_words(action: str) -> str:
    """An action as a person would say it; one without words shows its name."""
    return str(ACTIONS.get(action, action))


def page_of(target: str) -> str:
    """The address of the page of `<kind>:<id>`, empty where there is none."""
    kind, _colon, key = target.partition(":")
    try:
        return reverse(_PAGES[kind], args=[key]) if kind in _PAGES else ""
    except NoReverseMatch:
        return ""
