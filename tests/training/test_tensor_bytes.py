"""Tuned parameters as bytes: the same bytes for the same state, and nothing unexpected comes back in."""

from __future__ import annotations

import json
import pickle
import tracemalloc

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.canonical import canonical
from contracts.refusal import Refusal
from contracts.sealed.frames import read_exactly
from enclave.training import tensors
from enclave.training.tensors import State, from_bytes, to_bytes

TEMPLATE = {"a.weight": np.zeros((2, 3), np.float32), "b.bias": np.zeros(4, np.float32)}


def state() -> State:
    return {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b.bias": np.array([0.5, -0.0, 1e-40, 3e38], np.float32),
    }


def refused(data: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        from_bytes(data, TEMPLATE)
    return caught.value.code


def test_a_state_and_its_metadata_come_back_bit_for_bit() -> None:
    found, metadata = from_bytes(to_bytes(state(), {"samples": 700, "scores": {"rows": 3}}), TEMPLATE)
    assert metadata == {"samples": 700, "scores": {"rows": 3}}
    assert list(found) == list(TEMPLATE)
    assert all(found[name].tobytes() == tensor.tobytes() for name, tensor in state().items())


def test_the_same_state_gives_the_same_bytes_whatever_its_order() -> None:
    turned = dict(reversed(list(state().items())))
    assert to_bytes(state(), {"x": 1, "y": 2}) == to_bytes(turned, {"y": 2, "x": 1})


def test_a_transposed_view_is_written_as_it_looks() -> None:
    view = np.arange(6, dtype=np.float32).reshape(3, 2).T
    found, _ = from_bytes(to_bytes({**state(), "a.weight": view}), TEMPLATE)
    assert np.array_equal(found["a.weight"], view)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"c": np.zeros(1, np.float32)}, "tensors.names"),
        ({"a.weight": np.zeros((3, 2), np.float32)}, "tensors.shape"),
        ({"a.weight": np.zeros(6, np.float32)}, "tensors.shape"),
        ({"b.bias": np.zeros(4)}, "tensors.dtype"),
        ({"b.bias": np.zeros(4, np.float16)}, "tensors.dtype"),
        ({"b.bias": np.array([0, np.nan, 0, 0], np.float32)}, "tensors.not_finite"),
        ({"b.bias": np.array([0, 0, 0, -np.inf], np.float32)}, "tensors.not_finite"),
    ],
)
def test_whatever_differs_from_the_template_is_refused(changed: dict, code: str) -> None:
    assert refused(safetensors.numpy.save({**state(), **changed}, {"fedslice": "{}"})) == code


def test_no_other_number_type_is_written() -> None:
    with pytest.raises(AssertionError):
        to_bytes({"b.bias": np.zeros(4)})


def test_a_number_type_that_numpy_does_not_have_is_refused() -> None:
    half = {name: torch.from_numpy(tensor).bfloat16() for name, tensor in state().items()}
    assert refused(safetensors.torch.save(half, {"fedslice": "{}"})) == "tensors.dtype"


def test_the_bytes_are_those_that_torch_would_write() -> None:
    """Whoever opens a state or a released adapter need not know which program wrote it."""
    tensors = {name: torch.from_numpy(tensor) for name, tensor in state().items()}
    assert to_bytes(state()) == safetensors.torch.save(tensors, {"fedslice": "{}"})


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(
    lambda name: name != "__metadata__"
)
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(NAMES, SHAPES, max_size=4), st.dictionaries(st.text(max_size=4), st.floats(0, 1)))
def test_whatever_is_written_is_what_the_formats_library_writes(
    named: dict[str, tuple[int, ...]], metadata: dict[str, float]
) -> None:
    numbers = np.random.default_rng(len(named))
    drawn = {name: numbers.normal(size=shape).astype(np.float32) for name, shape in named.items()}
    data = safetensors.numpy.save(
        {name: np.asarray(tensor) for name, tensor in drawn.items()},
        {"fedslice": canonical(metadata).decode()},
    )
    assert to_bytes(drawn, metadata) == data
    found, read = from_bytes(data, tensors.shapes(drawn))
    assert read == metadata and list(found) == list(drawn)
    assert all(np.array_equal(found[name], tensor) for name, tensor in drawn.items())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 50))
def test_a_state_read_as_a_file_gives_the_same_bytes(size: int) -> None:
    file = tensors.as_file(state(), {"samples": 1})
    assert b"".join(iter(lambda: read_exactly(file, size), b"")) == to_bytes(state(), {"samples": 1})


def test_reading_copies_no_number_and_writing_as_a_file_neither() -> None:
    large = {f"{number}.weight": np.ones((1024, 1024), np.float32) for number in range(8)}
    data, template = to_bytes(large), tensors.shapes(large)
    tracemalloc.start()
    from_bytes(data, template)
    file = tensors.as_file(large)
    while read_exactly(file, 1 << 20):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < len(data) / 4  # one tensor's table of what is finite


def test_a_missing_tensor_is_refused() -> None:
    assert refused(to_bytes({"a.weight": state()["a.weight"]})) == "tensors.names"


def test_pickle_and_other_bytes_are_refused() -> None:
    for data in (b"", b"\x00" * 8, b"\xff" * 64, pickle.dumps(state()), to_bytes(state())[:-1]):
        assert refused(data) == "tensors.unreadable"


def test_a_file_without_our_metadata_is_refused() -> None:
    assert refused(safetensors.numpy.save(state())) == "tensors.unreadable"
    assert refused(safetensors.numpy.save(state(), {"fedslice": "[1]"})) == "tensors.unreadable"


def test_two_tensors_of_one_name_are_refused() -> None:
    data = to_bytes(state())
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].decode()
    twice = (header.rstrip()[:-1] + "," + json.dumps({"b.bias": json.loads(header)["b.bias"]})[1:]).encode()
    assert refused(len(twice).to_bytes(8, "little") + twice + data[8 + length :]) == "tensors.unreadable"


def test_too_many_bytes_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgspec.json, "decode", lambda *_, **__: pytest.fail("parsed"))
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
