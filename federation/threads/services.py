"""What is said in a thread, and what it does: a wish for changes brings the study back to its draft, a
decline stands until the hospital changes its mind or signs. Each message's salted hash goes into the log."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from contracts.refusal import Refusal
from federation.attestation.log import append
from federation.audit.services import record
from federation.people.models import User
from federation.plain import message
from federation.sites.models import Site
from federation.studies import permissions as study_permissions
from federation.studies import services as studies
from federation.studies.models import Approval, Event, Study, StudyState, Sweep
from federation.threads import permissions, subjects
from federation.threads.models import About, Kind, Message, Speaker
from federation.threads.queries import decline_of

OPEN = (StudyState.APPROVING, StudyState.READY)


def digest(salt: str, text: str) -> str:
    """What the log has of a message: SHA-256 of 32 random bytes (hex here) and the text."""
    return hashlib.sha256(bytes.fromhex(salt) + text.encode()).hexdigest()


def answer(by: User, study: Study, site: Site, text: str, about: str = About.STUDY) -> Message:
    """The lead writes to one of the study's hospitals.

    Raises: `auth.forbidden`, `thread.not_asked`, `thread.empty` or `thread.too_long`.
    """
    _require(study_permissions.can_edit(by, study))
    if not Approval.objects.filter(study=study, site=site).exists():
        raise Refusal("thread.not_asked")
    with transaction.atomic():
        return say(study, site, by, Kind.MESSAGE, text, _about(study, about), speaker=Speaker.LEAD)


def write(
    by: Any, study: Study, site: Site, kind: str, text: str, shown: str, about: str = About.STUDY
) -> Message:
    """The hospital writes: `by` is its admin, or its agent. `shown` is the hash of the manifest that it was
    shown; a decision about another one is none.

    Raises: `auth.forbidden`, `approval.stale_manifest`, `thread.not_asked`, `thread.signed` (a decline of
    what is signed), `thread.declined`, `thread.not_declined`, `thread.empty` or `thread.too_long`.
    """
    _require(permissions.speaks_for(by, study, site))
    if kind not in Kind.values:
        raise Refusal("thread.not_asked")
    _require(kind == Kind.MESSAGE or permissions.decides(by))
    with transaction.atomic():
        study = Study.objects.select_for_update().get(pk=study.pk)
        run = _about(study, about)
        if kind == Kind.MESSAGE:
            return say(study, site, by, kind, text, run)
        if not shown or shown != study.manifest_hash:
            raise Refusal("approval.stale_manifest")
        _require_undecided(study, site, kind, run)
        said = say(study, site, by, kind, text, run)
        if kind == Kind.CHANGES and run[0] == About.STUDY:
            studies.give_up_manifest(by, study)
    return said


def erase(by: User, said: Message) -> None:
    """Take text and salt away for good; that something was said, when, by which side, and its hash remain.

    Raises: `auth.forbidden`.
    """
    _require(permissions.can_erase(by, said))
    with transaction.atomic():
        first = said.first_id or said.pk
        same = Message.objects.filter(Q(pk=first) | Q(first=first))
        same.update(text="", salt="", erased_at=timezone.now())
        record(by, "thread.erased", f"study:{said.study_id}", message=said.pk)


def _about(study: Study, about: str) -> tuple[str, str | None]:
    """What it is about, and the id of the run.

    Raises: `thread.not_asked` where nothing of it was.
    """
    if about == About.STUDY:
        return about, None
    run = subjects.of(about).asked(study)
    if run is None:
        raise Refusal("thread.not_asked")
    return about, run


def _require_undecided(study: Study, site: Site, kind: str, about: tuple[str, str | None]) -> None:
    """That the hospital can decide so now."""
    what = about[0]
    stands = decline_of(study, site, what)
    if kind == Kind.RECONSIDER:
        if stands is None:
            raise Refusal("thread.not_declined")
        return
    if stands is not None and kind == Kind.DECLINE:
        raise Refusal("thread.declined")
    if what == About.STUDY:
        if study.state not in OPEN:
            raise Refusal("study.wrong_state", state=study.state)
        own = study.approvals.filter(site=site, manifest_hash=study.manifest_hash)
        signed = own.filter(signature__isnull=False).exists()
    else:
        signed = not subjects.of(what).waits_for(study, site)
    if signed and kind == Kind.DECLINE:
        raise Refusal("thread.signed")


def say(
    study: Study,
    site: Site,
    by: Any,
    kind: str,
    text: str,
    about: tuple[str, str | None] = (About.STUDY, None),
    speaker: str = Speaker.SITE,
    sweep: Sweep | None = None,
    first: Message | None = None,
) -> Message:
    """Keep what was said, and its hash in the log; who may say it is judged before. `sweep` and `first` are
    as in `Message`: of a decision about a sweep one is told."""
    said, salt = message(text), secrets.token_hex(32)
    row = Message.objects.create(
        study=study,
        site=site,
        run_id=about[1],
        sweep=sweep,
        first=first,
        manifest_hash=study.manifest_hash,
        about=about[0],
        kind=kind,
        speaker=speaker,
        by=by if isinstance(by, User) else None,
        text=said,
        salt=salt,
        digest=digest(salt, said),
    )
    facts = {"about": about[0], "kind": kind, "speaker": speaker, "site": site.pk, "study": study.pk}
    append("message", {**facts, "manifest": study.manifest_hash, "message": row.digest})
    record(by, f"thread.{kind}", f"study:{study.pk}", site=site.pk, about=about[0])
    if first is not None:
        return row
    facts = {"about": about[0], "speaker": speaker}
    if sweep is not None:
        facts |= {"sweep": sweep.pk, "name": sweep.name}
    Event.objects.create(study=study, run_id=about[1], site=site, kind=f"thread.{kind}", facts=facts)
    return row


def _require(allowed: bool) -> None:
    if not allowed:
        raise Refusal("auth.forbidden")
