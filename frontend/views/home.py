"""The first page: what waits for this person, and what is running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from enclave_jobs.releases import queries as release_queries
from enclave_jobs.releases.models import ReleaseState
from enclave_jobs.runs.models import Round, RoundState, Run
from enclave_jobs.runs.permissions import runs_visible_to
from enclave_jobs.serving import queries as serving_queries
from enclave_jobs.serving.models import ServiceState
from federation.attestation.models import Reference
from federation.attestation.reviews import waiting_for
from federation.frozen import frozen
from federation.people import auditors, posts
from federation.people import permissions as people_permissions
from federation.people.models import Invitation, Role, User
from federation.sites import permissions as site_permissions
from federation.sites.models import Site, SiteState
from federation.studies import permissions, queries
from federation.studies.models import BaseModel, StudyState
from federation.threads import queries as threads
from federation.threads.models import Message, Speaker
from federation.threads.permissions import studies_visible_to as asked_here
from frontend.first_steps import first_steps
from frontend.people import with_people
from frontend.rounds import ENDED
from frontend.sweeps import TO_SWEEP, lines, one_a_sweep, with_sweeps
from frontend.timeline import waits_for
from frontend.views.acting import person
from frontend.views.runs import with_figures

SHOWN_SITES = 20


@login_required
def home(request: HttpRequest) -> HttpResponse:
    user = person(request)
    visible = runs_visible_to(user).select_related("study")
    ended = visible.filter(state__in=ENDED).select_related(TO_SWEEP)
    runs = with_sweeps(visible, one_a_sweep(ended, TO_SWEEP, 10))
    sites = site_permissions.visible_to(user)
    steps = first_steps(user)
    return render(
        request,
        "frontend/home/home.html",
        {
            "steps": steps,
            "steps_done": sum(step.done for step in steps),
            "waiting": _waiting(user, begins=bool(steps)),
            "running": _running(list(visible.exclude(state__in=ENDED)[:10])),
            "runs": with_figures(runs),
            "sites": sites[:SHOWN_SITES],
            "more_sites": sites.count() > SHOWN_SITES,
            "can_invite": people_permissions.can_invite(user, Role.SITE_ADMIN),
        },
    )


def _running(live: list[Run]) -> list[dict[str, Any]]:
    """The runs that live: how far each is, and whom or what it waits for."""
    open_rounds = Round.objects.filter(run__in=live).exclude(
        state__in=(RoundState.PUBLISHED, RoundState.FAILED)
    )
    current = {row.run_id: row for row in open_rounds.prefetch_related("contributions__site")}
    found = []
    for run in with_figures(live):
        round = current.get(run.pk)
        contributions = list(round.contributions.all()) if round else []
        total = frozen(run).at("training", "rounds")
        found.append({"run": run, "total": total, "waiting": waits_for(run, round, contributions)})
    return found


def _subject(said: Message) -> str:
    """What it was said about: a study, or a sweep as a whole."""
    return said.study.name if said.sweep is None else said.sweep.name


def _thread_page(said: Message) -> str:
    if said.sweep is not None:
        return reverse("sweep", args=[said.sweep_id]) + "#thread"
    return reverse("study-thread", args=[said.study_id])


def _to_sign(site: Site) -> list[tuple[str, Run, str]]:
    """What asks for this hospital's signature after a run: its release, its model in service."""
    released = release_queries.asked_of(site).filter(state=ReleaseState.WAITING)
    served = serving_queries.asked_of(site).filter(state=ServiceState.WAITING)
    return [
        *(
            (_("Sign the release of “%(study)s”"), row.run, "release")
            for row in released.exclude(signatures__site=site)
        ),
        *(
            (_("Sign that “%(study)s” is served"), row.run, "serving")
            for row in served.exclude(signatures__site=site)
        ),
    ]


