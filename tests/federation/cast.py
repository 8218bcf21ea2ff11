"""Factories for hospitals, people and datasets; conftest.py makes the cast with them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.test import Client
from django.utils import timezone

from contracts.approvals import Approval
from contracts.bound_request import bind_request
from contracts.kept_keys import signing_secret
from contracts.kinds import LABELLED
from contracts.manifest import parse
from contracts.signing import SigningKey
from federation.datasets.models import Dataset
from federation.people.models import Role, User
from federation.sites.authentication import AgentPrincipal
from federation.sites.models import Site, SiteState
from federation.studies.models import Study
from tests.support.approvals import approve, members
from tests.support.instances import HERE
from tests.support.keys import approval_key

API = "/api/agent/v1/"
MODEL = "embedded:test-model"
PASSWORD = "correct horse battery staple"


@dataclass
class Hospital:
    """A site with its agent's key, and a client that speaks as its agent."""

    site: Site
    key: SigningKey
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def token(
        self, method: str = "POST", path: str = "heartbeat", body: bytes = b"", /, **claims: Any
    ) -> str:
        """A JWT as the agent makes it for this request; `claims` replaces some of it, None leaves one out."""
        now = int(time.time())
        whole = {
            "iss": self.site.pk,
            "sub": self.site.pk,
            "aud": "fedslice-coordinator",
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_hex(16),
            **bind_request(method, path, body)._asdict(),
            **HERE._asdict(),
        }
        kept = {name: value for name, value in {**whole, **claims}.items() if value is not None}
        key = Ed25519PrivateKey.from_private_bytes(signing_secret(self.key))
        return jwt.encode(kept, key, algorithm="EdDSA")

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Any:
        """One request to the agents' API, with a fresh token unless one is given ("" for none at all)."""
        data = None if body is None else json.dumps(body)
        token = self.token(method, path, (data or "").encode()) if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = {"data": data, "content_type": "application/json"} if data is not None else {}
        return getattr(self.client, method.lower())(API + path, headers=headers, **content)

    def sign(self, manifest_hash: str, confirmed: Iterable[str] | None = None) -> Approval:
        """Its approval: it has `confirmed` these members, by itself all of a frozen manifest."""
        if confirmed is None:
            study = Study.objects.filter(manifest_hash=manifest_hash).first()
            confirmed = () if study is None else members(parse((study.manifest or "").encode()))
        return approve(manifest_hash, self.site.pk, self.key, confirmed)

    def signed(self, manifest_hash: str, confirmed: Iterable[str] | None = None) -> dict[str, Any]:
        """The same, as its agent sends it."""
        return {"manifest_hash": manifest_hash, **msgspec.to_builtins(self.sign(manifest_hash, confirmed))}

    def as_agent(self) -> AgentPrincipal:
        """The principal that services get."""
        return AgentPrincipal(Site.objects.get(pk=self.site.pk), HERE)


def make_hospital(name: str, state: str = SiteState.ACTIVE, **fields: Any) -> Hospital:
    key = SigningKey.generate()
    site = Site.objects.create(
        name=name,
        state=state,
        public_key=key.public,
        approval_key=approval_key(key).public,
        runtime="development",
        agent_version="0.1",
        **fields,
    )
    return Hospital(site, key)


def make_person(email: str, role: str, site: Site | None = None, post: str = "") -> User:
    """An account with this role; an auditor's word counts."""
    confirmed = timezone.now() if role == Role.AUDITOR else None
    return User.objects.create_user(
        email, PASSWORD, role=role, site=site, post=post, auditor_confirmed_at=confirmed
    )


def make_dataset(site: Site, name: str = "notes", **fields: Any) -> Dataset:
    card = {
        "rows": 60,
        "labels": {"cause": 20, "symptom": 25, "treatment": 15},
        "splits": {"train": 40, "validation": 10, "test": 10},
        "text_length": {"p10": 20, "p25": 40, "p50": 80, "p75": 120, "p90": 300},
        "threshold": 5,
    }
    kind = fields.pop("kind", "text-label")
    card |= {"kind": kind} | ({} if kind in LABELLED else {"labels": {}})
    digest = fields.pop("digest", secrets.token_hex(32))
    return Dataset.objects.create(site=site, name=name, card=card, rows=60, digest=digest, **fields)
