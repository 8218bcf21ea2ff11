"""A forgotten password: ask for a link, follow it, choose a new one. Whoever has a second factor still needs
it: a new password signs nobody in."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.views import PasswordResetConfirmView, PasswordResetDoneView, PasswordResetView
from django.db import transaction
from django.http import HttpResponse
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from contracts.refusal import Refusal
from federation.clients import client_of
from federation.people import resets
from frontend import known_browsers
from frontend.forms.people import AskResetForm, NewPasswordForm


class Ask(PasswordResetView):
    """The address; the answer is the same whether or not there is an account of it."""

    template_name = "frontend/parts/form_page.html"
    form_class = AskResetForm
    success_url = reverse_lazy("password-reset-sent")
    extra_context = {
        "title": gettext_lazy("A new password"),
        "intro": gettext_lazy("Give the e-mail address of your account. A link comes to it by mail."),
        "submit": gettext_lazy("Send me a link"),
        "back": reverse_lazy("sign-in"),
    }

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            return super().form_valid(form)
        except Refusal as refusal:
            return self.render_to_response(self.get_context_data(form=form, refused=refusal), status=503)


class Sent(PasswordResetDoneView):
    """Look into your mails."""

    template_name = "frontend/people/reset_sent.html"


class Choose(PasswordResetConfirmView):
    """The new password. Django keeps the token out of the address that the page links from."""

    template_name = "frontend/people/reset.html"
    form_class = NewPasswordForm
    success_url = reverse_lazy("sign-in")

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            response = super().form_valid(form)
            resets.done(form.user, client_of(self.request))
        messages.success(self.request, _("The new password is in force. Sign in with it."))
        # Who reads the account's mails is no stranger: this browser is not held up by strangers' tries.
        return known_browsers.remember(response, self.request, form.user)
