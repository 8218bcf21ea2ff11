"""A person's own account: password, second factor, recovery codes."""

from __future__ import annotations

from functools import partial
from typing import Any

import segno
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from contracts.refusal import Refusal
from federation.notices import services as notices
from federation.notices.models import Topic
from federation.people import second_factor, services
from frontend.forms.people import CodeForm, PasswordForm, ProfileForm
from frontend.views.acting import form_page, person


@login_required
def account(request: HttpRequest) -> HttpResponse:
    """Who I am here, and how I sign in."""
    second_factor_state = second_factor.state_of(person(request))
    unwanted = notices.unwanted_by(person(request))
    topics = [(value, label, value not in unwanted) for value, label in Topic.choices]
    context = {"second_factor": second_factor_state, "topics": topics}
    return render(request, "frontend/people/account.html", context)


@login_required
@require_POST
def mails(request: HttpRequest) -> HttpResponse:
    """Be told by mail of events of the topics that are ticked, and of no others."""
    notices.choose_mails(person(request), request.POST.getlist("topic"))
    messages.success(request, _("Kept. In the browser you find all news, whatever you get by mail."))
    return redirect("account")


@login_required
@require_POST
def steps(request: HttpRequest) -> HttpResponse:
    """Put the first steps away, or have them back; they stand on the first page."""
    away = request.POST.get("steps") == "away"
    services.put_steps_away(person(request), away)
    if away:
        messages.success(request, _("The first steps are put away. Your account has them back for you."))
    return redirect("home")


@login_required
def profile(request: HttpRequest) -> HttpResponse:
    """Name and time zone."""
    user = person(request)

    def change(data: dict[str, Any]) -> Any:
        services.change_profile(user, data["first_name"], data["last_name"], data["time_zone"])
        messages.success(request, _("Kept."))
        return lambda: redirect("account")

    known = {name: getattr(user, name) for name in ProfileForm.base_fields}
    return form_page(
        request,
        partial(ProfileForm, initial=known),
        change,
        title=_("Name and time zone"),
        submit=_("Save"),
        back="/account",
    )


@login_required
def password(request: HttpRequest) -> HttpResponse:
    """Change the password; every other session of the account ends."""
    user = person(request)

    def change(data: dict[str, Any]) -> Any:
        services.change_password(user, data["current"], data["password"])
        update_session_auth_hash(request, user)
        messages.success(request, _("The password is changed. Other browsers are signed out."))
        return lambda: redirect("account")

    return form_page(
        request,
        PasswordForm,
        change,
        title=_("Change the password"),
        submit=_("Change it"),
        back="/account",
    )


@login_required
def setup(request: HttpRequest) -> HttpResponse:
    """Set up an authenticator app: its key as a picture and as text, and the first code. The answer to the
    right code shows the recovery codes, this once."""
    user = person(request)
    if second_factor.is_on(user):
        return redirect("account")
    form, refused = CodeForm(request.POST or None), None
    if request.method == "POST" and form.is_valid():
        try:
            codes = second_factor.confirm(user, form.cleaned_data["code"])
        except Refusal as refusal:
            refused = refusal
        else:
            return _codes(request, codes)
    device = second_factor.begin(user)
    secret = _secret_of(device.config_url)
    # Our own markup, without styles or scripts: only the address inside it is data, drawn as squares.
    picture = segno.make(device.config_url, error="m").svg_inline(omitsize=True, border=3, light="#fff")
    context = {
        "form": form,
        "refused": refused,
        "picture": mark_safe(picture),  # noqa: S308
        "secret": " ".join(secret[i : i + 4] for i in range(0, len(secret), 4)),
        "required": second_factor.is_required(user),
    }
    status = 422 if request.method == "POST" else 200
    return render(request, "frontend/people/second_factor.html", context, status=status)


@login_required
def codes(request: HttpRequest) -> HttpResponse:
    """New recovery codes, for a right code."""
    user = person(request)
    return form_page(
        request,
        CodeForm,
        lambda data: (lambda fresh: lambda: _codes(request, fresh))(
            second_factor.renew_codes(user, data["code"])
        ),
        title=_("New recovery codes"),
        intro=_("The old ones stop working. Give a code of your app to go on."),
        submit=_("Show new codes"),
        back="/account",
    )


@login_required
def turn_off(request: HttpRequest) -> HttpResponse:
    """Sign in with the password alone, for a right code."""
    user = person(request)

    def off(data: dict[str, Any]) -> Any:
        second_factor.turn_off(user, data["code"])
        messages.success(request, _("The second factor is off."))
        return lambda: redirect("account")

    return form_page(
        request,
        CodeForm,
        off,
        title=_("Turn the second factor off"),
        intro=_("From then on whoever knows your password is you. Give a code of your app to go on."),
        submit=_("Turn it off"),
        back="/account",
    )


def _codes(request: HttpRequest, codes: list[str]) -> HttpResponse:
    return render(request, "frontend/people/recovery_codes.html", {"codes": codes})


def _secret_of(address: str) -> str:
    return address.split("secret=", 1)[1].split("&", 1)[0]
