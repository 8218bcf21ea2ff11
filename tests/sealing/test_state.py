"""Sealed state opens for the same program and run under the same key, and tells how far it had come."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from contracts.receipts import NO_RECEIPT
from contracts.refusal import Refusal
from contracts.sealed.frames import FRAME_BYTES
from contracts.sealed.state import MAGIC, OpenedState, StateBinding, seal_state, unseal_state

KEY = bytes(range(32))
BINDING = StateBinding("aggregator", "a" * 64, 4, "b" * 64)


def sealed(data: bytes, binding: StateBinding = BINDING, key: bytes = KEY) -> bytes:
    target = io.BytesIO()
    seal_state(io.BytesIO(data), target, key=key, binding=binding)
    return target.getvalue()


def opened(blob: bytes, **changes: Any) -> tuple[bytes, OpenedState]:
    target = io.BytesIO()
    arguments: dict[str, Any] = {"key": KEY, "program": "aggregator", "manifest": "a" * 64} | changes
    try:
        result = unseal_state(io.BytesIO(blob), target, **arguments)
    except Refusal:
        assert target.getvalue() == b"", "a refused state left something behind"
        raise
    return target.getvalue(), result


def refused(blob: bytes, code: str = "sealing.refused", **changes: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        opened(blob, **changes)
    assert refusal.value.code == code


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES])
def test_state_opens_to_the_same_bytes_and_names_its_round(size: int) -> None:
    data = os.urandom(size)
    blob = sealed(data)
    content, state = opened(blob)
    assert content == data and state.binding == BINDING and state.sealed.bytes == len(blob)


def test_the_opened_name_is_the_one_that_the_receipt_gives() -> None:
    target = io.BytesIO()
    written = seal_state(io.BytesIO(b"state"), target, key=KEY, binding=BINDING)
    assert opened(target.getvalue())[1].sealed == written


def test_an_older_state_says_that_it_is_older() -> None:
    """The host may hand back the state of round 1: it opens, but under another name than the last
    receipt's."""
    first = sealed(b"one", StateBinding("aggregator", "a" * 64, 1, NO_RECEIPT))
    second = sealed(b"two", StateBinding("aggregator", "a" * 64, 2, "c" * 64))
    old, new = opened(first)[1], opened(second)[1]
    assert (old.binding.round, old.binding.receipt) == (1, NO_RECEIPT)
    assert old.sealed.sha256 != new.sealed.sha256


@pytest.mark.parametrize(
    "change", [{"key": bytes(32)}, {"program": "client_slice"}, {"manifest": "b" * 64}], ids=str
)
def test_another_platform_program_or_run_is_refused(change: dict[str, Any]) -> None:
    refused(sealed(b"state"), **change)


def test_two_seals_of_one_state_share_no_key() -> None:
    one, two = sealed(b"state" * 10), sealed(b"state" * 10)
    assert one[-60:] != two[-60:]


BLOB = sealed(b"a small state")


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(8 * len(BLOB)):
        blob = bytearray(BLOB)
        blob[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refusal) as refusal:
            opened(bytes(blob))
        assert refusal.value.code in ("sealing.refused", "sealing.not_sealed", "sealing.too_large")


def test_truncation_anywhere_and_extension_are_refused() -> None:
    for cut in range(len(BLOB)):
        refused(BLOB[:cut], "sealing.not_sealed" if cut < len(MAGIC) else "sealing.refused")
    refused(BLOB + b"\0")


@pytest.mark.parametrize("key", [b"", b"x" * 16, b"x" * 33])
def test_a_sealing_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        sealed(b"x", key=key)
    assert refusal.value.code == "sealing.bad_key"
    refused(sealed(b"x"), "sealing.bad_key", key=key)


def test_a_sealed_stream_is_no_sealed_state(tmp_path: Path) -> None:
    refused(b"fedslice-sealed/1\n" + b"\0" * 100, "sealing.not_sealed")
