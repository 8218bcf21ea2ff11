"""A manifest's classes for a page, and what else rows may call them."""

from __future__ import annotations

from django.utils.translation import gettext as _

from contracts.labels import spelled
from contracts.manifest import ModelSpec


def label_facts(model: ModelSpec) -> list[tuple[str, str, bool]]:
    """As `manifest_facts` has them: (what, value, is it a hash)."""
    told = [
        _("“%(said)s” as “%(label)s”") % {"said": spelled(said), "label": spelled(label)}
        for said, label in sorted(model.spellings.items())
    ]
    facts = [(_("Labels"), ", ".join(model.labels), False)]
    return [*facts, (_("Labels read as one"), "; ".join(told), False)] if told else facts
