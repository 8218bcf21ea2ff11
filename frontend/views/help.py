"""Help: a page for each role, and the glossary."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from frontend.help.roles import PAGES
from frontend.help.terms import TERMS


def glossary(request: HttpRequest) -> HttpResponse:
    """Every term, in the order of the page's language."""
    terms = sorted(TERMS, key=lambda term: str(term.name).casefold())
    return render(request, "frontend/help/glossary.html", {"terms": terms, "pages": PAGES})


def role(request: HttpRequest, role: str) -> HttpResponse:
    """What this role is there for."""
    page = next((one for one in PAGES if one.key == role), None)
    if page is None:
        raise Http404
    return render(request, "frontend/help/role.html", {"page": page, "pages": PAGES})
