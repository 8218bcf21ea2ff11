"""Sessions: what a relay that owns the line can do to one."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest

from contracts.refusal import Refusal
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.session import ClientHello, Opening, SessionChannel, accept, encode
from contracts.signing import SigningKey

MANIFEST = "a" * 64
SITE_KEY, HPKE, ENCLAVE_KEY = SigningKey.generate(), HpkeKey.generate(), SigningKey.generate()


def hello(manifest: str = MANIFEST, site: str = "anna", key: SigningKey = SITE_KEY) -> ClientHello:
    return ClientHello(
        manifest, site, key, hpke_key=HPKE.public, signing_key=ENCLAVE_KEY.public, receipt="7" * 64
    )


def admitted(opening: Opening) -> tuple[SessionChannel, bytes]:
    return accept(
        opening, manifest=MANIFEST, public_key=SITE_KEY.public, hpke=HPKE, signing_key=ENCLAVE_KEY.public
    )


def pair() -> tuple[SessionChannel, SessionChannel]:
    """(site's end, enclave's end)"""
    asked = hello()
    inside, proof = admitted(asked.opening)
    return asked.finish(inside.name, proof), inside


def refused(code: str) -> pytest.RaisesExc[Refusal]:
    return pytest.RaisesExc(Refusal, check=lambda error: error.code == code)


def test_what_one_end_seals_the_other_opens_in_order() -> None:
    site, inside = pair()
    for number in range(5):
        assert inside.open(site.seal(b"question %d" % number)) == b"question %d" % number
        assert site.open(inside.seal(b"answer %d" % number)) == b"answer %d" % number


@pytest.mark.parametrize("seed", range(20))
def test_a_relay_that_drops_repeats_swaps_or_cuts_is_refused_and_the_honest_order_still_opens(
    seed: int,
) -> None:
    draw = random.Random(seed)
    site, inside = pair()
    contents = [draw.randbytes(draw.randint(0, 200)) for _ in range(6)]
    sealed = [site.seal(content) for content in contents]
    for number, content in enumerate(contents):
        others = [message for place, message in enumerate(sealed) if place != number]
        wrong = [
            draw.choice(others),
            sealed[number][:-1],
            sealed[number][: draw.randint(0, len(sealed[number]) - 1)],
            sealed[number] + b"\0",
            bytes([sealed[number][0] ^ (1 << draw.randint(0, 7))]) + sealed[number][1:],
            b"",
        ]
        for message in wrong:
            with refused("serving.bad_message"):
                inside.open(message)
        with refused("serving.bad_message"):
            inside.open(sealed[number], more=True)
        assert inside.open(sealed[number]) == content


def test_a_message_does_not_pass_for_an_answer_nor_into_another_session() -> None:
    site, inside = pair()
    other_site, other_inside = pair()
    question = site.seal(b"text")
    with refused("serving.bad_message"):
        other_inside.open(question)
    with refused("serving.bad_message"):
        site.open(question)  # sent back
    assert inside.open(question) == b"text"
    with refused("serving.bad_message"):
        other_site.open(inside.seal(b"answer"))


def test_a_replayed_opening_gives_a_session_that_nobody_can_use() -> None:
    asked = hello()
    first, proof = admitted(asked.opening)
    site = asked.finish(first.name, proof)
    question = site.seal(b"text")
    second, second_proof = admitted(asked.opening)
    assert second.name != first.name and second_proof != proof
    with refused("serving.bad_message"):
        second.open(question)
    with refused("serving.bad_message"):
        asked.finish(first.name, second_proof)


def test_an_opening_is_refused_unless_all_of_it_was_signed_by_the_site_for_this_enclave() -> None:
    good, other = hello().opening, SigningKey.generate()
    assert admitted(good)
    wrong = [
        hello(key=other).opening,
        hello(manifest="b" * 64).opening,
        msgspec.structs.replace(good, site="berta"),
        msgspec.structs.replace(good, manifest="b" * 64),
        msgspec.structs.replace(good, enclave=other.public),
        msgspec.structs.replace(good, wrapped=hello().opening.wrapped),
        msgspec.structs.replace(good, wrapped=encode(b"short")),
        msgspec.structs.replace(good, wrapped="***"),
        msgspec.structs.replace(good, signature="0" * 128),
    ]
    for opening in wrong:
        with refused("serving.bad_opening"):
            admitted(opening)


def test_an_opening_for_an_enclave_that_died_opens_nothing_at_its_successor() -> None:
    with refused("serving.bad_opening"):
        accept(
            hello().opening, manifest=MANIFEST, public_key=SITE_KEY.public, hpke=HpkeKey.generate(),
            signing_key=ENCLAVE_KEY.public,
        )  # fmt: skip


def test_no_two_messages_of_a_session_share_a_key_and_nonce() -> None:
    site, inside = pair()
    same = [end.seal(b"the same text") for end in (site, inside) for _ in range(3)]
    assert all(one != other for one, other in itertools.combinations(same, 2))
