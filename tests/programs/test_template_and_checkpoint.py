"""The shapes that an aggregator learns, and state without a sealing key."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.approvals import Approval
from contracts.manifest import KeyShares, Split
from contracts.receipts import NO_RECEIPT, Best, Receipt
from contracts.refusal import Refusal
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.shares import withdraw
from contracts.sealed.state import read_escrow
from enclave.programs.clock import Clock
from enclave.programs.identity import Identity
from enclave.programs.run_checkpoint import load_checkpoint, save_checkpoint
from enclave.programs.sharedkeys import SharedKeys
from enclave.programs.template import learn
from enclave.training.tensors import from_bytes, to_bytes
from enclave_host.mailbox import HostMailbox
from tests.programs.split_house import split_manifest

LAYER = "base_model.model.bert.encoder.layer.0.attention.self.query"
STATE = {
    f"{LAYER}.lora_A.weight": np.ones((4, 32), np.float32),
    f"{LAYER}.lora_B.weight": np.zeros((32, 4), np.float32),
    "base_model.model.classifier.weight": np.ones((2, 32), np.float32),
}
BEST = {name: tensor + 2 for name, tensor in STATE.items()}


@pytest.fixture(scope="module")
def manifest(house):
    return house.manifest()


def file(header: dict, payload: int) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(payload)


def test_a_template_has_names_and_shapes_and_no_values(manifest):
    data = to_bytes(STATE, {"more": 1})
    template = learn(data, manifest)
    assert {name: tensor.shape for name, tensor in template.items()} == {n: t.shape for n, t in STATE.items()}
    assert all(set(tensor.strides) == {0} for tensor in template.values())
    assert from_bytes(data, template)[1] == {"more": 1}


def test_a_causal_model_has_no_head(house):

    manifest = house.manifest()
    model = msgspec.structs.replace(manifest.model, task="causal-lm")
    manifest = msgspec.structs.replace(manifest, model=model)
    with pytest.raises(Refusal) as caught:
        learn(to_bytes(STATE), manifest)
    assert caught.value.code == "tensors.names"


def test_a_header_that_promises_more_than_there_is_is_refused(manifest, code_of):
    line = {"dtype": "F32", "shape": [4, 1 << 30], "data_offsets": [0, 16 << 30]}
    assert code_of(learn, file({f"{LAYER}.lora_A.weight": line}, 64), manifest) == "tensors.unreadable"
    assert code_of(learn, (1 << 40).to_bytes(8, "little") + b"{}", manifest) == "tensors.unreadable"
    assert code_of(learn, b"", manifest) == "tensors.unreadable"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(manifest, data):
    for content in (data, len(data).to_bytes(8, "little") + data):
        with pytest.raises(Refusal):
            learn(content, manifest)


@pytest.fixture(scope="module")
def in_shares(house):
    """A run of Method 2 in which two sites together make the key of the server's state."""
    return split_manifest(house, split=Split(1, shares=KeyShares(2)))


class NoSealingKey:
    """A TEE without a sealing key, as TDX is."""

    name = "tdx"

    def sealing_key(self, label):
        return None


PINS = {"anna": "a" * 64}
ROUND_ONE = (1, "0" * 64, (), None, None, {}, NO_RECEIPT, "split_server", None, False, 1)


@pytest.fixture
def instance(in_shares):
    """A new instance of an enclave in a TEE without a sealing key, with what it holds of its state keys."""

    def start() -> tuple[Identity, SharedKeys]:
        sites = tuple(site.id for site in in_shares.sites)
        known = {site: Approval(sites, "") for site in sites}
        own = (Clock(0), None, None, "0" * 96, known)
        identity = Identity("split_server", NoSealingKey(), in_shares, in_shares.hash, *own)
        return identity, SharedKeys(identity)

    return start


@pytest.fixture
def draft(in_shares) -> Receipt:
    return Receipt(1, in_shares.hash, "run-1", *ROUND_ONE)


