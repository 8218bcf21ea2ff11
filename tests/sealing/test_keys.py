"""Signatures hold for one key, one domain and one payload; HPKE opens for one key and one info."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.kept_keys import hpke_key, hpke_secret, signing_key, signing_secret
from contracts.refusal import Refusal
from contracts.sealed import hpke
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey, message, verify

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
HPKE = HpkeKey.generate()
PAYLOAD = {"round": 1, "site": "st-anna"}
SIGNATURE = KEY.sign("fedslice/test/v1", PAYLOAD)


def test_a_signature_holds_however_the_payload_is_ordered() -> None:
    verify(KEY.public, "fedslice/test/v1", dict(reversed(PAYLOAD.items())), SIGNATURE)


@pytest.mark.parametrize(
    ("public", "domain", "payload", "signature"),
    [
        (OTHER.public, "fedslice/test/v1", PAYLOAD, SIGNATURE),
        (KEY.public, "fedslice/test/v2", PAYLOAD, SIGNATURE),
        (KEY.public, "fedslice/test/v1", PAYLOAD | {"round": 2}, SIGNATURE),
        (KEY.public, "fedslice/test/v1", PAYLOAD, SIGNATURE.upper()),
        (KEY.public, "fedslice/test/v1", PAYLOAD, SIGNATURE + "\n"),
        (KEY.public, "fedslice/test/v1", PAYLOAD, " " + SIGNATURE),
        (KEY.public, "fedslice/test/v1", PAYLOAD, SIGNATURE[:-2]),
        (KEY.public, "fedslice/test/v1", PAYLOAD, ""),
        (KEY.public.upper(), "fedslice/test/v1", PAYLOAD, SIGNATURE),
        (KEY.public[:-2], "fedslice/test/v1", PAYLOAD, SIGNATURE),
    ],
    # Keys are drawn again in each process; workers that share the tests must call them alike.
    ids=[
        "another key",
        "another domain",
        "another payload",
        "capitals",
        "line feed",
        "space",
        "cut",
        "empty",
        "key in capitals",
        "key cut",
    ],
)
def test_any_other_key_domain_payload_or_spelling_is_refused(
    public: str, domain: str, payload: object, signature: str
) -> None:
    with pytest.raises(Refusal) as refusal:
        verify(public, domain, payload, signature)
    assert refusal.value.code == "sealing.bad_signature"


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 511))
def test_any_flipped_bit_of_a_signature_is_refused(bit: int) -> None:
    raw = bytearray.fromhex(SIGNATURE)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refusal):
        verify(KEY.public, "fedslice/test/v1", PAYLOAD, raw.hex())


def test_a_domain_cannot_run_into_the_payload() -> None:
    with pytest.raises(ValueError, match="not a signature domain"):
        message("fedslice/a\0b", {})
    assert message("a", {}) != message("a/b", {})


def test_keys_come_back_from_their_bytes() -> None:
    assert signing_key(signing_secret(KEY)).public == KEY.public
    again = hpke_key(hpke_secret(HPKE))
    assert again.public == HPKE.public
    assert again.unwrap(hpke.wrap(HPKE.public, b"s" * 32, b"i"), b"i") == b"s" * 32
    assert signing_secret(KEY).hex() not in repr(KEY) and hpke_secret(HPKE).hex() not in repr(HPKE)


@pytest.mark.parametrize("make", [signing_key, hpke_key])
def test_a_private_key_of_another_length_is_refused(make: type) -> None:
    with pytest.raises(Refusal) as refusal:
        make(b"short")  # type: ignore[call-arg]
    assert refusal.value.code == "sealing.bad_key"


def test_wrapped_secrets_are_as_long_as_specified_and_never_alike() -> None:
    one, two = (hpke.wrap(HPKE.public, b"s" * 32, b"info") for _ in range(2))
    assert len(one) == 32 + hpke.WRAP_OVERHEAD and one != two
    assert len(HPKE.public) == 2 * hpke.PUBLIC_BYTES


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8 * (32 + hpke.WRAP_OVERHEAD) - 1))
def test_any_flipped_bit_of_a_wrapped_secret_is_refused(bit: int) -> None:
    raw = bytearray(WRAPPED)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refusal) as refusal:
        HPKE.unwrap(bytes(raw), b"info")
    assert refusal.value.code == "sealing.refused"


WRAPPED = hpke.wrap(HPKE.public, b"s" * 32, b"info")


@pytest.mark.parametrize(
    "wrapped",
    [b"", b"x", WRAPPED[:-1], WRAPPED + b"x", WRAPPED[: hpke.WRAP_OVERHEAD - 16]],
    ids=["empty", "one byte", "cut", "longer", "no content"],
)
def test_a_cut_or_extended_wrapped_secret_is_refused(wrapped: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        HPKE.unwrap(wrapped, b"info")
    assert refusal.value.code == "sealing.refused"


def test_another_info_or_key_does_not_unwrap() -> None:
    for key, info in ((HPKE, b"other"), (HpkeKey.generate(), b"info")):
        with pytest.raises(Refusal):
            key.unwrap(WRAPPED, info)


@pytest.mark.parametrize(
    "public",
    [
        "",
        HPKE.public[:-2],
        HPKE.public.upper(),
        HPKE.public + "00",
        "ff" * hpke.PUBLIC_BYTES,
        HPKE.public[:-64] + "00" * 32,
    ],
    ids=["empty", "short", "capitals", "long", "coefficients beyond q", "small-order point"],
)
def test_an_unusable_public_key_is_refused(public: str) -> None:
    with pytest.raises(Refusal) as refusal:
        hpke.wrap(public, b"s" * 32, b"info")
    assert refusal.value.code == "sealing.bad_key"
