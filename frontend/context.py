"""What every page shows around its content."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext as _

from federation.notices import inbox
from federation.people.models import Role, User
from translations.spoken import LANGUAGES

EVERYBODY = set(Role.values)


def chrome(request: HttpRequest) -> dict[str, Any]:
    """`development_runtime` puts the mark DEVELOPMENT on every page of an installation that allows it;
    `navigation` lists the pages of this person's role; `unread` counts their news, where a page asks for
    it."""
    user = getattr(request, "user", None)
    entries = (
        ("home", _("Home"), EVERYBODY),
        ("sites", _("Hospitals"), EVERYBODY),
        ("datasets", _("Datasets"), EVERYBODY),
        ("studies", _("Studies"), EVERYBODY),
        ("runs", _("Runs"), EVERYBODY),
        ("log", _("Log"), {Role.AUDITOR, Role.OPERATOR, Role.LEAD}),
        ("references", _("References"), {Role.AUDITOR, Role.OPERATOR, Role.LEAD}),
        ("collateral", _("Collateral"), {Role.AUDITOR, Role.OPERATOR}),
        ("audit", _("Activity"), {Role.AUDITOR, Role.OPERATOR}),
        ("operations", _("Operations"), {Role.OPERATOR}),
        ("people", _("People"), {Role.OPERATOR, Role.AUDITOR}),
    )
    navigation = []
    if isinstance(user, User):
        for name, label, roles in entries:
            url = reverse(name)
            within = (url, reverse("sweeps"), reverse("adapters")) if name == "studies" else (url,)
            current = any(
                request.path == one or (one != "/" and request.path.startswith(one + "/")) for one in within
            )
            if user.role in roles:
                navigation.append({"url": url, "label": label, "current": current})
    return {
        "development_runtime": "development" in settings.ENCLAVE_RUNTIMES,
        "navigation": navigation,
        "languages": LANGUAGES.items(),
        "unread": SimpleLazyObject(lambda: _unread(user)),
    }


def _unread(user: object) -> str:
    """What stands on the bell: nothing, a number, or that there are many."""
    count = inbox.unread(user) if isinstance(user, User) else 0
    return "" if not count else f"{inbox.MANY}+" if count > inbox.MANY else str(count)
