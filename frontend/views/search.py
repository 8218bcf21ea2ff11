"""Find studies, runs, hospitals, datasets, models, people and log entries from one box."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from federation.people.models import Role
from frontend.finding import find
from frontend.views.acting import person

LEAST, MOST = 2, 100


@login_required
def search(request: HttpRequest) -> HttpResponse:
    """What fits `q`, among what this person may see."""
    user = person(request)
    text = " ".join(request.GET.get("q", "").replace("\0", "").split())[:MOST]
    is_number = text.isascii() and text.isdecimal()
    asks = len(text) >= LEAST or (is_number and user.role != Role.SITE_ADMIN)
    shown = {"q": text, "asks": asks, "groups": find(user, text) if asks else []}
    return render(request, "frontend/search.html", shown)
