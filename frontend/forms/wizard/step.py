"""What all steps of the wizard share."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.functional import cached_property

from federation.people.models import User
from federation.studies.models import BaseModel, Study
from federation.studies.plan import Plan


class Slider(forms.NumberInput):
    """A range with its value beside it; arrow keys move it by one step."""

    input_type = "range"
    template_name = "frontend/widgets/slider.html"

    def __init__(self, unit: Any = "", **attrs: Any) -> None:
        super().__init__(attrs=attrs)
        self.unit = unit

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        context["widget"]["unit"] = self.unit
        return context


def ratio(label: Any, help_text: Any) -> forms.FloatField:
    """A share in per cent, on a slider."""
    return forms.FloatField(
        label=label,
        help_text=help_text,
        min_value=0,
        max_value=100,
        widget=Slider(unit="%", min=0, max=100, step=12.5),
    )


def number(label: Any, least: int, most: int, help_text: Any = "", **more: Any) -> forms.IntegerField:
    """A whole number between two bounds."""
    return forms.IntegerField(label=label, min_value=least, max_value=most, help_text=help_text, **more)


class StepForm(forms.Form):
    """A step of the wizard. `changes` is what it changes in the plan."""

    use_required_attribute = False
    study: Study | None

    def __init__(self, *args: Any, user: User, study: Study | None, **kwargs: Any) -> None:
        self.user, self.study = user, study
        kwargs.setdefault("initial", self.stored(study))
        super().__init__(*args, **kwargs)
        self.prepare()
        for name, field in self.fields.items():
            if self.is_bound and name in self.errors:
                field.widget.attrs["aria-invalid"] = "true"

    def prepare(self) -> None:
        """Fill in choices."""

    def stored(self, study: Study | None) -> dict[str, Any]:
        """What the form shows of a draft: its plan's fields."""
        return dict(study.settings) if study else {}

    def changes(self) -> dict[str, Any]:
        """The cleaned fields that the plan has."""
        return {n: v for n, v in self.cleaned_data.items() if n in Plan.__struct_fields__ and v != ""}

    @property
    def plan(self) -> dict[str, Any]:
        """The draft's plan as it is stored."""
        return self.study.settings if self.study else {}

    @cached_property
    def base_model(self) -> BaseModel | None:
        """The draft's base model, if it is registered."""
        return BaseModel.objects.filter(source=self.plan.get("model"), task=self.plan.get("task")).first()
