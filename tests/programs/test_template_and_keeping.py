"""The shapes that an aggregator learns, and state without a sealing key."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.errors import Refusal
from enclave.programs.clock import Clock
from enclave.programs.identity import Identity
from enclave.programs.keeping import keep, unkeep
from enclave.programs.mailbox import Mailbox
from enclave.programs.template import learn
from enclave.sealing.receipts import NO_RECEIPT, Receipt
from enclave.training.tensors import from_bytes, to_bytes

LAYER = "base_model.model.bert.encoder.layer.0.attention.self.query"
STATE = {
    f"{LAYER}.lora_A.weight": torch.ones(4, 32),
    f"{LAYER}.lora_B.weight": torch.zeros(32, 4),
    "base_model.model.classifier.weight": torch.ones(2, 32),
}


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
    assert all(tensor.is_meta for tensor in template.values())
    assert from_bytes(data, template)[1] == {"more": 1}


def test_a_causal_model_has_no_head(house):
    import msgspec

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


class NoSealingKey:
    """A TEE without a sealing key, as TDX is."""

    name = "tdx"

    def sealing_key(self, label):
        return None


def test_a_tee_without_a_sealing_key_keeps_nothing_and_says_so(manifest, tmp_path, code_of):
    identity = Identity("aggregator", NoSealingKey(), manifest, manifest.hash, Clock(0), None, None, "0" * 96)
    box = Mailbox.create(tmp_path / "box")
    draft = Receipt(
        1, manifest.hash, "run-1", 1, "0" * 64, (), None, None, {}, NO_RECEIPT, "aggregator", None, False, 1
    )
    kept = keep(identity, box, draft, STATE)
    assert (kept.receipt, kept.sealed) == (draft, None)
    assert list((box.folder / "out").iterdir()) == []
    assert code_of(unkeep, identity, box, "0" * 64) == "state.unavailable"
