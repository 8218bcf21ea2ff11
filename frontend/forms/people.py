"""Forms about people."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm, SetPasswordForm
from django.core.validators import validate_email
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from contracts.refusal import Refusal
from error_catalogue import explain
from federation.clients import client_of
from federation.people import pace, resets
from federation.people.models import Post, Role
from federation.people.zones import zones
from frontend import known_browsers
from translations.spoken import LANGUAGES


def _in_words(refusal: Refusal) -> forms.ValidationError:
    words = explain(refusal.code, refusal.facts)
    return forms.ValidationError(f"{words.message} {words.hint} [{words.code}]", code=words.code)


class SignInForm(AuthenticationForm):
    """E-mail address and password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget.attrs["autocomplete"] = "username"

    def clean(self) -> dict[str, Any]:
        """Tries are counted by `federation.people.pace`; beyond a limit a password is not even looked at."""
        assert self.request is not None
        address, client = self.cleaned_data.get("username") or "", client_of(self.request)
        browser = known_browsers.id_of(self.request, address)
        try:
            pace.admit_sign_in(address, client, browser)
        except Refusal as refusal:
            raise _in_words(refusal) from refusal
        cleaned = super().clean()
        pace.forgive(address, client, browser)
        return cleaned


class AskResetForm(PasswordResetForm):
    """The address. Nothing is looked up here: `federation.people.resets` says why."""

    email = forms.EmailField(
        label=_("E-mail address"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )

    def save(self, *args: Any, **kwargs: Any) -> None:
        resets.ask(self.cleaned_data["email"], client_of(kwargs["request"]))


class NewPasswordForm(SetPasswordForm):
    """The new password, twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = _("At least 12 characters; a sentence is good.")
        self.fields["new_password2"].help_text = ""
        self.fields["new_password2"].label = _("New password, again")


class AcceptForm(forms.Form):
    """What someone who was invited fills in. The password's rules are the service's. It is typed once: a
    button shows what was typed, and who mistypes all the same has a link mailed (NIST SP 800-63B, 3.1.1.2).
    """

    first_name = forms.CharField(label=_("First name"), max_length=150, required=False)
    last_name = forms.CharField(label=_("Last name"), max_length=150, required=False)
    password = forms.CharField(
        label=_("Password"),
        widget=forms.PasswordInput(
            attrs={"autocomplete": "new-password", "data-show": _("Show the password")}
        ),
        help_text=_("At least 12 characters; a sentence is good."),
    )

    @classmethod
    def naming(cls, names_site: bool) -> type[AcceptForm]:
        """The same form, with the hospital's name first where the hospital has none yet."""
        return NamingAcceptForm if names_site else cls


class NamingAcceptForm(AcceptForm):
    site_name = forms.CharField(
        label=_("Name of the hospital"), max_length=200, help_text=_("As the others in a study shall see it.")
    )
    field_order = ("site_name", "first_name", "last_name", "password")


def _language() -> forms.ChoiceField:
    return forms.ChoiceField(
        label=_("Language of the mail"),
        choices=lambda: LANGUAGES.items(),
        initial=get_language,
        required=False,
    )


class InvitePersonForm(forms.Form):
    email = forms.EmailField(label=_("E-mail address"))
    role = forms.ChoiceField(
        label=_("Role"), choices=[choice for choice in Role.choices if choice[0] != Role.SITE_ADMIN]
    )
    language = _language()


class Addresses(forms.CharField):
    """One e-mail address, or several with commas between."""

    widget = forms.EmailInput(attrs={"multiple": True})

    def clean(self, value: Any) -> list[str]:
        """Each is an address, and none there twice, in whatever case; at least one."""
        said = str(super().clean(value)).split(",")
        found = list(dict.fromkeys(one.strip().lower() for one in said if one.strip()))
        for one in found or [""]:
            validate_email(one)
        return found


class InviteSiteForm(forms.Form):
    email = Addresses(
        label=_("E-mail address of the hospital's admin"),
        max_length=4000,
        help_text=_("Several hospitals at once: their admins' addresses, with commas between."),
    )
    language = _language()


class InviteColleagueForm(forms.Form):
    """Somebody else of the same hospital."""

    email = forms.EmailField(label=_("E-mail address"))
    post = forms.ChoiceField(
        label=_("Does"), required=False, choices=lambda: [*Post.choices, ("", _("everything: another admin"))]
    )
    language = _language()


class LongSelect(forms.Select):
    """A choice among hundreds: written at once, where Django renders a template for each option."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """The element with its options."""
        chosen = {str(one) for one in (value if isinstance(value, list) else [value or ""])}
        options = format_html_join(
            "",
            '<option value="{}"{}>{}</option>',
            (
                (key, mark_safe(" selected") if str(key) in chosen else "", label)
                for key, label in self.choices
            ),
        )
        given = flatatt(self.build_attrs(self.attrs, {**(attrs or {}), "name": name}))
        return format_html("<select{}>{}</select>", given, options)


class ProfileForm(forms.Form):
    """A person's name, and where the clock of pages and mails stands."""

    first_name = forms.CharField(label=_("First name"), max_length=150, required=False)
    last_name = forms.CharField(label=_("Last name"), max_length=150, required=False)
    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        required=False,
        widget=LongSelect,
        help_text=_("Of moments on pages and in mails. Mails are in UTC where none is chosen."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("as the browser says")), *((zone, zone) for zone in zones())]
        self.fields["time_zone"].choices = choices  # type: ignore[attr-defined]


class CodeForm(forms.Form):
    """Six digits of an app, or a recovery code."""

    code = forms.CharField(
        label=_("Code"),
        max_length=40,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class PasswordForm(forms.Form):
    current = forms.CharField(
        label=_("Present password"),
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    password = forms.CharField(
        label=_("New password"),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 12 characters; a sentence is good."),
    )
    repeated = forms.CharField(
        label=_("New password, again"), widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("password") != data.get("repeated"):
            self.add_error("repeated", _("The two passwords differ."))
        return data


class RoleForm(forms.Form):
    role = forms.ChoiceField(
        label=_("Role"), choices=[choice for choice in Role.choices if choice[0] != Role.SITE_ADMIN]
    )
