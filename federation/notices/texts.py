"""What a mail says: the news in a line, and what to do about it."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.utils.translation import gettext as _

from error_catalogue import explain
from federation.frozen import frozen
from federation.people.models import User
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
    point: SweepPoint | None = getattr(event.study, "sweep_point", None)
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
    facts = {"study": name, "site": event.site or ""}
    code = str(event.facts.get("code") or "")
    words = explain(code, event.facts) if code else None
    why = f"{words.message} {words.hint} [{words.code}]" if words else ""
    match event.kind:
        case "study.approving":
            return (
                _("“%(study)s” asks for your hospital's approval") % facts,
                _("The study “%(study)s” is frozen and asks your hospital to take part.") % facts,
                _("Read it, and sign at the hospital: python -m site_agent approve"),
            )
        case "study.ready":
            return (
                _("“%(study)s” can be launched") % facts,
                _("All hospitals have signed “%(study)s”.") % facts,
                _("Launch it on its page."),
            )
        case "run.finished":
            return (
                _("“%(study)s” is finished") % facts,
                _("The run of “%(study)s” is finished.") % facts,
                "",
            )
        case "run.failed":
            return (
                _("“%(study)s” was stopped by an error") % facts,
                _("The run of “%(study)s” was stopped by an error.") % facts,
                why,
            )
        case "run.cancelled":
            return (
                _("“%(study)s” was cancelled") % facts,
                _("The run of “%(study)s” was cancelled.") % facts,
                str(event.facts.get("why") or ""),
            )
        case "quorum.awaited":
            return (
                _("“%(study)s” waits for hospitals") % facts,
                _("The run of “%(study)s” has passed a deadline without enough hospitals.") % facts,
                _("Look whether the agents of the hospitals that are missing run and reach the coordinator."),
            )
        case "release.asked":
            return (
                _("“%(study)s” asks for the release of its parameters") % facts,
                _("The lead of “%(study)s” asks the hospitals to release the tuned parameters.") % facts,
                _("Read to whom they would go, and sign at the hospital: python -m site_agent approve"),
            )
        case kind if kind in THREADS:
            return _of_thread(event, facts)
        case "serving.waiting":
            return (
                _("“%(study)s” asks for your signature to serve its model") % facts,
                _("The lead of “%(study)s” asks the hospitals that an enclave may serve its model.") % facts,
                _("Read to whom it would answer, and sign at the hospital: python -m site_agent approve"),
            )
        case "release.released":
            return (
                _("The parameters of “%(study)s” are released") % facts,
                _("The enclave has released the tuned parameters of “%(study)s”.") % facts,
                _("The study's page says how to get them."),
            )
        case "release.failed":
            return (
                _("The parameters of “%(study)s” could not be released") % facts,
                _("The enclave could not release the tuned parameters of “%(study)s”.") % facts,
                why,
            )
        case _:
            return (
                _("“%(study)s”: %(site)s could not do its work") % facts,
                _("In the run of “%(study)s”, %(site)s could not do its work.") % facts,
                why,
            )


def _of_thread(event: Event, facts: dict[str, Any]) -> tuple[str, str, str]:
    if event.facts.get("speaker") == "lead":
        subject = _("The lead of “%(study)s” has written to your hospital") % facts
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
    subject = subjects.get(event.kind, _("%(site)s has a question about “%(study)s”")) % facts
    return subject, f"{subject}.", todos.get(event.kind, _("Read and answer it on the page."))
