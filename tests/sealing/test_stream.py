"""Sealed streams open for whom and what they were made for, and for nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.canonical import canonical
from contracts.refusal import Refusal
from contracts.sealed import stream
from contracts.sealed.frames import FRAME_BYTES, TAG_BYTES, Sink, encrypt_frames
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.stream import Binding, seal, unseal
from contracts.signing import SigningKey

SENDER, OTHER_SENDER = SigningKey.generate(), SigningKey.generate()
KEY, OTHER_KEY = HpkeKey.generate(), HpkeKey.generate()
BINDING = Binding(manifest="a" * 64, round=3, kind="update", sender="st-anna")


def sealed(data: bytes, **changes: Any) -> bytes:
    target = io.BytesIO()
    arguments: dict[str, Any] = {
        "binding": BINDING,
        "recipients": {"aggregator": KEY.public},
        "signer": SENDER,
    } | changes
    seal(io.BytesIO(data), target, **arguments)
    return target.getvalue()


def opened(blob: bytes, **changes: Any) -> bytes:
    target = io.BytesIO()
    arguments: dict[str, Any] = {
        "binding": BINDING,
        "recipient": "aggregator",
        "key": KEY,
        "sender_key": SENDER.public,
    } | changes
    try:
        unseal(io.BytesIO(blob), target, **arguments)
    except Refusal:
        assert target.getvalue() == b"", "a refused stream left something behind"
        raise
    return target.getvalue()


def refused(blob: bytes, code: str = "sealing.refused", **changes: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        opened(blob, **changes)
    assert refusal.value.code == code


SIZES = [0, 1, 100, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES, 2 * FRAME_BYTES + 77]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_opens_to_the_same_bytes(size: int) -> None:
    data = os.urandom(size)
    blob = sealed(data)
    assert opened(blob, sha256=hashlib.sha256(blob).hexdigest()) == data


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 700))
def test_sources_that_give_little_at_a_time_are_read_whole(data: bytes, step: int) -> None:
    class Trickle(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            return super().readinto(memoryview(buffer)[:step])

    target, result = io.BytesIO(), io.BytesIO()
    seal(Trickle(data), target, binding=BINDING, recipients={"a": KEY.public}, signer=SENDER)
    unseal(
        Trickle(target.getvalue()), result, binding=BINDING, recipient="a", key=KEY, sender_key=SENDER.public
    )
    assert result.getvalue() == data


def test_sources_that_give_little_at_a_time_work_too() -> None:
    class Reader:
        def __init__(self, data: bytes) -> None:
            self.file = io.BytesIO(data)

        def readinto(self, buffer: memoryview) -> int:
            return self.file.readinto(buffer[:4711])

        def read(self, size: int) -> bytes:
            return self.file.read(min(size, 4711))

    data, target, result = os.urandom(FRAME_BYTES + 5), io.BytesIO(), io.BytesIO()
    recipients = {"a": KEY.public}
    seal(cast(BinaryIO, Reader(data)), target, binding=BINDING, recipients=recipients, signer=SENDER)
    blob = cast(BinaryIO, Reader(target.getvalue()))
    unseal(blob, result, binding=BINDING, recipient="a", key=KEY, sender_key=SENDER.public)
    assert result.getvalue() == data


def test_every_receiver_opens_it_and_nobody_else() -> None:
    blob = sealed(b"next", recipients={"a": KEY.public, "b": OTHER_KEY.public})
    assert opened(blob, recipient="a") == opened(blob, recipient="b", key=OTHER_KEY) == b"next"
    refused(blob, recipient="a", key=OTHER_KEY)
    refused(blob, recipient="b")
    refused(blob, recipient="c")


@pytest.mark.parametrize(
    "change",
    [{"manifest": "b" * 64}, {"round": 4}, {"round": 2}, {"kind": "next"}, {"sender": "st-berta"}],
    ids=str,
)
def test_a_replay_into_another_binding_is_refused(change: dict[str, Any]) -> None:
    refused(sealed(b"update"), binding=msgspec.structs.replace(BINDING, **change))


def test_a_stream_of_another_sender_is_refused() -> None:
    refused(sealed(b"update", signer=OTHER_SENDER))
    refused(sealed(b"update"), sender_key=OTHER_SENDER.public)


def test_a_stream_with_another_name_than_the_roster_gives_is_refused() -> None:
    first, second = sealed(b"one"), sealed(b"one")
    refused(first, sha256=hashlib.sha256(second).hexdigest())


def parts(blob: bytes) -> tuple[int, list[int]]:
    """Where the frames begin, and where each of them does."""
    start = len(stream.MAGIC)
    at = start + 4 + int.from_bytes(blob[start : start + 4], "big") + stream.SIGNATURE_BYTES
    first, places = at, []
    while at < len(blob) - stream.SIGNATURE_BYTES:
        places.append(at)
        at += 4 + (int.from_bytes(blob[at : at + 4], "big") & 0x7FFFFFFF) + TAG_BYTES
    return first, places


def test_truncation_at_every_boundary_is_refused() -> None:
    blob = sealed(os.urandom(2 * FRAME_BYTES + 5))
    first, places = parts(blob)
    assert len(places) == 3
    boundaries = [
        0,
        1,
        len(stream.MAGIC),
        len(stream.MAGIC) + 4,
        first - stream.SIGNATURE_BYTES,
        first,
        *places,
    ]
    boundaries += [at + 4 for at in places] + [len(blob) - stream.SIGNATURE_BYTES, len(blob) - 1]
    for cut in {cut + off for cut in boundaries for off in (-1, 0, 1) if 0 <= cut + off < len(blob)}:
        refused(blob[:cut], "sealing.not_sealed" if cut < len(stream.MAGIC) else "sealing.refused")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.data())
def test_truncation_anywhere_is_refused(size: int, data: st.DataObject) -> None:
    blob = sealed(b"x" * size)
    cut = data.draw(st.integers(len(stream.MAGIC), len(blob) - 1))
    refused(blob[:cut])


def test_a_flipped_bit_in_any_byte_is_refused() -> None:
    honest = sealed(b"a short update")
    for place in range(len(honest)):
        for bit in (place % 8, (place * 5 + 3) % 8):
            blob = bytearray(honest)
            blob[place] ^= 1 << bit
            with pytest.raises(Refusal) as refusal:
                opened(bytes(blob))
            assert refusal.value.code in ("sealing.refused", "sealing.not_sealed", "sealing.too_large")


def test_extension_reordering_dropping_and_repeating_frames_are_refused() -> None:
    blob = sealed(os.urandom(3 * FRAME_BYTES))
    first, places = parts(blob)
    ends = [*places[1:], len(blob) - stream.SIGNATURE_BYTES]
    a, b, c = (blob[begin:end] for begin, end in zip(places, ends, strict=True))
    head, tail = blob[:first], blob[-stream.SIGNATURE_BYTES :]
    assert opened(head + a + b + c + tail)
    for frames in ([b, a, c], [a, c], [a, a, b, c], [a, b], [a, b, c, c], [c], [a, b, b]):
        refused(head + b"".join(frames) + tail)
    refused(blob + b"\0")
    refused(blob + blob)


def test_equal_frames_look_different_within_a_stream_and_between_streams() -> None:
    """Each frame has a nonce of its own, each stream a key: else the XOR of two frames would show."""
    cut = [
        blob[place + 4 : place + 1000]
        for blob in (sealed(bytes(4 * FRAME_BYTES)), sealed(bytes(4 * FRAME_BYTES)))
        for place in parts(blob)[1]
    ]
    assert len(set(cut)) == 8


def test_frames_of_one_stream_do_not_fit_another_of_the_same_sender() -> None:
    one, two = sealed(b"1" * 50), sealed(b"2" * 50)
    at = parts(one)[0]
    refused(one[:at] + two[at:])


def into(target: BinaryIO) -> Sink:
    return lambda *chunks: target.writelines(chunks)


def test_a_receiver_who_knows_the_data_key_cannot_rewrite_the_stream_for_another() -> None:
    """The sender's signature covers the ciphertext, not the header alone."""
    honest = sealed(b"honest", recipients={"aggregator": KEY.public, "b": OTHER_KEY.public})
    first, _ = parts(honest)
    start = len(stream.MAGIC)
    header = msgspec.json.decode(honest[start + 4 : first - stream.SIGNATURE_BYTES], type=stream.StreamHeader)
    wrapped = header.recipients["b"]
    data_key = OTHER_KEY.unwrap(wrapped, stream._info(BINDING, SENDER.public, "b"))
    context = hashlib.sha256(honest[: first - stream.SIGNATURE_BYTES]).digest()
    forged = io.BytesIO()
    key = stream._derive(data_key)[0]
    encrypt_frames(io.BytesIO(b"forged"), into(forged), key=key, context=context)
    refused(honest[:first] + forged.getvalue() + honest[-stream.SIGNATURE_BYTES :])


