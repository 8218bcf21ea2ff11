"""What every page shows around its content."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from federation.people.models import Role, User
from translations.spoken import LANGUAGES

EVERYBODY = set(Role.values)


def chrome(request: HttpRequest) -> dict[str, Any]:
    """`development_runtime` puts the mark DEVELOPMENT on every page of an installation that allows it;
    `navigation` lists the pages of this person's role."""
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
        ("audit", _("Deeds"), {Role.AUDITOR, Role.OPERATOR}),
        ("operations", _("Operations"), {Role.OPERATOR}),
        ("people", _("People"), {Role.OPERATOR, Role.AUDITOR}),
    )
    navigation = []
    if isinstance(user, User):
        for name, label, roles in entries:
            url = reverse(name)
            current = request.path == url or (url != "/" and request.path.startswith(url + "/"))
            if user.role in roles:
                navigation.append({"url": url, "label": label, "current": current})
    return {
        "development_runtime": "development" in settings.ENCLAVE_RUNTIMES,
        "navigation": navigation,
        "languages": LANGUAGES.items(),
    }
