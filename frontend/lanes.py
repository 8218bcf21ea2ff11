"""One lane a hospital on the run page: what it does, since when, and why it takes so long."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from enclave_jobs.runs.models import Contribution, ContributionState, Round, Run
from error_catalogue import explain
from federation.sites.maintenance import open_windows
from federation.sites.models import Site
from frontend.rounds import ENDED
from frontend.templatetags.fedslice import COLOURS, tone

SILENT = timedelta(seconds=60)
PENDING = (ContributionState.OFFERED, ContributionState.LEASED, ContributionState.WORKING)


def lanes(run: Run, current: Round | None, contributions: list[Contribution]) -> list[dict[str, Any]]:
    """The lanes of the present round; while hospitals join there are jobs but no contributions yet."""
    jobs = {
        job.site_id: job for job in run.jobs.filter(state__in=("leased", "waiting")).select_related("site")
    }
    since = _since(current)
    resting = open_windows([row.site_id for row in contributions if row.state in PENDING])
    found = []
    for row in contributions:
        job = jobs.get(row.site_id)
        pending = row.state in PENDING and run.state not in ENDED
        stopped = row.state in (*PENDING, ContributionState.SUBMITTED) and run.state in ENDED
        found.append(
            {
                "site": row.site,
                "colour": row.site.colour % COLOURS,
                "tone": "" if stopped else tone(row.state),
                "label": _("not finished") if stopped else row.get_state_display(),
                "samples": row.samples,
                "bytes": row.bytes,
                "error": explain(row.error_code, row.facts) if row.error_code else None,
                "since": since.get(row.site_id, current.opened_at if current else None),
                "because": _because(row.site, job, row.state, resting) if pending else None,
                **_progress(job),
            }
        )
    known = {row.site_id for row in contributions}
    for site_id, job in jobs.items():
        if site_id not in known and run.state not in ENDED:
            found.append(
                {
                    "site": job.site, "colour": job.site.colour % COLOURS,
                    "tone": "busy", "label": _("joining"), "samples": None, "bytes": None,
                    "since": job.created_at, "because": _because(job.site, job, job.state, {}),
                    **_progress(job),
                }
            )  # fmt: skip
    return found


def _since(current: Round | None) -> dict[str, datetime]:
    """When each hospital's contribution came to be what it is."""
    if current is None:
        return {}
    events = current.events.filter(kind__startswith="contribution.").order_by("pk")
    return dict(events.values_list("site_id", "at"))


def _because(site: Site, job: Any, state: str, resting: dict[str, datetime]) -> dict[str, Any] | None:
    """Why it is waited for: `text`, and a moment `at` that belongs to it."""
    if site.pk in resting:
        return {"text": _("in a maintenance window until"), "at": resting[site.pk]}
    if site.last_seen is None:
        return {"text": _("never heard of")}
    if timezone.now() - site.last_seen > SILENT:
        return {"text": _("not heard of since"), "at": site.last_seen}
    if job is not None and job.state == "waiting" and job.error_code:
        words = explain(job.error_code, job.facts)
        return {"text": f"{words.message} {words.hint}", "code": words.code}
    if state in (ContributionState.OFFERED, "waiting"):
        return {"text": _("has not taken its work yet")}
    return None


def _progress(job: Any) -> dict[str, Any]:
    progress = job.progress if job is not None and job.state == "leased" else {}
    fraction = progress.get("fraction")
    percent = round(100 * fraction) if fraction is not None else None
    return {"fraction": fraction, "percent": percent, "stage": progress.get("stage", "")}
