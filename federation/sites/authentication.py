"""Agents prove who they are by a short-lived token, signed by the key that never leaves the site.

The token is a JWT (RFC 7519, used in the way of RFC 7523) with alg EdDSA (RFC 8037): iss = sub = the site id,
aud = AUDIENCE, exp − iat ≤ 60 s, and a jti that is good once; `htm`, `path` and `body` bind it to one request
(contracts/bound_request.py), so that whoever ends TLS on the way can send no other with it. `place`, `boot`
and `machine` say where the agent runs (contracts/instance.py); instances.py judges them. All times are the
coordinator's.
"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import IntegrityError, transaction
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from contracts.bound_request import BoundRequest, bind_request
from contracts.instance import Instance, read_instance
from contracts.refusal import Refusal
from federation import logs
from federation.sites.models import AgentInstance, Site, SiteState, StoppedBy, UsedTokenId

AUDIENCE = "fedslice-coordinator"
MAX_LIFETIME = 60
LEEWAY = 10
MAX_TOKEN = 2048
REQUIRED = ["iss", "sub", "aud", "exp", "iat", "jti", *BoundRequest._fields, *Instance._fields]
MAX_JTI = 128


class AgentPrincipal:
    """A site's agent, as `request.user` of the agents' API, and where it says that it runs."""

    is_authenticated = True
    is_anonymous = False

    def __init__(self, site: Site, instance: Instance) -> None:
        self.site, self.instance = site, instance

    def __str__(self) -> str:
        return f"site:{self.site.pk}"

    def read_instance(self) -> AgentInstance | None:
        """Where the site's agent was seen to run when this request came; None if that was not read, or none
        was."""
        if not Site.instance.is_cached(self.site):
            return None
        found: AgentInstance | None = getattr(self.site, "instance", None)
        return found


class AgentAuthentication(BaseAuthentication):
    """DRF's hook: no Authorization header means nobody; a wrong one is refused with an `auth.*` code."""

    def authenticate(self, request: Request) -> tuple[AgentPrincipal, None] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise Refusal("auth.bad_token", fault="it is not a bearer token")
        bound = bind_request(request.method or "", request.get_full_path(), request.body)
        return authenticate(token.strip(), bound), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class AgentScheme(OpenApiAuthenticationExtension):
    """How OpenAPI describes it."""

    target_class = AgentAuthentication
    name = "agent"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT (EdDSA)"}


def authenticate(token: str, bound: BoundRequest) -> AgentPrincipal:
    """The agent of the site whose key signed this token, now, for the first time, for this request.

    1. Strict algorithm: EdDSA by the header and by the verifying key.
    2. The site that the token names must have a key; the signature and every claim are checked with it.
    3. Only then does the site's state speak, so that strangers learn nothing about it.
    4. The token must be for the request that carries it.
    5. The id is spent last: a unique key in the database refuses the second use, also of two at once.

    Raises: an `auth.*` code.
    """
    site = _claimed_site(token)
    claims, instance = verified_token(token, site)
    if site.state == SiteState.SUSPENDED:
        raise Refusal("auth.site_suspended", by=str(StoppedBy(site.suspended_by or "operator").label))
    if site.state == SiteState.REVOKED:
        raise Refusal("auth.site_revoked")
    if any(claims[name] != value for name, value in bound._asdict().items()):
        raise Refusal("auth.another_request")
    _spend(claims["jti"], claims["exp"])
    logs.also(site=site.pk)
    return AgentPrincipal(site, instance)


def _claimed_site(token: str) -> Site:
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
        raise Refusal("auth.bad_token", fault="it is not a JWT") from error
    if header.get("alg") != "EdDSA":
        raise Refusal("auth.bad_token", fault="its algorithm is not EdDSA")
    issuer = claims.get("iss")
    named = isinstance(issuer, str) and issuer.isprintable()  # else no database can be asked
    # With where its agent runs, which comes next; without what is long, and no view of the agents' API reads.
    sites = Site.objects.select_related("instance").defer("checks", "pck_chain")
    site = sites.filter(pk=issuer).order_by("pk").first() if named else None
    if site is None or not site.public_key:
        raise Refusal("auth.unknown_site")
    return site


def verified_token(token: str, site: Site) -> tuple[dict[str, Any], Instance]:
    """The claims of a token that this site's agent signed, and the machine that they name."""
    now = int(timezone.now().timestamp())
    try:
        claims = jwt.decode(
            token,
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(site.public_key)),
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=site.pk,
            leeway=LEEWAY,
            options={"require": REQUIRED, "strict_aud": True, "verify_sub": True},
        )
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as error:
        raise Refusal("auth.clock", server_time=now) from error
    except (jwt.InvalidTokenError, ValueError) as error:
        raise Refusal("auth.bad_token", fault=type(error).__name__) from error
    times = claims["exp"], claims["iat"]
    if not all(type(value) is int for value in times) or claims["sub"] != site.pk:
        raise Refusal("auth.bad_token", fault="its claims are not of the agreed form")
    if not 0 < claims["exp"] - claims["iat"] <= MAX_LIFETIME:
        raise Refusal("auth.lifetime", limit=MAX_LIFETIME)
    jti = claims["jti"]
    if not isinstance(jti, str) or not jti.isprintable() or not 16 <= len(jti) <= MAX_JTI:
        raise Refusal("auth.bad_token", fault=f"its jti is not text of 16 to {MAX_JTI} characters")
    try:
        return claims, read_instance(claims)
    except msgspec.ValidationError as error:
        raise Refusal("auth.bad_token", fault="it does not say where the agent runs") from error


def _spend(jti: str, expires: int) -> None:
    try:
        # By itself the statement is one; inside of a transaction its failure must not end that.
        with transaction.atomic() if transaction.get_connection().in_atomic_block else nullcontext():
            UsedTokenId.objects.create(jti=jti, expires=datetime.fromtimestamp(expires + LEEWAY + 1, UTC))
    except IntegrityError as error:
        raise Refusal("auth.replayed") from error
