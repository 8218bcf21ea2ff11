"""Events as sentences, and what a run waits for."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from enclave_jobs.runs.models import Contribution, ContributionState, Round, RoundKind, Run, RunState
from error_catalogue import explain
from federation.sites.maintenance import open_windows
from federation.studies.models import Event
from frontend.methods import Method
from frontend.templatetags.fedslice import since, when
from translations.numbers import number

SILENT = timedelta(seconds=60)
SENTENCES = {
    "run.starting": gettext_lazy("The enclave of the server starts."),
    "run.joining": gettext_lazy("The enclave is attested. The hospitals join."),
    "run.running": gettext_lazy("Training goes on."),
    "run.paused": gettext_lazy("Paused."),
    "run.finishing": gettext_lazy("The last round is published; the run is closed."),
    "run.finished": gettext_lazy("Finished."),
    "run.failed": gettext_lazy("Stopped by an error: %(why)s"),
    "run.cancelled": gettext_lazy("Cancelled."),
    "round.open": gettext_lazy("%(head)s opens."),
    "round.collecting": gettext_lazy("%(head)s: the hospitals work."),
    "round.countersigning": gettext_lazy(
        "%(head)s: the list of contributions is fixed; the hospitals sign it."
    ),
    "round.aggregating": gettext_lazy("%(head)s: the enclave averages."),
    "round.published": gettext_lazy("%(head)s is published."),
    "round.failed": gettext_lazy("%(head)s failed."),
    "contribution.leased": gettext_lazy("%(site)s took its work."),
    "contribution.working": gettext_lazy("%(site)s works."),
    "contribution.submitted": gettext_lazy("%(site)s handed in its contribution."),
    "contribution.accepted": gettext_lazy("%(site)s is in the average."),
    "contribution.dropped": gettext_lazy("%(site)s is left out of %(round)s."),
    "contribution.refused": gettext_lazy("%(site)s's contribution was refused: %(why)s"),
    "contribution.offered": gettext_lazy("%(site)s lost its lease; the work is offered again."),
    "site.joined": gettext_lazy("%(site)s joined: its enclave is attested."),
    "site.left_out": gettext_lazy("%(site)s is left out: %(why)s"),
    "site.let_in": gettext_lazy("%(site)s joined late and is let into %(round)s."),
    "round.proceeded_early": gettext_lazy(
        "The lead goes on with the %(found)s of %(of)s who have handed in."
    ),
    "run.proceeded_early": gettext_lazy("The lead goes on with the %(found)s of %(of)s who have joined."),
    "tail.prepared": gettext_lazy(
        "The server enclave has loaded its part of the model: %(parameters)s parameters are tuned."
    ),
    "quorum.awaited": gettext_lazy("The deadline has passed without a quorum; it is prolonged."),
    "job.failed": gettext_lazy("%(site)s could not do its work: %(why)s"),
    "thread.message": gettext_lazy("A message was written in the thread with %(site)s."),
    "thread.changes": gettext_lazy("%(site)s asks for changes."),
    "thread.decline": gettext_lazy("%(site)s declines."),
    "thread.reconsider": gettext_lazy("%(site)s takes its decline back."),
    "serving.waiting": gettext_lazy("The lead asks the hospitals to sign that the model is served."),
    "serving.approved": gettext_lazy("%(site)s has signed that the model is served."),
    "serving.starting": gettext_lazy("The model is to be served: its enclave starts."),
    "serving.waits_for_sites": gettext_lazy(
        "The model's enclave waits until enough hospitals have named the run's last receipt; their agents do "
        "so by themselves."
    ),
    "serving.serving": gettext_lazy("The model is served: its enclave is attested."),
    "serving.off": gettext_lazy("The model is no longer served."),
    "serving.failed": gettext_lazy("The model cannot be served: %(why)s"),
    "serving.revoked": gettext_lazy("Serving is revoked for %(site)s. %(why)s"),
    "serving.allowed": gettext_lazy("%(site)s may ask the model again."),
    "release.asked": gettext_lazy("The lead asks the hospitals to release the tuned parameters."),
    "release.waits_for_sites": gettext_lazy(
        "The enclave that is to release waits until enough hospitals have named the run's last receipt; "
        "their agents do so by themselves."
    ),
    "release.approved": gettext_lazy("%(site)s has signed for the release."),
    "release.released": gettext_lazy("The enclave has released the tuned parameters."),
    "release.failed": gettext_lazy("The parameters could not be released: %(why)s"),
    "contribution.again": gettext_lazy("%(site)s is asked again: the enclave that it worked for is gone."),
}


def sentence(event: Event, method: Method) -> str:
    """One line of the timeline of a run by this method. A kind without a sentence shows its name."""
    template = method.sentences.get(event.kind) or SENTENCES.get(event.kind)
    if template is None:
        return f"{event.site}: {event.kind}" if event.site else event.kind
    code = event.facts.get("code") or event.facts.get("error_code") or ""
    return str(template) % {
        **_named(event.round),
        "site": event.site or "",
        "found": event.facts.get("found", ""),
        "of": event.facts.get("of", ""),
        "parameters": number(f"{event.facts.get('parameters', 0):,}"),
        "why": explain(code, event.facts).message if code else _reason(event),
    }


def _named(round: Round | None) -> dict[str, str]:
    """A round's name where a sentence begins, and within one."""
    if round is None:
        return {"head": "", "round": ""}
    if round.kind == RoundKind.TEST:
        return {"head": _("The test"), "round": _("the test")}
    if round.kind == RoundKind.EVALUATE:
        return {"head": _("The closing evaluation"), "round": _("the closing evaluation")}
    number = {"number": round.number}
    return {"head": _("Round %(number)s") % number, "round": _("round %(number)s") % number}


def _reason(event: Event) -> str:
    if event.kind == "site.left_out":
        return (
            _("it let the last deadline pass.") if event.facts.get("joined") else _("it has not joined yet.")
        )
    return str(event.facts.get("why", ""))


def waits_for(run: Run, current: Round | None, contributions: list[Contribution]) -> str:
    """Whom or what the run waits for, and since when, as HTML; empty once it has ended."""
    if run.state == RunState.STARTING:
        return _("Waiting for the enclave to start and to be attested.")
    if run.state == RunState.PAUSED:
        return _("Paused: it goes on when the lead resumes it.")
    if run.state not in (RunState.JOINING, RunState.RUNNING):
        return ""
    if run.state == RunState.JOINING and current is None:
        return _("Waiting for the hospitals to join.")
    open_states = (ContributionState.OFFERED, ContributionState.LEASED, ContributionState.WORKING)
    late = [c for c in contributions if c.state in open_states]
    if current is None or not late:
        return _("Waiting for the server enclave to finish the round.") if current is not None else ""
    names = ", ".join(str(c.site) for c in late)
    said = [format_html(_("Waiting for {}, for {}."), names, since(current.opened_at))]
    resting = open_windows([c.site_id for c in late])
    for site in (c.site for c in late if c.site_id in resting):
        said.append(format_html(_("{} is in a maintenance window until {}."), site, when(resting[site.pk])))
    for site in (c.site for c in late if c.site.last_seen and timezone.now() - c.site.last_seen > SILENT):
        said.append(format_html(_("{} was last heard of {} ago."), site, since(site.last_seen)))
    return format_html_join(" ", "{}", ((sentence,) for sentence in said))
