"""A hospital comes, enrols its agent, is heard of, and goes. Every write about sites is here."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from attestation.development import create_root, issue_platform, revoke_platform
from contracts.refusal import Refusal
from federation.audit.services import record
from federation.sites import permissions
from federation.sites.models import EnrolmentToken, Site, SiteState, StoppedBy, UsedTokenId
from federation.sites.transitions import SITE, apply
from federation.sites.wake import wake
from federation.tokens import MAX_TOKEN, token_hash, token_of

log = logging.getLogger(__name__)

ENROLMENT_LIFE = timedelta(hours=24)
HEARD = timedelta(seconds=10)
"""How exact `last_seen` is: not every request for work writes."""
DEVELOPMENT_RUNTIMES = ("development", "direct")
HARDWARE_RUNTIMES = ("sgx", "tdx")
COMMAND = "python -m site_agent enrol --coordinator {url}{log_key} --token {token}"
REPLACE = "python -m site_agent approval-key replace --token {token}"


def invite_site(by: Any) -> Site:
    """A place for a hospital that somebody was invited to bring; its admin names it. `people` calls this."""
    site = Site.objects.create()
    record(by, "site.invited", f"site:{site.pk}")
    return site


def forget_site(by: Any, site: Site) -> None:
    """Take away a place that nobody has named or enrolled: its invitation was taken back. Any other stays."""
    gone, _counts = Site.objects.filter(pk=site.pk, name="", state=SiteState.INVITED).delete()
    if gone:
        record(by, "site.uninvited", f"site:{site.pk}")


def name_site(by: Any, site: Site, name: str) -> None:
    """Give the hospital its name, once.

    Raises: `site.name_missing`, `site.name_taken` or `site.wrong_state`.
    """
    name = " ".join(name.split())[:200]
    if not name:
        raise Refusal("site.name_missing")
    try:
        with transaction.atomic():
            if not Site.objects.filter(pk=site.pk, name="").update(name=name):
                raise Refusal("site.wrong_state", state="named")
            record(by, "site.named", f"site:{site.pk}", name=name)
    except IntegrityError as error:
        raise Refusal("site.name_taken", name=name) from error
    site.name = name


def enrolment_command(by: Any, site: Site, *, fresh: bool = False) -> str:
    """The one-time command for the hospital's terminal: the same one while it is good, so that a page can be
    loaded again. A `fresh` one makes every older one of this site worthless.

    Possible until the agent was first heard of.

    Raises: `auth.forbidden` or `site.wrong_state`.
    """
    token = _one_time_token(by, site, SiteState.INVITED, "site.enrolment_token_made", fresh)
    return COMMAND.format(url=settings.PUBLIC_URL, log_key=_log_key(), token=token)


def replacement_command(by: Any, site: Site, *, fresh: bool = False) -> str:
    """The one-time command that gives an active site another approval key, as `enrolment_command`: the
    agent alone cannot, so who steals it cannot either.

    Raises: `auth.forbidden` or `site.wrong_state`.
    """
    return REPLACE.format(token=_one_time_token(by, site, SiteState.ACTIVE, "site.key_token_made", fresh))


def _open_token(site: Site) -> str:
    """The site's token that still works, or nothing."""
    row = site.enrolment_tokens.filter(used_at=None, expires__gt=timezone.now()).first()
    token = token_of(row.salt) if row is not None else ""
    return token if row is not None and token_hash(token) == row.token_hash else ""


def _one_time_token(by: Any, site: Site, needed: SiteState, action: str, fresh: bool) -> str:
    if not permissions.can_enrol(by, site):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        state = Site.objects.select_for_update().get(pk=site.pk).state
        if state != needed:
            raise Refusal("site.wrong_state", state=state)
        if not fresh and (token := _open_token(site)):
            return token
        site.enrolment_tokens.filter(used_at=None).delete()
        salt = secrets.token_urlsafe(32)
        token = token_of(salt)
        expires = timezone.now() + ENROLMENT_LIFE
        EnrolmentToken.objects.create(site=site, salt=salt, token_hash=token_hash(token), expires=expires)
        record(by, action, f"site:{site.pk}")
    return token


def _log_key() -> str:
    """Development installations carry the fingerprint of their log's key in the command. On hardware a
    hospital gets it by another channel, and the agent asks for it."""
    from federation.attestation.log import key_fingerprint  # it knows of sites

    if set(settings.ENCLAVE_RUNTIMES) <= set(DEVELOPMENT_RUNTIMES):
        return f" --log-key {key_fingerprint()}"
    return ""


