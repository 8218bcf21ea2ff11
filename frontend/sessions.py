"""What a browser keeps and loses when somebody is signed out: nothing stays on the screen or in its memory,
and nothing that was typed is lost."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect

from error_catalogue import explain
from federation.people import sessions
from federation.people.models import User

GetResponse = Callable[[HttpRequest], HttpResponse]
NOT_SHOWN = ("csrfmiddlewaretoken", "next", "password", "secret", "code", "current", "repeated")


class SignedInTime:
    """Ends sessions that are too old or idle, and takes who is signed out to sign in, as a whole page."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        user = request.user
        if isinstance(user, User):
            if ended := sessions.has_ended(request.session, user):
                logout(request)
                words = explain(ended)
                messages.info(request, f"{words.message} {words.hint}")
            elif is_a_persons(request):
                sessions.touch(request.session)
        return _as_whole_page(request, self.get_response(request))


class NotKept:
    """No page is kept by a browser or a proxy (RFC 9111, 5.2.2.5): after signing out, Back shows nothing.

    Static files never come here, and a view that says otherwise for itself is left alone.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if "Cache-Control" not in response.headers:
            add_never_cache_headers(response)
        return response


def is_a_persons(request: HttpRequest) -> bool:
    """Whether somebody did something: opened a page or sent a form. Parts of a page that a script fetches,
    as a live page does for as long as it is open, are nobody's doing."""
    if request.method not in ("GET", "HEAD"):
        return True
    # A browser says how it asks, except to a plain http:// address; there the wish for a page must do.
    fetched = request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"
    page = "text/html" in request.headers.get("Accept", "text/html")
    return page and not fetched and not _by_htmx(request)


def typed(request: HttpRequest) -> list[tuple[str, str]]:
    """What stood in a form that came too late, so that nobody writes it twice; no secrets, and nothing that
    another site sent in somebody's name."""
    if request.headers.get("Sec-Fetch-Site") != "same-origin":
        return []
    fields = ((name.replace("_", " "), "\n".join(request.POST.getlist(name))) for name in request.POST)
    return [(name, text) for name, text in fields if text.strip() and not _is_secret(name)]


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The form is of another session: signed in again since, in another tab. Or the browser stands at another
    address than FEDSLICE_URL, as behind a proxy that is not set up whole."""
    there = request.headers.get("Origin") if reason.startswith("Origin checking failed") else None
    context = {"typed": typed(request), "there": there, "known": settings.PUBLIC_URL}
    return render(request, "403_csrf.html", context, status=403)


def _is_secret(name: str) -> bool:
    return any(word in name.replace(" ", "_") for word in NOT_SHOWN)


def _by_htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def _as_whole_page(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    there = urlsplit(response.headers.get("Location", ""))
    if response.status_code != 302 or there.path not in (reverse("sign-in"), reverse("second-factor")):
        return response
    # Only who is not signed in is sent away with the address to come back to.
    back = redirect_to_login(_page_of(request)).url if there.query else response.headers["Location"]
    if _by_htmx(request):
        # A redirect would put that page into the part of this page that htmx asked for.
        return HttpResponseClientRedirect(back)
    if request.method == "POST" and there.query:
        context = {"typed": typed(request), "sign_in": back}
        return render(request, "frontend/people/signed_out.html", context, status=401)
    return response


def _page_of(request: HttpRequest) -> str:
    """The page to come back to: where the part or the form stood; a form's own address answers no GET."""
    said = request.headers.get("HX-Current-URL") or request.headers.get("Referer") or "/"
    here = url_has_allowed_host_and_scheme(said, {request.get_host()}, request.is_secure())
    parts = urlsplit(said)
    return (parts.path + (f"?{parts.query}" if parts.query else "")) if here else "/"
