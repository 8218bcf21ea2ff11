"""The thread of a study as a section of its room: what was said, and the box to write in."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from enclave_jobs.releases.models import Release, ReleaseState
from enclave_jobs.serving.models import Service, ServiceState
from federation.people.models import User
from federation.plain import LIMIT
from federation.sites.models import Site
from federation.studies import permissions as study_permissions
from federation.studies.models import Approval, Study
from federation.threads import permissions, queries, services
from federation.threads.models import About, Message


def thread_of(study: Study, user: User, typed: str = "", about: str = "", to: str = "") -> dict[str, Any]:
    """What the section shows to this person. `typed` is what was refused, so that it is not lost; `about` and
    `to` are chosen in its form."""
    said = list(permissions.visible_to(user, study))
    for message in said:
        message.erasable = permissions.can_erase(user, message)  # type: ignore[attr-defined]
    own = user.site
    hospital = own if own is not None and permissions.speaks_for(user, study, own) else None
    asked = _asked(study) if study_permissions.can_edit(user, study) else []
    abouts = _abouts(study)
    decides = hospital is not None and permissions.decides(user)
    undecided = _undecided(study, hospital) if hospital is not None and decides else []
    all_declines = queries.declines_in_force(study)
    declines = [row for row in all_declines if hospital is None or row.site_id == hospital.pk]
    return {
        "thread": said,
        "thread_limit": LIMIT,
        "typed": typed,
        "speaks": hospital is not None or bool(asked),
        "hospital": hospital,
        "thread_sites": asked,
        "abouts": abouts,
        "chosen_about": about or (undecided[0] if undecided else abouts[-1][0]),
        "chosen_site": to,
        "may_decline": bool(set(undecided) - {decline.about for decline in declines}),
        "may_wish": decides and (study.state in services.OPEN or bool(undecided)),
        "wishes_draft": study.state in services.OPEN,
        "declines": declines,
        "decides": decides,
        "declined_sites": _of_study(all_declines),
    }


def declined_sites(study: Study) -> set[str]:
    """The hospitals that have declined what is asked for now."""
    return _of_study(queries.declines_in_force(study))


def _of_study(all_declines: list[Message]) -> set[str]:
    return {row.site_id for row in all_declines if row.about == About.STUDY}


def _asked(study: Study) -> list[Site]:
    """The hospitals that the study asks, or has asked."""
    ids = Approval.objects.filter(study=study).values("site_id")
    return list(Site.objects.filter(pk__in=ids).order_by("name"))


def _undecided(study: Study, hospital: Site) -> list[str]:
    """What waits for this hospital's signature."""
    waits = study.approvals.filter(site=hospital, manifest_hash=study.manifest_hash, signature=None)
    found = [About.STUDY.value] if study.state in services.OPEN and waits.exists() else []
    releases = Release.objects.filter(run__study=study, state=ReleaseState.WAITING)
    serving = Service.objects.filter(run__study=study, state=ServiceState.WAITING)
    found += [About.RELEASE.value] if releases.exclude(signatures__site=hospital).exists() else []
    found += [About.SERVING.value] if serving.exclude(signatures__site=hospital).exists() else []
    return found


def _abouts(study: Study) -> list[tuple[str, str]]:
    """What can be written about now, in words."""
    found, run = [(About.STUDY.value, _("the study"))], study.runs.first()
    if run is not None and Release.objects.filter(run=run).exists():
        found.append((About.RELEASE.value, _("the release of its parameters")))
    if run is not None and Service.objects.filter(run=run).exclude(state=ServiceState.OFF).exists():
        found.append((About.SERVING.value, _("serving its model")))
    return found