@dataclass(frozen=True)
class Enrolled:
    """What an agent learns when it enrols. `pck_chain` is PEM, for development platforms only."""

    site: Site
    pck_chain: str | None


def accepted_runtimes() -> list[str]:
    """The runtimes that a site may enrol with: hardware always, development where it is switched on."""
    return [*HARDWARE_RUNTIMES, *(r for r in DEVELOPMENT_RUNTIMES if r in settings.ENCLAVE_RUNTIMES)]


def enrol(
    token: str,
    *,
    public_key: str,
    approval_key: str,
    agent_version: str,
    runtime: str,
    development_key: bool = False,
    platform_key_pem: str | None = None,
) -> Enrolled:
    """Register the public keys of agent and person for the site of this token, and use the token up.

    The agent proves that it holds the private key by its first heartbeat, which makes the site active. Until
    then the same agent may ask again, in case our answer was lost on its way.

    Raises: an `enrolment.*` code, `site.wrong_state`, or what `issue_platform` raises; then nothing has
    changed and the token is still good.
    """
    if runtime not in accepted_runtimes():
        raise Refusal("enrolment.runtime", runtime=runtime[:32], accepted=", ".join(accepted_runtimes()))
    if runtime in DEVELOPMENT_RUNTIMES and not platform_key_pem:
        raise Refusal("enrolment.platform_key", runtime=runtime)
    _check_keys(public_key, approval_key)
    _check_mark(runtime, development_key)
    hashed = token_hash(token[:MAX_TOKEN])
    row = EnrolmentToken.objects.select_related("site").filter(token_hash=hashed).first()
    if row is None:
        raise Refusal("enrolment.unknown_token")
    same = (row.site.public_key, row.site.approval_key) == (public_key, approval_key)
    if row.used_at and row.site.state == SiteState.ENROLLED and same:
        return Enrolled(row.site, row.site.pck_chain or None)
    pck_chain = None
    with transaction.atomic():
        _use_up(row)
        if runtime in DEVELOPMENT_RUNTIMES and platform_key_pem:
            create_root(settings.DEVELOPMENT_ROOT_DIR)
            pck_chain = issue_platform(settings.DEVELOPMENT_ROOT_DIR, platform_key_pem).decode()
        changes: dict[str, Any] = {
            "public_key": public_key,
            "approval_key": approval_key,
            "development_key": development_key,
            "agent_version": agent_version[:64],
            "runtime": runtime,
            "pck_chain": pck_chain or "",
        }
        site = row.site
        try:
            with transaction.atomic():
                moved = apply(site, SiteState.INVITED, SiteState.ENROLLED, by=None, **changes)
        except IntegrityError as error:
            raise Refusal("enrolment.key_taken") from error
        if not moved:
            raise Refusal("site.wrong_state", state=Site.objects.get(pk=site.pk).state)
        facts = {"public_key": public_key, "approval_key": approval_key, "runtime": runtime}
        record(None, "site.enrolled", f"site:{site.pk}", development_key=development_key, **facts)
    return Enrolled(site, pck_chain)


def replace_approval_key(agent: Any, token: str, *, approval_key: str, development_key: bool = False) -> Site:
    """Another approval key for an active site, whose admin asked for `replacement_command`.

    Whoever confirmed the site confirms it again, as its fingerprint is another one; manifests that wait for
    approval are stale, and runs keep the key that they were frozen with. The same request again changes
    nothing.

    Raises: an `enrolment.*` code, `approval_key.development` or `site.wrong_state`.
    """
    site = Site.objects.get(pk=agent.site.pk)
    _check_keys(site.public_key, approval_key)
    _check_mark(site.runtime, development_key)
    row = site.enrolment_tokens.filter(token_hash=token_hash(token[:MAX_TOKEN])).first()
    if row is None:
        raise Refusal("enrolment.unknown_token")
    if row.used_at and site.approval_key == approval_key:
        return site
    with transaction.atomic():
        _use_up(row)
        changes: dict[str, Any] = {"approval_key": approval_key, "development_key": development_key}
        try:
            with transaction.atomic():
                done = Site.objects.filter(pk=site.pk, state=SiteState.ACTIVE).update(**changes)
        except IntegrityError as error:
            raise Refusal("enrolment.key_taken") from error
        if not done:
            raise Refusal("site.wrong_state", state=site.state)
        record(agent, "site.approval_key_replaced", f"site:{site.pk}", former=site.approval_key, **changes)
    site.refresh_from_db()
    return site