def test_one_stream_cannot_hold_two_data_keys() -> None:
    """A sender cannot show two receivers different plaintexts under one name: each key must fit the
    commitment."""
    blob = sealed(b"data")
    first, _ = parts(blob)
    start = len(stream.MAGIC)
    header = msgspec.json.decode(blob[start + 4 : first - stream.SIGNATURE_BYTES], type=stream.StreamHeader)
    raw = canonical(msgspec.structs.replace(header, commitment="0" * 64))
    prefix = stream.MAGIC + len(raw).to_bytes(4, "big") + raw
    signature = SENDER.sign(stream.HEADER_DOMAIN, {"header": hashlib.sha256(prefix).hexdigest()})
    data_key = KEY.unwrap(header.recipients["aggregator"], stream._info(BINDING, SENDER.public, "aggregator"))
    body = io.BytesIO()
    body.write(prefix + bytes.fromhex(signature))
    context = hashlib.sha256(prefix).digest()
    total = encrypt_frames(io.BytesIO(b"data"), into(body), key=stream._derive(data_key)[0], context=context)
    closing = stream._closing(context, total, hashlib.sha256(body.getvalue()).hexdigest())
    body.write(bytes.fromhex(SENDER.sign(stream.STREAM_DOMAIN, closing)))
    refused(body.getvalue())


