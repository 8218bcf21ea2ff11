"""What a mail says: the news in a line, and what to do about it."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.utils.translation import gettext as _

from error_catalogue import explain
from federation.people.models import User
from federation.studies.frozen import frozen
from federation.studies.models import Event, Sweep, SweepPoint
from federation.studies.short import short_for

THREADS = ("thread.message", "thread.changes", "thread.decline", "thread.reconsider")
"""Their mails hold no word of the message: it stands on the page, where it can be erased."""
ASKS = ("study.approving", "release.asked", "serving.waiting")
"""Events that ask for a decision: their mails say what it is about, in the words of page and terminal."""


class NoticeText(NamedTuple):
    """`link` leads to the page where the reader can act; `about` is what is to be decided, line by line."""

    subject: str
    news: str
    todo: str
    link: str
    about: tuple[str, ...] = ()


def text_of(event: Event, reader: User) -> NoticeText:
    """The mail about this event to this person."""
    return brief_of(event)._replace(about=_about(event, reader))


def brief_of(event: Event) -> NoticeText:
    """The same without what is to be decided, which stands on the page that it leads to."""
    study = event.study or (event.run.study if event.run else None)
    name = str(event.facts.get("name") or (study.name if study else ""))  # a sweep's, in its thread
    sweep = _asked_as_sweep(event)
    subject, news, todo = _words(event, sweep.name if sweep else name)
    return NoticeText(subject, news, todo, settings.PUBLIC_URL + path_of(event))


def path_of(event: Event) -> str:
    """The path of the page on which the reader can act."""
    study_id = event.study_id or (event.run.study_id if event.run else None)
    if study_id and event.kind.startswith(("release.", "serving.")):
        return f"/studies/{study_id}#{event.kind.partition('.')[0]}"
    if event.kind in THREADS and event.facts.get("sweep"):
        return f"/sweeps/{event.facts['sweep']}#thread"
    sweep = _asked_as_sweep(event)
    if sweep is not None:
        return f"/sweeps/{sweep.pk}"
    if study_id and event.kind in THREADS:
        return f"/studies/{study_id}/thread"
    if event.run_id:
        return f"/runs/{event.run_id}"
    return f"/studies/{study_id}" if study_id else "/"


def _asked_as_sweep(event: Event) -> Sweep | None:
    """The sweep that asks for a hospital's approval when one of its studies does."""
    if event.kind != "study.approving" or event.study is None:
        return None
    point = SweepPoint.objects.filter(study=event.study).select_related("sweep").first()
    return point.sweep if point is not None else None


def _about(event: Event, reader: User) -> tuple[str, ...]:
    """The plain sentences of what is to be decided; none of a manifest of an older version."""
    what = event.run or event.study
    if event.kind not in ASKS or what is None or not what.manifest:
        return ()
    manifest = frozen(what).manifest
    if manifest is None:
        return ()
    return tuple(f"{fact.name}: {fact.value}" for fact in short_for(manifest, reader.site).facts)


def _words(event: Event, name: str) -> tuple[str, str, str]:
    told = {"study": name, "site": event.site or ""}
    code = str(event.facts.get("code") or "")
    words = explain(code, event.facts) if code else None
    why = f"{words.message} {words.hint} [{words.code}]" if words else ""
    match event.kind:
        case "study.approving":
            return (
                _("“%(study)s” asks for your hospital's approval") % told,
                _("The study “%(study)s” is frozen and asks your hospital to take part.") % told,
                _("Read it, and sign at the hospital: python -m site_agent approve"),
            )
        case "study.ready":
            return (
                _("“%(study)s” can be launched") % told,
                _("All hospitals have signed “%(study)s”.") % told,
                _("Launch it on its page."),
            )
        case "run.finished":
            return (_("“%(study)s” is finished") % told, _("The run of “%(study)s” is finished.") % told, "")
        case "run.failed":
            return (
                _("“%(study)s” was stopped by an error") % told,
                _("The run of “%(study)s” was stopped by an error.") % told,
                why,
            )
        case "run.cancelled":
            return (
                _("“%(study)s” was cancelled") % told,
                _("The run of “%(study)s” was cancelled.") % told,
                str(event.facts.get("why") or ""),
            )
        case "quorum.awaited":
            return (
                _("“%(study)s” waits for hospitals") % told,
                _("The run of “%(study)s” has passed a deadline without enough hospitals.") % told,
                _("Look whether the agents of the hospitals that are missing run and reach the coordinator."),
            )
        case "release.asked":
            return (
                _("“%(study)s” asks for the release of its parameters") % told,
                _("The lead of “%(study)s” asks the hospitals to release the tuned parameters.") % told,
                _("Read to whom they would go, and sign at the hospital: python -m site_agent approve"),
            )
        case kind if kind in THREADS:
            return _of_thread(event, told)
        case "serving.waiting":
            return (
                _("“%(study)s” asks for your signature to serve its model") % told,
                _("The lead of “%(study)s” asks the hospitals that an enclave may serve its model.") % told,
                _("Read to whom it would answer, and sign at the hospital: python -m site_agent approve"),
            )
        case "release.released":
            return (
                _("The parameters of “%(study)s” are released") % told,
                _("The enclave has released the tuned parameters of “%(study)s”.") % told,
                _("The study's page says how to get them."),
            )
        case "release.failed":
            return (
                _("The parameters of “%(study)s” could not be released") % told,
                _("The enclave could not release the tuned parameters of “%(study)s”.") % told,
                why,
            )
        case _:
            return (
                _("“%(study)s”: %(site)s could not do its work") % told,
                _("In the run of “%(study)s”, %(site)s could not do its work.") % told,
                why,
            )


def _of_thread(event: Event, told: dict[str, Any]) -> tuple[str, str, str]:
    if event.facts.get("speaker") == "lead":
        subject = _("The lead of “%(study)s” has written to your hospital") % told
        return subject, f"{subject}.", _("Read and answer it on the page.")
    subjects = {
        "thread.changes": _("%(site)s asks for changes in “%(study)s”"),
        "thread.decline": _("%(site)s declines in “%(study)s”"),
        "thread.reconsider": _("%(site)s may take part in “%(study)s” after all"),
    }
    todos = {
        "thread.changes": _(
            "The study is a draft again. Read what is wished for, change it, and freeze it again."
        ),
        "thread.decline": _("Read why. You can answer, or go back to the draft and change it."),
    }
    subject = subjects.get(event.kind, _("%(site)s has a question about “%(study)s”")) % told
    return subject, f"{subject}.", todos.get(event.kind, _("Read and answer it on the page."))
