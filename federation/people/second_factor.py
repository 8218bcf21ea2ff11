"""The second factor: codes of an authenticator app, and recovery codes, both by django-otp.

It counts wrong codes and makes each next try wait twice as long. The database holds nothing that makes a
code: see `Authenticator`; recovery codes are kept as hashes.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken

from contracts.refusal import Refusal
from federation.audit.services import record
from federation.people.models import Authenticator, Role, User
from federation.people.permissions import require

CODES = 10
TOTP_DIGITS = 6
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
GROUPS, GROUP = 3, 5
"""A recovery code has 15 letters of 31: 74 bits."""


@dataclass(frozen=True)
class SecondFactorState:
    """Whether a person signs in with a second factor, must do so, and how many recovery codes are left."""

    on: bool
    required: bool
    codes_left: int


def is_on(user: User) -> bool:
    """Does signing in ask this person for a code?"""
    return Authenticator.objects.filter(user=user, confirmed=True).exists()


def is_required(user: User) -> bool:
    """Does this installation demand a second factor of the person's role?"""
    return user.role in settings.SECOND_FACTOR_ROLES


def state_of(user: User) -> SecondFactorState:
    """What the person's own page shows."""
    left = StaticToken.objects.filter(device__user=user).count()
    return SecondFactorState(is_on(user), is_required(user), left)


def begin(user: User) -> Authenticator:
    """The app's key for setting it up; the same one until it is confirmed.

    Raises: `second_factor.on`.
    """
    if is_on(user):
        raise Refusal("second_factor.on")
    device, _ = Authenticator.objects.get_or_create(
        user=user, confirmed=False, defaults={"name": "authenticator app"}
    )
    return device


def confirm(user: User, code: str) -> list[str]:
    """The app shows the right code: from now on signing in asks for one. Returns the recovery codes, which
    are shown once.

    Raises: `second_factor.on`, `second_factor.wrong` or `second_factor.wait`.
    """
    begin(user)
    with transaction.atomic():
        device = Authenticator.objects.select_for_update().get(user=user, confirmed=False)
        fault = _try(device, _digits(code))
        codes: list[str] = []
        if fault is None:
            device.confirmed = True
            device.save(update_fields=["confirmed"])
            codes = _fresh_codes(user)
            record(user, "second_factor.on", f"user:{user.pk}")
    if fault is not None:
        raise fault
    return codes


def check(user: User, code: str) -> None:
    """Use up a code of the app or a recovery code.

    Raises: `second_factor.wrong` or `second_factor.wait`; each wrong code counts, whichever kind it was
    meant to be.
    """
    with transaction.atomic():
        app = Authenticator.objects.select_for_update().filter(user=user, confirmed=True).first()
        if app is None:
            fault: Refusal | None = Refusal("second_factor.wrong")
        elif _is_recovery(code):
            recovery, _ = StaticDevice.objects.select_for_update().get_or_create(user=user)
            fault = _try(recovery, _hashed(code))
            if fault is None:
                left = recovery.token_set.count()
                record(user, "second_factor.recovery_code_used", f"user:{user.pk}", left=left)
        else:
            fault = _try(app, _digits(code))
    # Raised outside the transaction: the count of wrong codes has to stay.
    if fault is not None:
        raise fault


def renew_codes(user: User, code: str) -> list[str]:
    """New recovery codes in place of all old ones, for a right code.

    Raises: as `check` does.
    """
    check(user, code)
    with transaction.atomic():
        codes = _fresh_codes(user)
        record(user, "second_factor.codes_renewed", f"user:{user.pk}")
    return codes


def turn_off(user: User, code: str) -> None:
    """Sign in with the password alone again.

    Raises: as `check` does, and `second_factor.required`.
    """
    if is_required(user):
        raise Refusal("second_factor.required")
    check(user, code)
    with transaction.atomic():
        _forget(user)
        record(user, "second_factor.off", f"user:{user.pk}")


def reset(by: User, user: User) -> None:
    """For somebody who lost the app and the codes: an operator, never for themselves, after they made sure
    who asks. The person signs in with the password and, where it is demanded, sets up a new app at once."""
    require(by.role == Role.OPERATOR and by.pk != user.pk)
    with transaction.atomic():
        _forget(user)
        record(by, "second_factor.reset", f"user:{user.pk}")


def _forget(user: User) -> None:
    Authenticator.objects.filter(user=user).delete()
    StaticDevice.objects.filter(user=user).delete()


def _try(device: Authenticator | StaticDevice, code: str) -> Refusal | None:
    allowed, why = device.verify_is_allowed()
    if not allowed:
        until = (why or {}).get("locked_until") or timezone.now()
        return Refusal("second_factor.wait", seconds=max(1, round((until - timezone.now()).total_seconds())))
    return None if device.verify_token(code) else Refusal("second_factor.wrong")


def _fresh_codes(user: User) -> list[str]:
    device, _ = StaticDevice.objects.get_or_create(user=user, defaults={"name": "recovery codes"})
    device.token_set.all().delete()
    codes = [
        "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))
        for _ in range(CODES)
    ]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=_hashed(code)) for code in codes)
    return codes


def _digits(code: str) -> str:
    digits = "".join(code.split())
    # int() reads other scripts' digits and underscores too; a code has six plain ones.
    return digits if len(digits) == TOTP_DIGITS and digits.isascii() and digits.isdigit() else ""


def _is_recovery(code: str) -> bool:
    return any(letter.isalpha() for letter in code)


def _hashed(code: str) -> str:
    """What the database knows of a recovery code: 96 bits of its SHA-256."""
    plain = "".join(letter for letter in code.lower() if letter.isalnum())
    digest = hashlib.sha256(b"fedslice/recovery-code/v1\0" + plain.encode()).digest()
    return base64.urlsafe_b64encode(digest)[:16].decode()
