"""Two people review a changed measurement before it counts; until then whoever runs it is quarantined.

A review is opened in two ways: an operator puts forward a value beside others that are in force, or a site
shows genuine evidence of a measurement that nobody has approved. It takes two different people to approve it,
operators or auditors, at least one of them an auditor whom not an operator alone has made one
(federation/people/auditors.py): the operator, who runs this machine, cannot change alone what is accepted as
an enclave. One rejection ends it. Each step is in the log before it takes effect.
"""

from __future__ import annotations

from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from attestation.appraisal import Appraisal
from attestation.quote import SgxReport, unpadded
from attestation.quote import parse as parse_quote
from contracts.evidence import Evidence
from contracts.policy import Policy, SgxReference, TdxReference
from contracts.policy import Reference as ReferenceValue
from contracts.refusal import Refusal
from federation.attestation import log
from federation.attestation.models import Review, ReviewState, ReviewVote, Root
from federation.attestation.references import enter, in_force, measurement_of, require_valid
from federation.audit.services import actor_name, record
from federation.frozen import frozen
from federation.people import auditors
from federation.people.models import Role, User
from federation.sites.models import Site
from federation.studies.models import Study, StudyState

UNKNOWN = "attest.measurement"
FROM_EVIDENCE = "evidence"
DECIDERS = (Role.OPERATOR, Role.AUDITOR)
VOTES = 2
# A site can make evidence of any development measurement it likes; it shall not fill the list with them.
MAX_OPEN_PER_SITE = 4
LIVE = (StudyState.APPROVING, StudyState.READY, StudyState.RUNNING)


def propose(by: Any, value: ReferenceValue, *, root: Root, reason: str, **details: Any) -> Review:
    """Open a review of a value that an operator puts forward. `details`: source_commit, valid_from.

    Raises: `auth.forbidden`, `reference.invalid`, `reference.duplicate` or `review.open`.
    """
    require_valid(by, value, root=root, reason=reason)
    with transaction.atomic():
        known = _open(root, value.program, measurement_of(value))
        if known is not None and known.opened_by != FROM_EVIDENCE:
            raise Refusal("review.open", program=value.program)
        if known is not None:  # seen in evidence before: it now has a person who says why
            changes = {"values": msgspec.to_builtins(value), "reason": reason.strip()[:500]}
            changes |= {"opened_by": actor_name(by), **details}
            Review.objects.filter(pk=known.pk).update(**changes)
            known.votes.all().delete()  # what they had voted on had no reason yet
            known.refresh_from_db()
            _log(known, "proposed", by)
            return known
        return _create(root, value, actor_name(by), reason.strip(), by, **details)


def seen(evidence: Evidence, appraisal: Appraisal, policy: Policy, site: Site | None) -> Review | None:
    """Genuine evidence showed a measurement that its policy does not list: quarantine the site with it.

    Nothing is opened for a measurement that is in force (the manifest is merely older), and a rejected one
    stays rejected.
    """
    value = _shown(evidence)
    root = Root(policy.root)
    measurement = measurement_of(value)
    if measurement in {row.measurement for row in in_force(root, (value.program,))}:
        return None
    with transaction.atomic():
        same = Review.objects.filter(root=root, program=value.program, measurement=measurement)
        review = same.filter(state__in=(ReviewState.OPEN, ReviewState.REJECTED)).first()
        if review is None:
            if site is not None and site.reviews.filter(state=ReviewState.OPEN).count() >= MAX_OPEN_PER_SITE:
                return None
            who = f"{site} ({site.pk})" if site is not None else "a server enclave"
            review = _create(root, value, FROM_EVIDENCE, f"{who} showed it in evidence", None, site=site)
        elif site is not None:
            review.sites.add(site)
    return review


def vote(by: User, review: Review, *, approves: bool, note: str = "") -> Review:
    """One person's word. With the second approval the value is in force; one rejection closes the review.

    Raises: `auth.forbidden`, `review.closed`, `review.voted`, or `review.needs_auditor` where both would be
    operators, `auditor.unconfirmed`.
    """
    if by.role not in DECIDERS:
        raise Refusal("auth.forbidden")
    auditors.require_confirmed(by)
    with transaction.atomic():
        review = Review.objects.select_for_update().get(pk=review.pk)
        if review.state != ReviewState.OPEN:
            raise Refusal("review.closed", state=review.state)
        votes = list(review.votes.all())
        if any(given.user_id == by.pk for given in votes):
            raise Refusal("review.voted")
        roles = {given.role for given in votes} | {by.role}
        if approves and len(votes) + 1 >= VOTES and Role.AUDITOR not in roles:
            raise Refusal("review.needs_auditor")
        ReviewVote.objects.create(
            review=review, user=by, email=by.email, role=by.role, approves=approves, note=note[:500]
        )
        _log(review, "approval" if approves else "rejection", by, note_sha256=log.text_hash(note[:500]))
        if not approves:
            _close(review, ReviewState.REJECTED, by)
        elif len(votes) + 1 >= VOTES:
            _close(review, ReviewState.APPROVED, by)
            value = msgspec.convert(review.values, ReferenceValue)
            people = " + ".join([*(given.email for given in votes), by.email])
            enter(
                value,
                root=Root(review.root),
                reason=review.reason,
                source_commit=review.source_commit,
                valid_from=review.valid_from,
                added_by=people[:254],
                by=by,
            )
    return review


