"""Signing in: the password first, then the code, if the person has a second factor."""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from federation.people import second_factor
from federation.people.models import User
from frontend import known_browsers
from frontend.forms.people import CodeForm, SignInForm
from frontend.views.acting import form_page

PENDING = "waits_for_code"
PENDING_SECONDS = 300


class SignIn(LoginView):
    """E-mail address and password. Nobody is signed in before the code is right: until then the session only
    remembers, for five minutes, whose password was."""

    template_name = "frontend/people/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        user = form.get_user()
        assert isinstance(user, User)
        if not second_factor.is_on(user):
            return known_browsers.remember(super().form_valid(form), self.request, user)
        self.request.session.cycle_key()
        self.request.session[PENDING] = {
            "user": user.pk,
            "backend": user.backend,
            "password": user.get_session_auth_hash(),
            "until": time.time() + PENDING_SECONDS,
            "next": self.get_success_url(),
        }
        return redirect("sign-in-code")


def code(request: HttpRequest) -> HttpResponse:
    """The code of the authenticator app, or a recovery code."""
    pending, user = _pending(request)
    if user is None:
        request.session.pop(PENDING, None)
        return redirect("sign-in")

    def enter(data: dict[str, Any]) -> Any:
        second_factor.check(user, data["code"])
        del request.session[PENDING]
        login(request, user, backend=pending["backend"])
        return lambda: known_browsers.remember(redirect(pending["next"]), request, user)

    return form_page(
        request,
        CodeForm,
        enter,
        title=_("Your code"),
        intro=_("The six digits that your authenticator app shows now, or one of your recovery codes."),
        submit=_("Sign in"),
        back="/sign-in",
        note=_("Lost both? An operator can reset your second factor."),
    )


def _pending(request: HttpRequest) -> tuple[dict[str, Any], User | None]:
    pending = request.session.get(PENDING) or {}
    user = User.objects.filter(pk=pending.get("user", 0), is_active=True).first()
    if user is None or pending["until"] < time.time():
        return pending, None
    if not constant_time_compare(pending["password"], user.get_session_auth_hash()):
        return pending, None
    return pending, user