def _waiting(user: User, begins: bool) -> list[dict[str, str]]:
    """What only this person can move on. `begins`: the first steps stand beside it and are not said twice."""
    items: list[dict[str, str]] = []

    def add(text: str, url: str, detail: str = "") -> None:
        items.append({"text": text, "url": url, "detail": detail})

    studies = permissions.visible_to(user)
    if user.role == Role.SITE_ADMIN and user.site is not None:
        page = reverse("site", args=[user.site_id])
        agent, decides = posts.may(user, "run_agent"), posts.may(user, "decide")
        if user.site.state == SiteState.INVITED and agent and not begins:
            add(_("Connect your hospital's agent"), page, _("one command"))
        elif user.site.state == SiteState.ENROLLED and agent and not begins:
            add(_("Start your hospital's agent"), page, "python -m site_agent run")
        approving = studies.filter(state=StudyState.APPROVING).select_related("sweep_point__sweep")
        mine = [one for one in approving if user.site in queries.waiting_for(one)] if decides else []
        for line in lines(mine):
            facts = {"study": line.name, "runs": len(line.studies)}
            if line.sweep is None:
                add(_("Approve “%(study)s”") % facts, line.url)
            else:
                add(_("Approve “%(study)s”") % facts, line.url, _("%(runs)s runs, one signature") % facts)
        for said in threads.unanswered(asked_here(user), by=Speaker.LEAD, site=user.site) if decides else ():
            add(_("Read the answer in “%(study)s”") % {"study": _subject(said)}, _thread_page(said))
        for text, run, about in _to_sign(user.site) if decides or agent else ():
            page = reverse("study", args=[run.study_id]) + f"?about={about}#{about}"
            add(text % {"study": run.study.name}, page, "python -m site_agent approve")
    if user.role == Role.LEAD:
        for said in threads.unanswered(studies, by=Speaker.SITE):
            facts = {"site": said.site, "study": _subject(said)}
            add(_("Answer %(site)s in “%(study)s”") % facts, _thread_page(said), said.get_kind_display())
        own = studies.select_related("sweep_point__sweep")
        for line in lines(own.filter(state=StudyState.READY)):
            add(_("Launch “%(study)s”") % {"study": line.name}, line.url, _("all have signed"))
        for line in lines(own.filter(state=StudyState.APPROVING)):
            missing = {site.pk: site for study in line.studies for site in queries.waiting_for(study)}
            facts = {"study": line.name, "names": with_people(list(missing.values()))}
            add(_("“%(study)s”") % facts, line.url, _("waits for %(names)s") % facts)
        for line in lines(own.filter(state=StudyState.DRAFT)):
            count = len(line.studies)
            drafts = ngettext("a draft", "%(n)s drafts of a sweep", count) % {"n": count}
            add(_("Go on with “%(study)s”") % {"study": line.name}, line.url, drafts)
    for review in waiting_for(user):
        add(
            _("Review a changed measurement of %(program)s") % {"program": review.program},
            reverse("review", args=[review.pk]),
            review.reason,
        )
    for auditor in auditors.waiting_for(user):
        add(
            _("Confirm %(person)s as an auditor") % {"person": auditor.email},
            reverse("person", args=[auditor.pk]),
            _("or their word does not count"),
        )
    if user.role == Role.OPERATOR and not begins:
        _beginnings(add)
    return items


def _beginnings(add: Callable[..., None]) -> None:
    """What an installation lacks before anybody can work with it; an operator has to move it."""
    if not BaseModel.objects.exists():
        add(_("Register a base model"), reverse("model-new"), "python manage.py register_model SOURCE")
    if not Reference.objects.exists():
        add(_("Put forward the first reference values"), reverse("reference-new"), _("what enclaves may run"))
    invite = reverse("person-invite")
    invited = Q(used_at=None)
    for role, text, why in (
        (Role.LEAD, _("Invite a lead"), _("who makes studies and invites hospitals")),
        (Role.AUDITOR, _("Invite an auditor"), _("whose word counts beside yours")),
    ):
        if not (
            User.objects.filter(role=role).exists() or Invitation.objects.filter(invited, role=role).exists()
        ):
            add(text, f"{invite}?role={role}", why)