def quarantines(site: Site) -> list[Review]:
    """The measurements for which this site is quarantined, newest first: not approved, or rejected."""
    return list(site.reviews.filter(state__in=(ReviewState.OPEN, ReviewState.REJECTED)))


def waiting_for(user: User) -> list[Review]:
    """The open reviews on which this person may still give their word, newest first."""
    if user.role not in DECIDERS or auditors.waits(user):
        return []
    return list(Review.objects.filter(state=ReviewState.OPEN).exclude(votes__user=user)[:20])


def require_not_quarantined(root: str, program: str, measurement: str | None) -> None:
    """Refuse evidence of a measurement that is under review or was rejected, with `reference.under_review` or
    `reference.rejected`. Other sites, and the same site with an approved measurement, pass."""
    if measurement is None:
        return
    same = Review.objects.filter(root=root, program=program, measurement=measurement)
    review = same.filter(state__in=(ReviewState.OPEN, ReviewState.REJECTED)).first()
    if review is None or measurement in {row.measurement for row in in_force(Root(root), (program,))}:  # type: ignore[arg-type]
        return
    code = "reference.under_review" if review.state == ReviewState.OPEN else "reference.rejected"
    raise Refusal(code, program=program, measurement=measurement[:16], review=review.pk)


def touched_studies(review: Review) -> list[Study]:
    """Studies in progress whose frozen manifest names a value for this program: a change reaches them only
    when their lead freezes again and the sites approve again."""
    found = []
    for study in Study.objects.filter(state__in=LIVE).exclude(manifest_hash="").order_by("name"):
        said = frozen(study)
        programs = {reference.get("program") for reference in said.all_at("policy", "references")}
        if said.at("policy", "root") == review.root and review.program in programs:
            found.append(study)
    return found


def _shown(evidence: Evidence) -> ReferenceValue:
    """What this evidence would need to be accepted, with all that its host chose: for two people to judge."""
    report = parse_quote(unpadded(evidence.quote)).report
    program = evidence.claims.program
    if isinstance(report, SgxReport):
        return SgxReference(
            program=program,
            mrenclave=report.mrenclave.hex(),
            flags=f"{report.flags:016x}",
            xfrm=report.xfrm[::-1].hex(),
            misc_select=f"{report.misc_select:08x}",
            config_id=report.config_id.hex(),
            config_svn=report.config_svn,
            ext_product_id=report.isv_ext_product_id.hex(),
            family_id=report.isv_family_id.hex(),
        )
    return TdxReference(
        program=program,
        mrtd=report.mrtd.hex(),
        rtmrs=tuple(register.hex() for register in report.rtmrs),
        td_attributes=f"{report.td_attributes:016x}",
        xfam=report.xfam[::-1].hex(),
        mrconfigid=report.mrconfigid.hex(),
        mrowner=report.mrowner.hex(),
        mrownerconfig=report.mrownerconfig.hex(),
    )


def _open(root: Root, program: str, measurement: str) -> Review | None:
    return Review.objects.filter(
        root=root, program=program, measurement=measurement, state=ReviewState.OPEN
    ).first()


def _create(
    root: Root,
    value: ReferenceValue,
    opened_by: str,
    reason: str,
    by: Any,
    site: Site | None = None,
    **details: Any,
) -> Review:
    review = Review.objects.create(
        root=root,
        program=value.program,
        measurement=measurement_of(value),
        values=msgspec.to_builtins(value),
        replaced=[row.measurement for row in in_force(root, (value.program,))],
        opened_by=opened_by,
        reason=reason[:500],
        **details,
    )
    if site is not None:
        review.sites.add(site)
    _log(review, "opened", by)
    return review


def _close(review: Review, state: ReviewState, by: User) -> None:
    review.state, review.closed_at = state, timezone.now()
    review.save(update_fields=["state", "closed_at"])
    _log(review, str(state), by)


def _log(review: Review, step: str, by: Any, **more: str) -> None:
    who = review.opened_by if by is None and step == "opened" else actor_name(by)
    body = {
        "review": review.pk,
        "root": review.root,
        "values": review.values,
        "replaced": review.replaced,
        "reason_sha256": log.text_hash(review.reason),
        "by": log.person_id(who),
        "sites": sorted(review.sites.values_list("pk", flat=True)),
        **more,
    }
    log.append(f"review.{step}", body)
    record(by, f"review.{step}", f"review:{review.pk}", measurement=review.measurement)
