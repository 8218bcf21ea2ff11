"""Time as the host tells it, and nonces that are drawn inside."""

import pytest

from contracts.refusal import Refusal
from enclave.programs import nonces as nonces_module
from enclave.programs.clock import Clock
from enclave.programs.nonces import LIFETIME_SECONDS, MAX_OUTSTANDING, Nonces


def reported(monkeypatch, seconds):
    monkeypatch.setattr("enclave.programs.clock.time.time", lambda: seconds)


def spend_code(nonces, *args):
    with pytest.raises(Refusal) as caught:
        nonces.spend(*args)
    return caught.value.code


def test_a_clock_below_the_manifests_floor_is_refused(monkeypatch):
    reported(monkeypatch, 999.9)
    with pytest.raises(Refusal) as caught:
        Clock(1000).now()
    assert caught.value.code == "program.clock_below_floor"
    reported(monkeypatch, 1000.0)
    assert Clock(1000).now() == 1000


def test_a_clock_never_turns_back(monkeypatch):
    clock = Clock(0)
    reported(monkeypatch, 2000)
    assert clock.now() == 2000
    reported(monkeypatch, 1500)
    assert clock.now() == 2000
    reported(monkeypatch, 2001)
    assert clock.now() == 2001


def test_a_nonce_is_spent_once():
    nonces = Nonces()
    nonce = nonces.draw("site", 0)
    nonces.spend(nonce, "site", 1)
    assert spend_code(nonces, nonce, "site", 1) == "program.nonce_unknown"


def test_a_nonce_serves_its_purpose_only_and_is_gone_after_a_wrong_try():
    nonces = Nonces()
    nonce = nonces.draw("site-a", 0)
    assert spend_code(nonces, nonce, "site-b", 1) == "program.nonce_unknown"
    assert spend_code(nonces, nonce, "site-a", 1) == "program.nonce_unknown"


def test_a_nonce_expires():
    nonces = Nonces()
    nonce = nonces.draw("site", 100)
    assert spend_code(nonces, nonce, "site", 100 + LIFETIME_SECONDS) == "program.nonce_unknown"


def test_an_invented_nonce_is_refused_also_for_no_purpose():
    assert spend_code(Nonces(), "00" * 32, "", 0) == "program.nonce_unknown"


def test_challenges_do_not_fill_the_memory():
    nonces = Nonces()
    first = nonces.draw("site", 0)
    for _ in range(MAX_OUTSTANDING):
        nonces.draw("site", 0)
    assert len(nonces._drawn) == nonces_module.MAX_OUTSTANDING
    assert spend_code(nonces, first, "site", 0) == "program.nonce_unknown"
