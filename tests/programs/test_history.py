"""Which receipts a client slice believes, decided without any process."""

import msgspec
import pytest

from contracts.kept_keys import signing_key
from contracts.previous import Previous
from contracts.receipts import NO_RECEIPT, Receipt, receipt_hash
from contracts.reissue import Reissue
from contracts.sealed.hpke import HpkeKey
from contracts.server_statements import sign_receipt, sign_reissue
from contracts.signing import SigningKey
from enclave.programs.clock import Clock
from enclave.programs.history import History
from enclave.programs.identity import Identity

AGGREGATOR = signing_key(b"a" * 32)
SUCCESSOR = signing_key(b"b" * 32)
OUTPUT = "e" * 64


@pytest.fixture
def manifest(house):
    return house.manifest()


@pytest.fixture
def history(manifest):
    keys = HpkeKey.generate(), SigningKey.generate()
    return History(Identity("client_slice", None, manifest, manifest.hash, Clock(0), *keys, "0" * 64))


@pytest.fixture
def receipt(manifest):
    def receipt(round, previous=NO_RECEIPT, **changes):
        fields = {
            "version": 1,
            "manifest": manifest.hash,
            "run": manifest.run,
            "round": round,
            "roster": "0" * 64,
            "inputs": (),
            "output": OUTPUT,
            "state": None,
            "metrics": {},
            "previous": previous,
            "program": "aggregator",
            "measurement": None,
            "development": True,
            "issued": 1,
        }
        return Receipt(**fields | changes)

    return receipt


def previous(receipt, key=AGGREGATOR, sha256=OUTPUT, reissue=None):
    return Previous(sha256, sign_receipt(receipt, key), reissue)


@pytest.fixture
def fault(history, refusal_of):
    """Why this is refused."""

    def fault(before, round, attested=(AGGREGATOR.public,)):
        refusal = refusal_of(history.check, before, round=round, attested=attested)
        assert refusal.code == "round.wrong_receipt"
        return refusal.facts["fault"]

    return fault


def use(history, before, round):
    history.check(before, round=round, attested=[AGGREGATOR.public])
    history.remember(before.receipt.receipt)


def test_a_receipt_of_an_admitted_aggregator_is_believed(history, receipt):
    before = previous(receipt(1))
    assert history.check(before, round=2, attested=[AGGREGATOR.public]) == AGGREGATOR.public
    assert history.last_hash == NO_RECEIPT, "a check remembers nothing"
    history.remember(before.receipt.receipt)
    assert history.last_hash == receipt_hash(receipt(1))


def test_receipts_of_others_are_not(receipt, fault):
    assert fault(previous(receipt(1), SUCCESSOR), 2) == "no admitted aggregator stands behind it"
    assert fault(previous(receipt(1, manifest="5" * 64)), 2) == "it belongs to another run"
    assert fault(previous(receipt(1, run="run-2")), 2) == "it belongs to another run"
    assert fault(previous(receipt(1, program="split_server")), 2) == "it is not an aggregator's"
    assert fault(previous(receipt(1, output=None)), 2) == "it names another file"
    assert fault(previous(receipt(2)), 2) == "it is not of an earlier round"


def test_a_fork_is_noticed(history, receipt, fault):
    first = previous(receipt(1))
    use(history, first, 2)
    assert fault(previous(receipt(1, issued=2)), 2) == "there are two of that round"
    assert fault(previous(receipt(2, previous="5" * 64)), 3) == "it names another past"
    second = previous(receipt(2, previous=receipt_hash(receipt(1))))
    use(history, second, 3)
    assert fault(first, 3) == "it is older than the last one used here"


def test_a_site_that_missed_rounds_comes_back(history, receipt):
    use(history, previous(receipt(1)), 2)
    use(history, previous(receipt(4, previous="5" * 64)), 5)


def test_a_beginning_is_over_once_a_receipt_was_used(history, receipt, code_of):
    history.check_beginning(1)
    use(history, previous(receipt(1)), 2)
    assert code_of(history.check_beginning, 2) == "round.wrong_receipt"


def test_a_reissue_by_an_admitted_successor_stands_for_a_dead_aggregators_receipt(
    history, manifest, receipt, fault, code_of
):
    def reissued(by=SUCCESSOR, **changes):
        fields = {
            "manifest": manifest.hash,
            "receipt": receipt_hash(receipt(1)),
            "output": "f" * 64,
        } | changes
        return previous(receipt(1), sha256="f" * 64, reissue=sign_reissue(Reissue(**fields), by))

    attested = (SUCCESSOR.public,)
    assert history.check(reissued(), round=2, attested=attested) == SUCCESSOR.public
    assert fault(reissued(by=AGGREGATOR), 2, attested) == "no admitted aggregator stands behind it"
    assert fault(reissued(output="5" * 64), 2, attested) == "it names another file"
    assert fault(reissued(receipt="5" * 64), 2, attested) == "the reissue belongs to another receipt"
    assert fault(reissued(manifest="5" * 64), 2, attested) == "the reissue belongs to another receipt"
    forged = msgspec.structs.replace(reissued().reissue, signature="0" * 128)
    before = msgspec.structs.replace(reissued(), reissue=forged)
    assert code_of(history.check, before, round=2, attested=attested) == "sealing.bad_signature"