def test_a_tee_without_a_sealing_key_keeps_nothing_before_the_sites_can_hold_shares(
    instance, draft, tmp_path, code_of
):
    (identity, keys), box = instance(), HostMailbox.create(tmp_path / "box")
    saved = save_checkpoint(identity, box, keys, draft, STATE, BEST, PINS, {})
    assert (saved.receipt, saved.sealed) == (draft, None)
    keys.meet("anna", HpkeKey.generate().public, None)
    assert save_checkpoint(identity, box, keys, draft, STATE, BEST, PINS, {}).sealed is None, (
        "no site alone holds the key"
    )
    assert list((box.folder / "out").iterdir()) == []


def test_state_without_a_sealing_key_opens_with_the_shares_of_a_quorum_of_sites(
    instance, draft, tmp_path, code_of, in_shares
):
    (identity, keys), box = instance(), HostMailbox.create(tmp_path / "box")
    draft = msgspec.structs.replace(draft, best=Best("1" * 64, 1, 0.5))
    sites = {site.id: HpkeKey.generate() for site in in_shares.sites}
    for site, key in sites.items():
        keys.meet(site, key.public, None)
    sealed = save_checkpoint(identity, box, keys, draft, STATE, BEST, PINS, {}).sealed
    assert sealed is not None
    box.deliver(box.folder / "out" / sealed.sha256, sealed.sha256)
    with (box.folder / "out" / sealed.sha256).open("rb") as file:
        escrow = read_escrow(file)
    assert escrow is not None

    (identity, keys) = instance()
    assert code_of(load_checkpoint, identity, box, keys, sealed.sha256, STATE) == "shares.too_few"
    for site in list(sites)[: escrow.threshold]:
        keys.meet(site, sites[site].public, withdraw(escrow, site, sites[site], in_shares.hash))
    opened = load_checkpoint(identity, box, keys, sealed.sha256, STATE)
    assert (opened.receipt.state, opened.pins) == (sealed.sha256, PINS)
    assert all(np.array_equal(opened.state[name], STATE[name]) for name in STATE)
    assert all(np.array_equal(opened.best[name], BEST[name]) for name in BEST)
    # The next state has another key: whoever had the old shares together knows nothing of it.
    again = save_checkpoint(identity, box, keys, draft, STATE, BEST, PINS, {}).sealed
    with (box.folder / "out" / again.sha256).open("rb") as file:
        assert read_escrow(file).commitment != escrow.commitment


def test_a_share_is_for_its_site_and_its_run_only(instance, draft, tmp_path, code_of, in_shares):
    (_, keys) = instance()
    sites = {site.id: HpkeKey.generate() for site in in_shares.sites}
    for site, key in sites.items():
        keys.meet(site, key.public, None)
    _, escrow = keys.to_seal()
    first, second, *_ = sites
    assert code_of(withdraw, escrow, first, sites[second], in_shares.hash) == "sealing.refused"
    assert code_of(withdraw, escrow, first, sites[first], "0" * 64) == "sealing.refused"
    assert code_of(withdraw, escrow, "stranger", sites[first], in_shares.hash) == "shares.not_ours"


@pytest.mark.parametrize("named,held", ((True, False), (False, True)))
def test_state_that_holds_no_best_parameters_where_its_receipt_names_some_is_refused_and_the_other_way_round(
    named, held, instance, draft, tmp_path, code_of, in_shares
):
    (identity, keys), box = instance(), HostMailbox.create(tmp_path / "box")
    if named:
        draft = msgspec.structs.replace(draft, best=Best("1" * 64, 1, 0.5))
    sites = {site.id: HpkeKey.generate() for site in in_shares.sites}
    for site, key in sites.items():
        keys.meet(site, key.public, None)
    sealed = save_checkpoint(
        identity, box, keys, draft, STATE, BEST if held else None, PINS, {}
    ).sealed.sha256
    box.deliver(box.folder / "out" / sealed, sealed)
    with (box.folder / "out" / sealed).open("rb") as file:
        escrow = read_escrow(file)
    (identity, keys) = instance()
    for site, key in sites.items():
        keys.meet(site, key.public, withdraw(escrow, site, key, in_shares.hash))
    assert code_of(load_checkpoint, identity, box, keys, sealed, STATE) == "sealing.refused"