def test_no_key_is_used_before_the_header_is_authentic_and_the_expected_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> bytes:
        raise AssertionError("the key was used on a header that is not to be believed")

    blob = bytearray(sealed(b"x"))
    monkeypatch.setattr(HpkeKey, "unwrap", fail)
    refused(bytes(blob), binding=msgspec.structs.replace(BINDING, round=9))
    refused(sealed(b"x", signer=OTHER_SENDER))
    blob[parts(bytes(blob))[0] - 1] ^= 1  # the last byte of the header's signature
    refused(bytes(blob))


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"PK\x03\x04" + b"\0" * 50, stream.MAGIC[:-2]])
def test_what_is_no_sealed_stream_has_its_own_code(garbage: bytes) -> None:
    refused(garbage, "sealing.not_sealed")


def test_an_oversized_header_is_refused_before_it_is_read() -> None:
    class Watched(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            assert len(buffer) <= 1 << 20
            return super().readinto(buffer)

    with pytest.raises(Refusal) as refusal:
        unseal(
            cast(BinaryIO, Watched(stream.MAGIC + b"\xff\xff\xff\xff" + b"\0" * 100)),
            io.BytesIO(),
            binding=BINDING,
            recipient="aggregator",
            key=KEY,
            sender_key=SENDER.public,
        )
    assert refusal.value.code == "sealing.too_large"


def test_more_plaintext_than_the_limit_is_refused_and_taken_back() -> None:
    blob = sealed(b"x" * (FRAME_BYTES + 10))
    assert len(opened(blob, limit=FRAME_BYTES + 10)) == FRAME_BYTES + 10
    refused(blob, "sealing.too_large", limit=FRAME_BYTES + 9)


def test_a_refusal_takes_back_only_what_it_wrote(tmp_path: Path) -> None:
    blob = sealed(os.urandom(FRAME_BYTES + 10))
    path = tmp_path / "target"
    with path.open("w+b") as target:
        target.write(b"before")
        with pytest.raises(Refusal):
            unseal(
                io.BytesIO(blob[:-1]),
                target,
                binding=BINDING,
                recipient="aggregator",
                key=KEY,
                sender_key=SENDER.public,
            )
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("recipients", [{}, {f"s{n}": KEY.public for n in range(1001)}], ids=["none", "1001"])
def test_a_stream_for_nobody_or_for_too_many_is_refused(recipients: dict[str, str]) -> None:
    with pytest.raises(Refusal) as refusal:
        sealed(b"x", recipients=recipients)
    assert refusal.value.code == "sealing.too_many_recipients"


def measured(act: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_64_mib_are_sealed_and_opened_in_constant_memory(tmp_path: Path) -> None:
    plain, blob, result = tmp_path / "plain", tmp_path / "sealed", tmp_path / "result"
    with plain.open("wb") as target:
        for _ in range(64):
            target.write(os.urandom(FRAME_BYTES))

    def do_seal() -> None:
        with plain.open("rb") as source, blob.open("wb") as target:
            seal(source, target, binding=BINDING, recipients={"a": KEY.public}, signer=SENDER)

    def do_open() -> None:
        with blob.open("rb") as source, result.open("wb") as target:
            unseal(source, target, binding=BINDING, recipient="a", key=KEY, sender_key=SENDER.public)

    assert measured(do_seal) < 12 * FRAME_BYTES
    assert measured(do_open) < 12 * FRAME_BYTES
    assert hashlib.sha256(result.read_bytes()).digest() == hashlib.sha256(plain.read_bytes()).digest()
