"""Dataset cards."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from federation.datasets import permissions
from federation.datasets.about import LIMITS
from federation.datasets.about import describe as describe_dataset
from federation.datasets.models import Dataset
from frontend.forms.datasets import AboutForm
from frontend.views.acting import form_page, person


@login_required
def dataset_list(request: HttpRequest) -> HttpResponse:
    """All cards that this person may see, those in use first."""
    datasets = (
        permissions.visible_to(person(request)).select_related("site").order_by("withdrawn_at", "site__name")
    )
    return render(request, "frontend/datasets/list.html", {"datasets": datasets})


@login_required
def detail(request: HttpRequest, dataset_id: str) -> HttpResponse:
    """One card."""
    visible = permissions.visible_to(person(request)).select_related("site")
    dataset = get_object_or_404(visible, pk=dataset_id)
    labels = [{"name": name, "count": count} for name, count in dataset.card["labels"].items()]
    largest = max((label["count"] or 0 for label in labels), default=1)
    context = {
        "dataset": dataset,
        "labels": labels,
        "largest": largest,
        "lengths": _lengths(dataset),
        "about": _about(dataset),
        "can_describe": permissions.can_describe(person(request), dataset),
    }
    return render(request, "frontend/datasets/detail.html", context)


@login_required
def describe(request: HttpRequest, dataset_id: str) -> HttpResponse:
    """Say in words what the dataset is."""
    user = person(request)
    dataset = get_object_or_404(permissions.visible_to(user), pk=dataset_id)
    if not permissions.can_describe(user, dataset):
        raise PermissionDenied

    def keep(data: dict[str, Any]) -> Any:
        describe_dataset(user, dataset, data)
        return lambda: redirect("dataset", dataset.pk)

    return form_page(
        request,
        partial(AboutForm, initial=dataset.about),
        keep,
        title=_("Describe “%(name)s”") % {"name": dataset.name},
        intro=_("For those who plan studies. No patients' data here. It may be changed at any time."),
        submit=_("Save"),
        back=reverse("dataset", args=[dataset.pk]),
    )


def _about(dataset: Dataset) -> list[tuple[Any, str]]:
    """What is said of it, field by field; the description is shown by itself."""
    fields = AboutForm.base_fields
    return [
        (fields[name].label, dataset.about[name])
        for name in LIMITS
        if name != "description" and dataset.about.get(name)
    ]


def _lengths(dataset: Dataset) -> dict[str, Any]:
    """What the card says of lengths: `of` what, and for each of the `parts` of the rows a number of each."""
    named = (
        (_("Texts"), "text_length"),
        (_("Answers"), "answer_length"),
        (_("Messages"), "turns"),
    )
    facts = [(what, dataset.card[name]) for what, name in named if dataset.card.get(name)]
    parts = sorted({part for _what, quantiles in facts for part in quantiles})
    values = [(part[1:], [quantiles.get(part, "–") for _what, quantiles in facts]) for part in parts]
    return {"of": [what for what, _quantiles in facts], "parts": values}
