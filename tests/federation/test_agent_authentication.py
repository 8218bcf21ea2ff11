"""The proof that an agent is who it says, and every way in which it fails."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from contracts.bound_request import bind_request
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from federation.sites import authentication
from federation.sites.authentication import LEEWAY
from federation.sites.models import Site, SiteState, UsedTokenId
from federation.sites.services import forget_expired_token_ids
from tests.federation.cast import API, Hospital

BEAT = {"agent_version": "0.1", "runtime": "development", "checks": []}


def authenticate(token: str) -> authentication.AgentPrincipal:
    """As a heartbeat without a body, which is what `Hospital.token` is for."""
    return authentication.authenticate(token, bind_request("POST", f"{API}heartbeat", b""))


def refused(token: str, code: str) -> None:
    before = UsedTokenId.objects.count()
    with pytest.raises(Refusal) as refusal:
        authenticate(token)
    assert refusal.value.code == code
    assert UsedTokenId.objects.count() == before


def test_a_fresh_token_is_accepted_and_a_replayed_one_refused(anna: Hospital) -> None:
    token = anna.token()
    assert authenticate(token).site == anna.site
    refused(token, "auth.replayed")


def test_a_replay_is_refused_through_http_and_changes_nothing(anna: Hospital) -> None:
    token = anna.token("POST", "heartbeat", json.dumps(BEAT).encode())
    assert anna.call("post", "heartbeat", BEAT, token=token).status_code == 200
    seen = Site.objects.get(pk=anna.site.pk).last_seen
    answer = anna.call("post", "heartbeat", BEAT, token=token)
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.replayed")
    assert Site.objects.get(pk=anna.site.pk).last_seen == seen


def test_the_same_id_by_another_site_is_refused_too(anna: Hospital, barbara: Hospital) -> None:
    authenticate(anna.token(jti="0123456789abcdef"))
    refused(barbara.token(jti="0123456789abcdef"), "auth.replayed")


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "another-coordinator"}, "auth.bad_token"),
        ({"aud": ["fedslice-coordinator", "another"]}, "auth.bad_token"),
        ({"aud": None}, "auth.bad_token"),
        ({"exp": None}, "auth.bad_token"),
        ({"iat": None}, "auth.bad_token"),
        ({"jti": None}, "auth.bad_token"),
        ({"place": None}, "auth.bad_token"),
        ({"boot": "other"}, "auth.bad_token"),
        ({"machine": "\x1b[2J"}, "auth.bad_token"),
        ({"jti": "short"}, "auth.bad_token"),
        ({"jti": "x" * 200}, "auth.bad_token"),
        ({"jti": "\ud800" * 20}, "auth.bad_token"),
        ({"jti": "x" * 20 + "\0"}, "auth.bad_token"),
        ({"sub": "someone-else"}, "auth.bad_token"),
        ({"sub": None}, "auth.bad_token"),
        ({"iss": "nobody-knows"}, "auth.unknown_site"),
        ({"iss": "\ud800"}, "auth.unknown_site"),
        ({"iss": "nobody\0"}, "auth.unknown_site"),
        ({"iss": None}, "auth.unknown_site"),
        ({"htm": None}, "auth.bad_token"),
        ({"path": None}, "auth.bad_token"),
        ({"body": None}, "auth.bad_token"),
        ({"htm": "GET"}, "auth.another_request"),
        ({"path": "leases"}, "auth.another_request"),
        ({"path": "heartbeat?more=1"}, "auth.another_request"),
        ({"body": "0" * 64}, "auth.another_request"),
    ],
)
def test_a_wrong_claim_is_refused(anna: Hospital, claims: dict[str, Any], code: str) -> None:
    refused(anna.token(**claims), code)


@pytest.mark.parametrize(
    ("issued", "expires", "code"),
    [
        (0, 61, "auth.lifetime"),
        (0, 0, "auth.lifetime"),
        (-LEEWAY - 65, -LEEWAY - 5, "auth.clock"),
        (LEEWAY + 5, LEEWAY + 65, "auth.clock"),
        (-3600, 30, "auth.lifetime"),
    ],
)
def test_times_are_the_coordinators(anna: Hospital, issued: int, expires: int, code: str) -> None:
    now = int(time.time())
    refused(anna.token(iat=now + issued, exp=now + expires), code)


def test_a_clock_that_is_a_little_off_is_no_harm(anna: Hospital) -> None:
    now = int(time.time())
    authenticate(anna.token(iat=now - 65, exp=now - 5))
    authenticate(anna.token(iat=now + 5, exp=now + 65))


def test_fractions_of_seconds_are_not_the_agreed_form(anna: Hospital) -> None:
    now = time.time()
    refused(anna.token(iat=now, exp=now + 30), "auth.bad_token")


def test_another_key_is_refused(anna: Hospital, barbara: Hospital) -> None:
    refused(Hospital(anna.site, barbara.key).token(), "auth.bad_token")
    refused(Hospital(anna.site, SigningKey.generate()).token(), "auth.bad_token")


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_no_algorithm_and_symmetric_algorithms_are_refused(anna: Hospital) -> None:
    _, claims, signature = anna.token().split(".")
    refused(f"{encoded({'alg': 'none'})}.{claims}.", "auth.bad_token")
    refused(f"{encoded({'alg': 'HS256'})}.{claims}.{signature}", "auth.bad_token")
    # The classic confusion: the public key as the secret of an HMAC.
    whole = jwt.decode(anna.token(), options={"verify_signature": False})
    refused(jwt.encode(whole, bytes.fromhex(anna.key.public), algorithm="HS256"), "auth.bad_token")


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "e30.e30.e30", "é", "x" * 2000])
def test_what_is_no_token_is_refused(db: None, token: str) -> None:
    refused(token, "auth.bad_token")


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "Bearer " + "x" * 4000])
def test_what_is_no_bearer_header_is_refused(anna: Hospital, header: str) -> None:
    answer = anna.client.post("/api/agent/v1/heartbeat", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.bad_token")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_signature_with_one_bit_changed_is_refused(place: int, bit: int) -> None:
    """Pure over the key: no database is needed to see that the signature covers header and claims."""
    key = Ed25519PrivateKey.generate()
    head, body, signature = jwt.encode({"jti": "a" * 20}, key, algorithm="EdDSA").split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[place % len(raw)] ^= 1 << bit
    forged = f"{head}.{body}.{base64.urlsafe_b64encode(bytes(raw)).rstrip(b'=').decode()}"
    with pytest.raises(jwt.InvalidTokenError):
        jwt.decode(forged, key.public_key(), algorithms=["EdDSA"])


@pytest.mark.parametrize(
    ("state", "code"),
    [(SiteState.SUSPENDED, "auth.site_suspended"), (SiteState.REVOKED, "auth.site_revoked")],
)
def test_a_stopped_sites_agent_is_refused(anna: Hospital, state: str, code: str) -> None:
    Site.objects.filter(pk=anna.site.pk).update(state=state)
    refused(anna.token(), code)
    # Strangers do not learn the state: only the key's holder is told.
    refused(Hospital(anna.site, SigningKey.generate()).token(), "auth.bad_token")


def test_a_site_without_a_key_is_unknown(anna: Hospital) -> None:
    Site.objects.filter(pk=anna.site.pk).update(state=SiteState.INVITED, public_key="")
    refused(anna.token(), "auth.unknown_site")


def test_used_ids_are_kept_until_the_token_is_too_old_to_be_accepted(anna: Hospital) -> None:
    authenticate(anna.token())
    assert forget_expired_token_ids() == 0
    row = UsedTokenId.objects.get()
    assert row.expires.timestamp() > time.time() + 60
    UsedTokenId.objects.update(expires="2020-01-01T00:00Z")
    assert forget_expired_token_ids() == 1
