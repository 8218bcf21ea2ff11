"""Saying something in a study's thread, and erasing it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from federation.people.models import Role, User
from federation.sites.models import Site
from federation.studies import permissions as study_permissions
from federation.studies.models import Study
from federation.threads import permissions, services
from federation.threads.models import About, Kind
from frontend.views.acting import act, person
from frontend.views.room import room_of
from frontend.views.thread import thread_of


@login_required
def thread(request: HttpRequest, study_id: str) -> HttpResponse:
    """Saying something in it; what is refused stays in the box. To read, its place is in the study's room;
    it stands alone for a hospital whose study is a draft again."""
    user, study = person(request), _visible(request, study_id)
    sees_study = study_permissions.can_see(user, study)
    refused, text = None, request.POST.get("text", "")
    if request.method == "POST":
        kind = request.POST.get("kind", Kind.MESSAGE.value)
        try:
            _write(request, user, study, kind, text)
        except Refusal as refusal:
            refused = refusal
        else:
            messages.success(request, _confirmation(kind, request.POST.get("about", About.STUDY.value)))
            return redirect(_place(user, study))
    elif sees_study:
        query = request.GET.urlencode()
        return redirect(reverse("study", args=[study.pk]) + (f"?{query}" if query else "") + "#thread")
    chosen = {**request.GET.dict(), **request.POST.dict()}
    typed = (text, chosen.get("about", ""), chosen.get("site", ""))
    status = 422 if refused else 200
    if sees_study:
        context = {**room_of(request, study, *typed), "refused": refused}
        return render(request, "frontend/studies/room.html", context, status=status)
    context = {"study": study, "refused": refused, **thread_of(study, user, *typed)}
    return render(request, "frontend/studies/thread_page.html", context, status=status)


def _place(user: User, study: Study) -> str:
    """Where this person reads the thread now."""
    if study_permissions.can_see(user, study):
        return reverse("study", args=[study.pk]) + "#thread"
    return reverse("study-thread", args=[study.pk])


def _write(request: HttpRequest, user: User, study: Study, kind: str, text: str) -> None:
    about = request.POST.get("about", About.STUDY.value)
    if user.role == Role.SITE_ADMIN and user.site is not None:
        shown = request.POST.get("manifest_hash", "")
        services.write(user, study, user.site, kind, text, shown, about)
        return
    site = Site.objects.filter(pk=request.POST.get("site", "")).first()
    if site is None:
        raise Refusal("thread.not_asked")
    services.answer(user, study, site, text, about)


def _confirmation(kind: str, about: str) -> str:
    draft = _("The study is a draft again; its lead reads what you wish for.")
    waits = _("The lead reads what you wish for. Nothing is signed meanwhile.")
    return {
        Kind.CHANGES: draft if about == About.STUDY else waits,
        Kind.DECLINE: _("Declined. The lead is told; your hospital can still change its mind."),
        Kind.RECONSIDER: _("The decline is taken back. To take part, sign at the hospital."),
    }.get(Kind(kind), _("Sent."))


@login_required
@require_POST
def erase(request: HttpRequest, study_id: str, message_id: int) -> HttpResponse:
    """Erase a text; its hash remains in the log."""
    user, study = person(request), _visible(request, study_id)
    message = get_object_or_404(permissions.visible_to(user, study), pk=message_id)
    back = reverse("sweep", args=[message.sweep_id]) + "#thread" if message.sweep_id else _place(user, study)
    return act(request, lambda: services.erase(user, message), back, _("The text is erased."))


def _visible(request: HttpRequest, study_id: str) -> Study:
    user = person(request)
    return get_object_or_404(permissions.studies_visible_to(user).select_related("lead"), pk=study_id)
