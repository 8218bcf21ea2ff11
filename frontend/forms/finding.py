"""What a reader of a list, or of all of it, looks for. It stands in the address."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

ANY = ("", _("any"))


class ListForm(forms.Form):
    """A part of a name, and a state."""

    q = forms.CharField(label=_("Name"), required=False, max_length=100)
    state = forms.ChoiceField(label=_("State"), required=False)

    def __init__(self, data: Any, states: list[tuple[str, Any]]) -> None:
        super().__init__(data)
        self.fields["state"].choices = [ANY, *states]  # type: ignore[attr-defined]

    @property
    def asked(self) -> dict[str, str]:
        """What was asked for, as the links to further pages keep it."""
        return {name: self.data[name] for name in self.fields if self.data.get(name)}


class RunListForm(ListForm):
    """And a tag."""

    tag = forms.CharField(label=_("Tag"), required=False, max_length=30)