def _use_up(row: EnrolmentToken) -> None:
    """One conditional update decides between two agents that hold the same command."""
    now = timezone.now()
    if not EnrolmentToken.objects.filter(pk=row.pk, used_at=None, expires__gt=now).update(used_at=now):
        used = EnrolmentToken.objects.filter(pk=row.pk, used_at__isnull=False).exists()
        raise Refusal("enrolment.token_used" if used else "enrolment.token_expired")


def _check_keys(*keys: str) -> None:
    """They are usable, in their one spelling, and no key is for both purposes."""
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        except ValueError as error:
            raise Refusal("enrolment.bad_key") from error
    if any(key != key.lower() for key in keys) or len(set(keys)) < len(keys):
        raise Refusal("enrolment.bad_key")


def _check_mark(runtime: str, development_key: bool) -> None:
    """A key that no passphrase protects is for runtimes that protect nothing either."""
    if development_key and runtime not in DEVELOPMENT_RUNTIMES:
        raise Refusal("approval_key.development", runtime=runtime)


def heartbeat(agent: Any, *, agent_version: str, checks: list[dict[str, Any]]) -> Site:
    """Note that the site's agent was heard of; the first time makes the site active. An empty list of checks
    leaves the last one standing."""
    site: Site = agent.site
    now = timezone.now()
    heard: dict[str, Any] = {"last_seen": now, "agent_version": agent_version[:64]}
    if checks:
        heard |= {"checks": checks, "checks_at": now, "check_wanted": False}
    with transaction.atomic():
        if apply(site, SiteState.ENROLLED, SiteState.ACTIVE, by=agent, **heard):
            record(agent, "site.active", f"site:{site.pk}")
        else:
            Site.objects.filter(pk=site.pk).update(**heard)
            site.refresh_from_db()
    return site


def note_heard(site: Site) -> None:
    """Note that the site's agent asked for work, unless it was heard of just now."""
    now = timezone.now()
    if site.last_seen is None or site.last_seen < now - HEARD:
        Site.objects.filter(pk=site.pk).update(last_seen=now)


def want_checks(by: Any, site: Site) -> None:
    """Ask the agent to look at its connection again; it hears of it with its next heartbeat.

    Raises: `auth.forbidden` or `site.wrong_state`.
    """
    if not permissions.can_plan_maintenance(by, site):
        raise Refusal("auth.forbidden")
    if not Site.objects.filter(pk=site.pk, state=SiteState.ACTIVE).update(check_wanted=True):
        raise Refusal("site.wrong_state", state=site.state)
    wake([site.pk])


def suspend(by: Any, site: Site, why: str) -> None:
    """Stop the site for now: its agent is refused from the next request on. Whose side has stopped it lets it
    work again, the hospital or an operator."""
    side = StoppedBy.SITE if permissions.can_enrol(by, site) else StoppedBy.OPERATOR
    _govern(by, site, [SiteState.ACTIVE], SiteState.SUSPENDED, why, suspended_by=side)


def resume(by: Any, site: Site, why: str) -> None:
    """Let a suspended site work again."""
    _govern(by, site, [SiteState.SUSPENDED], SiteState.ACTIVE, why, suspended_by="")


def revoke(by: Any, site: Site, why: str) -> None:
    """Shut the site out for good: agent, open enrolment command, and development platform."""
    sources = [SiteState(source) for source, target in SITE if target == SiteState.REVOKED]
    with transaction.atomic():
        _govern(by, site, sources, SiteState.REVOKED, why)
        site.enrolment_tokens.filter(used_at=None).delete()
        site.invitations.filter(used_at=None).delete()
    if site.pck_chain:
        revoke_platform(settings.DEVELOPMENT_ROOT_DIR, site.pck_chain)


def _govern(
    by: Any, site: Site, sources: list[SiteState], target: SiteState, why: str, **changes: Any
) -> None:
    if not permissions.can_govern(by, site, target):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        state = Site.objects.select_for_update().get(pk=site.pk).state
        if state not in sources or not apply(site, state, target, by=by, note=why, **changes):
            raise Refusal("site.wrong_state", state=state)
        record(by, f"site.{target}", f"site:{site.pk}", why=why[:500])


def forget_expired_token_ids() -> int:
    """Drop the ids of JWTs that are too old to be accepted anyway. Called by upkeep; returns how many."""
    return UsedTokenId.objects.filter(expires__lt=timezone.now()).delete()[0]
