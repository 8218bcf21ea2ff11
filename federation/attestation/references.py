"""Reference values: which enclave identities are accepted, since when, and on whose word."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from attestation.checks.examination import INTEL_ROOT_SHA256
from attestation.development import create_root, root_sha256
from contracts.policy import Policy, Program, SgxReference, TcbStatus, TdxReference
from contracts.policy import Reference as ReferenceValue
from contracts.refusal import Refusal
from federation.attestation import floors
from federation.attestation.log import append, person_id, take_turn, text_hash
from federation.attestation.models import Reference, Root
from federation.audit.services import actor_name, record
from federation.people.models import Role, User
from federation.sites.services import DEVELOPMENT_RUNTIMES


def root_for(runtime: str) -> Root:
    """Whose root vouches for enclaves of this runtime."""
    return Root.DEVELOPMENT if runtime in DEVELOPMENT_RUNTIMES else Root.INTEL


def add(
    by: Any,
    value: ReferenceValue,
    *,
    root: Root,
    reason: str,
    source_commit: str = "",
    valid_from: datetime | None = None,
) -> Reference:
    """Put the *first* identity of a program in force, from now on or later. It is logged before it counts.

    A changed measurement is not put in force by one person: `reviews.propose`. Only the command line (`by`
    is None: who has a shell here) adds further values, and under the development root alone, which proves
    nothing about hardware. `by` is an operator else.

    Raises: `auth.forbidden`, `reference.invalid`, `reference.duplicate`, `reference.needs_review`.
    """
    with transaction.atomic():
        take_turn()
        require_valid(by, value, root=root, reason=reason)
        # The whole history counts: suspending the old value does not make the new one the first.
        others = Reference.objects.filter(root=root, program=value.program).exists()
        if others and not (by is None and root == Root.DEVELOPMENT):
            raise Refusal("reference.needs_review", program=value.program)
        return enter(
            value,
            root=root,
            reason=reason,
            source_commit=source_commit,
            valid_from=valid_from,
            added_by=actor_name(by),
            by=by,
        )


def require_valid(by: Any, value: ReferenceValue, *, root: Root, reason: str) -> None:
    """What every new value must fulfil.

    Raises: `auth.forbidden`, `reference.invalid`, `reference.duplicate`.
    """
    _require_operator(by)
    if not reason.strip():
        raise Refusal("reference.invalid", fault="it gives no reason")
    measurement = measurement_of(value)
    same = Reference.objects.filter(root=root, program=value.program, measurement=measurement)
    if same.filter(suspended_at=None).exists():
        raise Refusal("reference.duplicate", program=value.program)


def enter(
    value: ReferenceValue,
    *,
    root: Root,
    reason: str,
    source_commit: str,
    valid_from: datetime | None,
    added_by: str,
    by: Any,
) -> Reference:
    """Write a value down as in force: the end of `add` and of an approved review, and of nothing else.

    Raises: `reference.duplicate`.
    """
    row = Reference(
        root=root,
        program=value.program,
        measurement=measurement_of(value),
        values=msgspec.to_builtins(value),
        source_commit=source_commit[:64],
        reason=reason.strip()[:500],
        added_by=added_by,
        valid_from=valid_from or timezone.now(),
    )
    with transaction.atomic():
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:
            raise Refusal("reference.duplicate", program=value.program) from error
        _log(row, "added", row.reason, by)
    return row


def suspend(by: Any, reference: Reference, why: str) -> None:
    """Stop the use of a reference value: no new manifest names it and no launch or key release passes it.

    Raises: `auth.forbidden` or `reference.suspended`.
    """
    _require_operator(by)
    with transaction.atomic():
        changes = {
            "suspended_at": timezone.now(),
            "suspended_by": actor_name(by),
            "suspended_reason": why[:500],
        }
        if not Reference.objects.filter(pk=reference.pk, suspended_at=None).update(**changes):
            raise Refusal("reference.suspended")
        reference.refresh_from_db()
        _log(reference, "suspended", why[:500], by)


def policy_for(
    runtime: str,
    *,
    programs: tuple[Program, ...],
    statuses: tuple[TcbStatus, ...] = ("UpToDate",),
    advisories: tuple[str, ...] = (),
) -> Policy:
    """The appraisal policy for a new manifest: every reference value in force for these programs, and as
    floors the newest collateral that is known here.

    Raises: `study.no_reference` if a program has none, `study.no_collateral` where none is known.
    """
    root = root_for(runtime)
    rows = in_force(root, programs)
    for program in programs:
        if not any(row.program == program for row in rows):
            raise Refusal("study.no_reference", program=program, root=root.value)
    known = floors.at_freeze(root, "tdx" if runtime == "tdx" else "sgx", int(time.time()))
    return Policy(
        root=root.value,  # type: ignore[arg-type]
        root_sha256=_root_sha256(root),
        references=tuple(value_of(row) for row in rows),
        accepted_statuses=statuses,
        accepted_advisories=advisories,
        # One series of numbers for all platforms: the newest known is the floor for unknown ones too.
        minimum_tcb_evaluation=max(min(one.tcb_evaluation, one.qe_evaluation) for one in known),
        floors=known,
    )


def in_force(root: Root, programs: tuple[Program, ...]) -> list[Reference]:
    """The reference values that hold now, in a fixed order."""
    rows = Reference.objects.filter(
        root=root, program__in=programs, suspended_at=None, valid_from__lte=timezone.now()
    )
    return list(rows.order_by("program", "measurement"))


def value_of(row: Reference) -> ReferenceValue:
    """The row as the verifier reads it."""
    return msgspec.convert(row.values, ReferenceValue)


def still_in_force(policy: Policy) -> bool:
    """Do all reference values of an approved policy still hold? Asked at launch and at each key release."""
    return not lapsed(policy)


def lapsed(policy: Policy) -> list[ReferenceValue]:
    """The reference values of a policy that do not hold any more. All of a value counts: the same signer with
    another product, or with a lower SVN than is in force now, is another value."""
    programs = tuple({reference.program for reference in policy.references})
    held = {value_of(row) for row in in_force(Root(policy.root), programs)}
    return [value for value in policy.references if value not in held]


def measurement_of(value: ReferenceValue) -> str:
    """MRENCLAVE, MRSIGNER or a trust domain's.

    Raises: `reference.invalid`.
    """
    match value:
        case SgxReference(mrenclave=str(measurement)):
            return measurement
        case TdxReference():
            return value.measurement
        case SgxReference(mrsigner=str(signer), product_id=int(), minimum_svn=int()):
            return signer
    fault = "it names neither MRENCLAVE nor MRSIGNER with product id and SVN"
    raise Refusal("reference.invalid", fault=fault)


def _root_sha256(root: Root) -> str:
    if root == Root.INTEL:
        return INTEL_ROOT_SHA256
    create_root(settings.DEVELOPMENT_ROOT_DIR)
    return root_sha256(settings.DEVELOPMENT_ROOT_DIR)


def _require_operator(by: Any) -> None:
    if by is not None and not (isinstance(by, User) and by.role == Role.OPERATOR):
        raise Refusal("auth.forbidden")


def _log(row: Reference, change: str, reason: str, by: Any) -> None:
    body = {
        "root": row.root,
        "values": row.values,
        "commit": row.source_commit,
        "by": person_id(row.added_by if change == "added" else actor_name(by)),
        "reason_sha256": text_hash(reason),
    }
    append(f"reference.{change}", body)
    record(by, f"reference.{change}", f"reference:{row.pk}", measurement=row.measurement)
