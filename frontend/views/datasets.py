"""Dataset cards."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from federation.datasets import permissions
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
    return render(
        request, "frontend/datasets/detail.html", {"dataset": dataset, "labels": labels, "largest": largest}
    )
