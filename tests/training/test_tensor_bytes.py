"""Tuned parameters as bytes: the same bytes for the same state, and nothing unexpected comes back in."""

from __future__ import annotations

import json
import pickle

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.refusal import Refusal
from enclave.training import tensors
from enclave.training.tensors import from_bytes, to_bytes

TEMPLATE = {"a.weight": torch.zeros(2, 3), "b.bias": torch.zeros(4)}


def state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.tensor([0.5, -0.0, 1e-40, 3e38])}


def refused(data: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        from_bytes(data, TEMPLATE)
    return caught.value.code


def test_a_state_and_its_metadata_come_back_bit_for_bit() -> None:
    found, metadata = from_bytes(to_bytes(state(), {"samples": 700, "scores": {"rows": 3}}), TEMPLATE)
    assert metadata == {"samples": 700, "scores": {"rows": 3}}
    assert list(found) == list(TEMPLATE)
    assert all(found[name].numpy().tobytes() == tensor.numpy().tobytes() for name, tensor in state().items())


def test_the_same_state_gives_the_same_bytes_whatever_its_order() -> None:
    turned = dict(reversed(list(state().items())))
    assert to_bytes(state(), {"x": 1, "y": 2}) == to_bytes(turned, {"y": 2, "x": 1})


def test_a_transposed_view_is_written_as_it_looks() -> None:
    view = torch.arange(6.0).reshape(3, 2).T
    found, _ = from_bytes(to_bytes({**state(), "a.weight": view}), TEMPLATE)
    assert torch.equal(found["a.weight"], view)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"c": torch.zeros(1)}, "tensors.names"),
        ({"a.weight": torch.zeros(3, 2)}, "tensors.shape"),
        ({"a.weight": torch.zeros(6)}, "tensors.shape"),
        ({"b.bias": torch.zeros(4, dtype=torch.float64)}, "tensors.dtype"),
        ({"b.bias": torch.zeros(4, dtype=torch.bfloat16)}, "tensors.dtype"),
        ({"b.bias": torch.tensor([0, float("nan"), 0, 0])}, "tensors.not_finite"),
        ({"b.bias": torch.tensor([0, 0, 0, float("-inf")])}, "tensors.not_finite"),
    ],
)
def test_whatever_differs_from_the_template_is_refused(changed: dict, code: str) -> None:
    assert refused(to_bytes({**state(), **changed})) == code


def test_a_missing_tensor_is_refused() -> None:
    assert refused(to_bytes({"a.weight": state()["a.weight"]})) == "tensors.names"


def test_pickle_and_other_bytes_are_refused() -> None:
    for data in (b"", b"\x00" * 8, b"\xff" * 64, pickle.dumps(state()), to_bytes(state())[:-1]):
        assert refused(data) == "tensors.unreadable"


def test_a_file_without_our_metadata_is_refused() -> None:
    assert refused(safetensors.torch.save(state())) == "tensors.unreadable"
    assert refused(safetensors.torch.save(state(), {"fedslice": "[1]"})) == "tensors.unreadable"


def test_two_tensors_of_one_name_are_refused() -> None:
    data = to_bytes(state())
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].decode()
    twice = (header.rstrip()[:-1] + "," + json.dumps({"b.bias": json.loads(header)["b.bias"]})[1:]).encode()
    assert refused(len(twice).to_bytes(8, "little") + twice + data[8 + length :]) == "tensors.unreadable"


def test_too_many_bytes_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors.torch, "load", lambda data: pytest.fail("parsed"))
    monkeypatch.setattr(tensors, "MAX_METADATA_BYTES", 1000)
    assert refused(to_bytes(state(), {"padding": "x" * 5000})) == "tensors.too_large"


@settings(deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_still_has_the_templates_form(data: st.DataObject) -> None:
    raw = bytearray(to_bytes(state(), {"samples": 1}))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        found, _ = from_bytes(bytes(raw), TEMPLATE)
    except Refusal as refusal:
        assert refusal.code.startswith("tensors.")
    else:
        assert {name: tensor.shape for name, tensor in found.items()} == {
            name: tensor.shape for name, tensor in TEMPLATE.items()
        }
