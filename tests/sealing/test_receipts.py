"""A chain of receipts shows what was aggregated in which order by which key, and every break in it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import (
    NO_RECEIPT,
    RECEIPT_DOMAIN,
    InstanceCount,
    Receipt,
    ReceiptInput,
    SignedReceipt,
    receipt_hash,
    verify_receipt,
)
from contracts.refusal import Refusal
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey

KEY, NEXT_KEY = SigningKey.generate(), SigningKey.generate()


def receipt(number: int, previous: str = NO_RECEIPT, **changes: Any) -> Receipt:
    values: dict[str, Any] = {
        "version": 1,
        "manifest": "a" * 64,
        "run": "run-1",
        "round": number,
        "roster": "b" * 64,
        "inputs": (ReceiptInput("site-a", "c" * 64, 10, 5), ReceiptInput("site-b", "d" * 64, 10, 7)),
        "output": "e" * 64,
        "state": "f" * 64,
        "metrics": {
            "pooled": {"accuracy": 0.5, "loss": 1.0, "n": 12},
            "test": {"confusion": [[1, 2]], "truth": [3, 0.5]},
        },
        "previous": previous,
        "program": "aggregator",
        "measurement": "1" * 64,
        "development": True,
        "issued": 1_800_000_000,
    }
    return Receipt(**values | changes)


def chain(*changes: dict[str, Any], keys: list[SigningKey] | None = None) -> list[SignedReceipt]:
    """Receipts of rounds 1, 2, …, each naming the one before, with changes."""
    made: list[SignedReceipt] = []
    for index, change in enumerate(changes):
        previous = receipt_hash(made[-1].receipt) if made else NO_RECEIPT
        key = keys[index] if keys else KEY
        made.append(sign_receipt(receipt(index + 1, **{"previous": previous} | change), key))
    return made


def broken(receipts: list[SignedReceipt], fault: str, **named: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        verify_chain(receipts, **named)
    assert refusal.value.code == "receipt.chain_broken"
    assert fault in str(refusal.value.facts["fault"])


def test_a_whole_chain_holds_and_ends_in_its_last_hash() -> None:
    receipts = chain({}, {}, {})
    assert verify_chain(receipts, manifest="a" * 64, attested={KEY.public}) == receipt_hash(
        receipts[-1].receipt
    )
    assert verify_chain([]) == NO_RECEIPT
    after = receipt_hash(receipts[0].receipt)
    assert verify_chain(receipts[1:], after=after) == receipt_hash(receipts[-1].receipt)


def test_a_round_that_was_abandoned_may_be_missing() -> None:
    verify_chain(chain({}, {"round": 3}))


def test_a_removed_first_middle_or_exchanged_receipt_breaks_the_chain() -> None:
    one, two, three = chain({}, {}, {})
    for receipts in ([two, three], [one, three], [two, one, three], [one, one, two]):
        broken(receipts, "another previous receipt")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"previous": "0" * 63 + "1"}, "another previous receipt"),
        ({"round": 1}, "not later"),
        ({"manifest": "b" * 64}, "another run"),
        ({"run": "run-2"}, "another run"),
        ({"program": "split_server"}, "another program"),
        ({"development": False}, "development mark"),
        ({"measurement": "2" * 64}, "measurement changed"),
        ({"restarts": 1}, "kept the signing key"),
    ],
    ids=str,
)
def test_what_may_not_change_along_a_chain(change: dict[str, Any], fault: str) -> None:
    broken(chain({}, change), fault)


def test_the_key_changes_with_a_stated_restart_only() -> None:
    broken(chain({}, {}, keys=[KEY, NEXT_KEY]), "without a restart")
    restarted = chain({}, {"restarts": 1}, {"restarts": 1}, keys=[KEY, NEXT_KEY, NEXT_KEY])
    verify_chain(restarted, attested={KEY.public, NEXT_KEY.public})
    broken(restarted, "never attested", attested={KEY.public})
    broken(chain({"restarts": 1}, {"restarts": 0}), "went back")


def test_the_features_that_a_site_is_held_to_stay_and_sites_may_come() -> None:
    first, later = (InstanceCount("anna", 1, None, letter * 64) for letter in "ef")
    other = InstanceCount("berta", 1, None, "d" * 64)
    verify_chain(chain({"instances": (first,)}, {"instances": (first, other)}))
    for instances in ((later,), (InstanceCount("anna", 1, None),)):
        broken(chain({"instances": (first,)}, {"instances": instances}), "features are others")


def test_a_chain_of_another_manifest_is_refused() -> None:
    broken(chain({}), "another manifest", manifest="b" * 64)


def test_a_changed_receipt_loses_its_signature() -> None:
    signed = chain({})[0]
    for name, value in {"output": "0" * 64, "issued": 5, "metrics": {}, "inputs": ()}.items():
        changed = msgspec.structs.replace(
            signed, receipt=msgspec.structs.replace(signed.receipt, **{name: value})
        )
        with pytest.raises(Refusal) as refusal:
            verify_receipt(changed)
        assert refusal.value.code == "sealing.bad_signature"


def test_metrics_survive_json_whatever_writes_it() -> None:
    signed = chain({})[0]
    rewritten = json.dumps(json.loads(msgspec.json.encode(signed)), indent=2).encode()
    assert parse_receipt(rewritten) == signed
    assert receipt_hash(parse_receipt(rewritten).receipt) == receipt_hash(signed.receipt)
    assert parse_receipt(msgspec.to_builtins(signed)) == signed


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"note": "text"}},
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"n": 2**53 + 1}},
        {"metrics": {"pooled": {"loss": {"a": 1}}}},
        {"metrics": {"pooled": {"note": "text"}}},
        {"metrics": {"pooled": {"rows": [[["text"]]]}}},
        {"metrics": {"pooled": {"rows": [[[1]]]}}},
        {"metrics": {"loss": 0.5}},
        {"metrics": {"pooled": [0.4]}},
        {"metrics": {"pooled": {"loss": None}}},
        {"inputs": (ReceiptInput("site-b", "c" * 64, 1, 1), ReceiptInput("site-a", "d" * 64, 1, 1))},
        {"inputs": (ReceiptInput("site-a", "c" * 64, 1, 1), ReceiptInput("site-a", "d" * 64, 1, 1))},
        {"round": 0},
        {"measurement": "1" * 65},
        {"issued": -1},
        {"output": "E" * 64},
    ],
    ids=str,
)
def test_a_receipt_that_breaks_its_rules_is_neither_signed_nor_read(change: dict[str, Any]) -> None:
    bad = receipt(1, **change)
    with pytest.raises(Refusal) as refusal:
        sign_receipt(bad, KEY)
    assert refusal.value.code == "receipt.invalid"
    with pytest.raises(Refusal) as refusal:
        verify_receipt(SignedReceipt(bad, KEY.public, "0" * 128))
    assert refusal.value.code == "receipt.invalid"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b"x" * (1 << 21), {"receipt": {}}], ids=lambda d: str(d)[:9]
)
def test_what_is_no_receipt_is_refused(data: bytes | dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_receipt(data)
    assert refusal.value.code == "receipt.invalid"


def test_an_unknown_field_is_refused() -> None:
    signed = msgspec.to_builtins(chain({})[0])
    signed["receipt"]["more"] = 1
    with pytest.raises(Refusal) as refusal:
        parse_receipt(signed)
    assert refusal.value.code == "receipt.invalid"


def test_a_signature_of_another_domain_is_no_receipt() -> None:
    assert RECEIPT_DOMAIN == "fedslice/receipt/v1"
    body = receipt(1)
    with pytest.raises(Refusal) as refusal:
        verify_receipt(SignedReceipt(body, KEY.public, KEY.sign("fedslice/roster/v1", body)))
    assert refusal.value.code == "sealing.bad_signature"
