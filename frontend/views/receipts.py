"""Receipts of a hospital: what left it and what came in, round by round, over all studies; a run's own sheet
stands in its study's room."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from enclave_jobs.runs.models import Contribution, Round, Run
from enclave_jobs.runs.permissions import runs_visible_to
from enclave_jobs.serving.models import Service
from federation.frozen import frozen
from federation.people.models import User
from federation.sites import permissions as site_permissions
from federation.sites.models import Site
from federation.studies import permissions as studies
from federation.studies.models import Approval
from frontend.averaging import worth
from frontend.manifests import is_plaintext
from frontend.methods import named
from frontend.paging import Page, keyset
from frontend.views.acting import person
from frontend.views.sites import visible_site


@login_required
def receipts(request: HttpRequest, site_id: str) -> HttpResponse:
    """The hospital's contributions, newest first."""
    user, site = person(request), visible_site(request, site_id)
    rows = _contributions(user, site).select_related("round__run__study").order_by("-pk")
    page: Page[Contribution] = keyset(request, rows)
    context = {
        "site": site,
        "page": page,
        "rows": [_line(row) for row in page.rows],
        "can_see_checks": site_permissions.can_see_checks(user, site),
    }
    return render(request, "frontend/sites/receipts.html", context)


@login_required
def of_run(request: HttpRequest, site_id: str, run_id: str) -> HttpResponse:
    """One run's sheet: it stands in the study's room. That of an earlier run, and of a study that is a draft
    again, stands here: what has left the hospital stays to be read."""
    user, site = person(request), visible_site(request, site_id)
    runs = runs_visible_to(user).filter(rounds__contributions__site=site).distinct()
    run = get_object_or_404(runs, pk=run_id)
    newest = runs_visible_to(user).filter(study=run.study_id).first()
    if run != newest or not studies.can_see(user, run.study):
        return render(request, "frontend/sites/sheet.html", sheet_of(user, run, site))
    return redirect(reverse("study", args=[run.study_id]) + f"?hospital={site.pk}#sheet")


def sheet_of(user: User, run: Run, site: Site) -> dict[str, Any]:
    """One run on one sheet, for studies/sheet.html: who approved it, which enclaves, and every round."""
    found = frozen(run)
    rows = list(
        _contributions(user, site).filter(round__run=run).select_related("round").order_by("round__number")
    )
    handed = _handed_out(run)
    lines = [{**_line(row), "bytes_in": _before(handed, row.round.number)} for row in rows]
    approval = Approval.objects.filter(site=site, manifest_hash=run.manifest_hash).select_related(
        "browser_by"
    )
    sealed = run.blobs.filter(owner_site=site, complete=True).aggregate(count=Count("pk"), bytes=Sum("bytes"))
    return {
        "site": site,
        "run": run,
        **_served(run, site),
        "manifest": found.said,
        "member": next((one for one in found.all_at("sites") if one.get("id") == site.pk), None),
        "approval": approval.first(),
        "enclaves": run.enclaves.order_by("epoch"),
        "lines": lines,
        "total": {
            # What one file names in every round has left once.
            "out": sum({line["row"].blob: line["row"].bytes or 0 for line in lines}.values()),
            "in": sum(line["bytes_in"] or 0 for line in lines),
            "rounds": sum(line["row"].state == "accepted" for line in lines),
        },
        "sealed": sealed,
        "method": named(found.at("method")),
        "development": found.at("policy", "root") == "development",
        "plaintext": is_plaintext(found),
    }


def _served(run: Run, site: Site) -> dict[str, Any]:
    """What the hospital has asked of the run's model, and whether it has signed for serving."""
    service = Service.objects.filter(run=run).exclude(receipt="").first()
    if service is None:
        return {}
    signed = service.signatures.filter(site=site).first()
    return {"served": service, "use": service.uses.filter(site=site).first(), "signed_serving": signed}


def _contributions(user: User, site: Site) -> QuerySet[Contribution]:
    return Contribution.objects.filter(site=site, round__run__in=runs_visible_to(user))


def _line(row: Contribution) -> dict[str, Any]:
    """A contribution with what its round's receipt says."""
    signed = row.round.receipt or {}
    receipt = signed.get("receipt", {})
    privacy = worth(receipt.get("privacy"), row.site_id) or {}
    mine = next((one for one in receipt.get("inputs", []) if one.get("site") == row.site_id), None)
    return {
        "row": row,
        "counted": mine is not None,
        "measurement": receipt.get("measurement") or "",
        "signing_key": signed.get("signing_key", ""),
        "development": receipt.get("development"),
        "once": receipt.get("program") == "split_server",
        "epsilon": privacy.get("epsilon"),
        "delta": privacy.get("delta"),
        "unit": _("one row") if privacy.get("unit") == "record" else _("one hospital"),
        "samples": mine["samples"] if mine else row.samples,
    }


def _handed_out(run: Run) -> dict[int, int]:
    """Round -> size of the sealed parameters that it gave to the hospitals."""
    rows = Round.objects.filter(run=run, issues__isnull=False).order_by("issues__pk")
    return dict(rows.values_list("number", "issues__bytes"))


def _before(handed: dict[int, int], number: int) -> int | None:
    """What a hospital was handed to start round `number` with; nothing where all start from the public
    model."""
    earlier = [done for done in handed if done < number]
    return handed[max(earlier)] if earlier else None
