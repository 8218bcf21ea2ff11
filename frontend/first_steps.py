"""The first five steps of each role. Nobody ticks them: the database knows what has been done."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.models import Count, Exists, Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from federation.attestation.models import Reference, ReviewVote
from federation.audit.models import AuditEntry
from federation.datasets.models import Dataset
from federation.people.models import Authenticator, Invitation, Role, User
from federation.sites.models import Site, SiteState
from federation.studies.models import Approval, BaseModel, Study

ENOUGH = 2
"""Hospitals with a dataset on offer that a study needs."""


class FirstStep(NamedTuple):
    """`url` is where it is done, `how` what it takes or is good for; `next`: the first that is not done.
    `invites`: it is done on the list itself, by addresses."""

    text: str
    url: str
    how: str
    done: bool
    next: bool = False
    invites: bool = False


def first_steps(user: User) -> list[FirstStep]:
    """The steps of this person's role, while they are of use: none once all are done or they are put away,
    none for those who help a hospital's admin. One query, whatever the role."""
    if user.steps_put_away or user.post:
        return []
    asked = _questions(user)
    known = User.objects.filter(pk=user.pk).annotate(**{name: Exists(rows) for name, rows in asked.items()})
    found = known.values(*asked).get()
    steps = [
        FirstStep(*words, done=found[name], invites=name == "hospital")
        for name, words in _words(user).items()
    ]
    left = [number for number, step in enumerate(steps) if not step.done]
    return [step._replace(next=number == left[0]) for number, step in enumerate(steps)] if left else []


def _questions(user: User) -> dict[str, QuerySet[Any]]:
    """Step -> rows that are there once it is done."""
    factor = Authenticator.objects.filter(user=user, confirmed=True)
    match user.role:
        case Role.OPERATOR:
            return {
                "factor": factor,
                "model": BaseModel.objects.all(),
                "values": Reference.objects.all(),
                "lead": _come_or_invited(Role.LEAD),
                "auditor": _come_or_invited(Role.AUDITOR),
            }
        case Role.LEAD:
            own = Study.objects.filter(lead=user)
            return {
                "hospital": Site.objects.exclude(state=SiteState.REVOKED),
                "data": _enough_data(),
                "draft": own,
                "asked": own.exclude(manifest_hash=""),
                "launched": own.filter(runs__isnull=False),
            }
        case Role.SITE_ADMIN:
            own_site, given = Site.objects.filter(pk=user.site_id), Approval.objects.filter(site=user.site_id)
            return {
                "enrolled": own_site.exclude(public_key=""),
                "running": own_site.filter(last_seen__isnull=False, state=SiteState.ACTIVE),
                "data": Dataset.objects.filter(site=user.site_id),
                "read": given.filter(Q(browser_at__isnull=False) | Q(signature__isnull=False)),
                "signed": given.filter(signature__isnull=False),
            }
        case _:
            actions = AuditEntry.objects.filter(actor=user.email)
            return {
                "factor": factor,
                "counts": User.objects.filter(pk=user.pk, auditor_confirmed_at__isnull=False),
                "vote": ReviewVote.objects.filter(user=user),
                "evidence": actions.filter(action="evidence.downloaded"),
                "bundle": actions.filter(action="log.exported"),
            }


def _come_or_invited(role: Role) -> QuerySet[User]:
    """Somebody, if a person of this role is there or on the way."""
    invited = Invitation.objects.filter(role=role, used_at=None, expires__gt=timezone.now())
    return User.objects.filter(Q(role=role, is_active=True) | Q(Exists(invited)))


def _enough_data() -> QuerySet[Any]:
    """A row, if enough hospitals offer a dataset."""
    offered = Dataset.objects.filter(withdrawn_at=None).order_by().values("withdrawn_at")
    return offered.annotate(sites=Count("site", distinct=True)).filter(sites__gte=ENOUGH)


def _words(user: User) -> dict[str, tuple[str, str, str]]:
    """Step -> what it is, where it is done, what it takes; in the order in which they are done."""
    factor = (
        _("Set up a second factor"),
        reverse("second-factor"),
        _("whoever steals your password alone does not come in"),
    )
    match user.role:
        case Role.OPERATOR:
            return {
                "factor": factor,
                "model": (
                    _("Register a base model"), reverse("model-new"),
                    _("or: python manage.py register_model SOURCE"),
                ),
                "values": (
                    _("Put forward the first reference values"), reverse("reference-new"),
                    _("what enclaves may run"),
                ),
                "lead": (
                    _("Invite a lead"), reverse("person-invite") + "?role=lead",
                    _("who makes studies and invites hospitals"),
                ),
                "auditor": (
                    _("Invite an auditor"), reverse("person-invite") + "?role=auditor",
                    _("whose word counts beside yours"),
                ),
            }  # fmt: skip
        case Role.LEAD:
            return {
                "hospital": (
                    _("Invite a hospital"), reverse("site-invite"),
                    _("its admin gets a link by e-mail and connects its agent"),
                ),
                "data": (
                    _("See that two hospitals have published a dataset"), reverse("datasets"),
                    _("they do it at their own machine; only a card is published"),
                ),
                "draft": (_("Draft a study"), reverse("study-new"), _("purpose, model, hospitals, method")),
                "asked": (
                    _("Freeze it and ask the hospitals"), reverse("studies"),
                    _("from then on it does not change"),
                ),
                "launched": (_("Launch it"), reverse("studies"), _("once all of them have signed")),
            }  # fmt: skip
        case Role.SITE_ADMIN:
            page = reverse("site", args=[user.site_id])
            return {
                "enrolled": (_("Connect your hospital's agent"), page, _("one command")),
                "running": (_("Start your hospital's agent"), page, "python -m site_agent run"),
                "data": (
                    _("Publish a dataset"), reverse("datasets"), "python -m site_agent dataset add FILE"
                ),
                "read": (
                    _("Read a study that asks your hospital"), reverse("studies"),
                    _("ask, wish for changes, decline, or approve it"),
                ),
                "signed": (_("Sign it at the hospital"), reverse("studies"), "python -m site_agent approve"),
            }  # fmt: skip
        case _:
            return {
                "factor": factor,
                "counts": (
                    _("Have another auditor confirm you"), reverse("account"),
                    _("or your word does not count"),
                ),
                "vote": (
                    _("Say your word on a measurement"), reverse("references"),
                    _("what an enclave may run takes two people"),
                ),
                "evidence": (
                    _("Fetch the raw evidence of an entry"), reverse("log") + "?kind=appraisal",
                    _("the quote that a processor signed"),
                ),
                "bundle": (
                    _("Export a bundle and verify it on your own machine"), reverse("log") + "#bundle",
                    "python manage.py verify_bundle",
                ),
            }  # fmt: skip
