"""Dataset cards."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext_lazy as _

from federation.datasets import permissions
from federation.datasets.models import Dataset
from frontend.views.acting import person


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
    context = {"dataset": dataset, "labels": labels, "largest": largest, "lengths": _lengths(dataset)}
    return render(request, "frontend/datasets/detail.html", context)


def _lengths(dataset: Dataset) -> dict[str, Any]:
    """What the card says of lengths: `of` what, and for each of the `shares` of the rows a number of each."""
    named = (
        (_("Texts"), "text_length"),
        (_("Answers"), "answer_length"),
        (_("Messages"), "turns"),
    )
    told = [(what, dataset.card[name]) for what, name in named if dataset.card.get(name)]
    shares = sorted({share for _what, quantiles in told for share in quantiles})
    values = [(share[1:], [quantiles.get(share, "–") for _what, quantiles in told]) for share in shares]
    return {"of": [what for what, _quantiles in told], "shares": values}
