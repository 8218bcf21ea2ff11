"""How a page acts: a verb of a service, its refusal in the catalogue's words, and nobody's input lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from contracts.refusal import Refusal
from error_catalogue import explain
from federation.people.models import User


def person(request: HttpRequest) -> User:
    """The signed-in user; views behind `login_required` have one."""
    assert isinstance(request.user, User)
    return request.user


def act(request: HttpRequest, action: Callable[[], Any], back: str, done: str = "") -> HttpResponse:
    """Do it and go back to `back` (a path), with a message that says what happened."""
    try:
        action()
    except Refusal as refusal:
        words = explain(refusal.code, refusal.facts)
        messages.error(request, f"{words.message} {words.hint} [{words.code}]")
    else:
        if done:
            messages.success(request, done)
    return redirect(back)


def form_page(
    request: HttpRequest,
    form_class: Callable[[Any], forms.Form],
    action: Callable[[dict[str, Any]], Callable[[], HttpResponse]],
    template: str = "frontend/parts/form_page.html",
    **context: Any,
) -> HttpResponse:
    """A page with one form. `action` gets the cleaned data and returns how to go on; a refusal stands above
    the form, which keeps what was typed."""
    form = form_class(request.POST or None)
    refused = None
    if request.method == "POST" and form.is_valid():
        try:
            return action(form.cleaned_data)()
        except Refusal as refusal:
            refused = refusal
    status = 422 if request.method == "POST" else 200
    return render(request, template, {"form": form, "refused": refused, **context}, status=status)
