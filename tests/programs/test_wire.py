"""Frames between a host and its enclave."""

import json
import socket
import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.refusal import Refusal
from enclave.programs.wire import MAX_FRAME_BYTES, Reply, WireChannel, WireRequest


@pytest.fixture
def pair():
    listener = socket.create_server(("127.0.0.1", 0))
    a, b = socket.create_connection(listener.getsockname()), listener.accept()[0]
    listener.close()
    yield a, WireChannel(b)
    a.close()
    b.close()


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def refusal(channel, **kwargs):
    with pytest.raises(Refusal) as caught:
        channel.receive(WireRequest, **kwargs)
    return caught.value.code


def test_a_frame_that_arrives_byte_by_byte_is_one_message(pair):
    raw, channel = pair
    data = frame(b'{"id":1,"op":"ping","args":{}}')
    sender = threading.Thread(target=lambda: [raw.sendall(data[i : i + 1]) for i in range(len(data))])
    sender.start()
    assert channel.receive(WireRequest, timeout=5) == WireRequest(1, "ping", msgspec.Raw(b"{}"))
    sender.join()


def test_an_announced_oversize_is_refused_before_its_body_is_read(pair):
    raw, channel = pair
    raw.sendall((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    assert refusal(channel, timeout=5) == "wire.frame_too_large"


def test_an_oversized_message_is_refused_before_it_is_sent(pair):
    raw, channel = pair
    with pytest.raises(Refusal) as caught:
        channel.send(Reply(1, result=msgspec.Raw(msgspec.json.encode({"x": "y" * MAX_FRAME_BYTES}))))
    assert caught.value.code == "wire.frame_too_large"
    channel.send(Reply(2, result=msgspec.Raw(b"{}")))
    assert raw.recv(100) == frame(b'{"id":2,"result":{}}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"id":1,"op":"ping"}',
        b'{"id":1,"op":"ping","args":{},"more":1}',
        b'{"id":0,"op":"ping","args":{}}',
        b'{"id":"1","op":"ping","args":{}}',
        b'{"id":1,"op":"../x","args":{}}',
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_is_read(pair, body):
    raw, channel = pair
    raw.sendall(frame(body) + frame(b'{"id":7,"op":"ping","args":{}}'))
    assert refusal(channel, timeout=5) == "wire.invalid"
    assert channel.receive(WireRequest, timeout=5).id == 7


def test_an_end_in_the_middle_of_a_frame_is_an_end(pair):
    raw, channel = pair
    raw.sendall(frame(b'{"id":1,"op":"ping","args":{}}')[:-3])
    raw.shutdown(socket.SHUT_WR)
    assert refusal(channel, timeout=5) == "wire.closed"


def test_a_timeout_in_the_middle_of_a_frame_loses_nothing(pair):
    raw, channel = pair
    data = frame(b'{"id":1,"op":"ping","args":{}}')
    raw.sendall(data[:9])
    assert refusal(channel, timeout=0.05) == "wire.timeout"
    raw.sendall(data[9:])
    assert channel.receive(WireRequest, timeout=5).op == "ping"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_from_the_other_end_raise_anything_but_a_refusal(data):
    a, b = socket.socketpair()
    with a, b:
        channel = WireChannel.__new__(WireChannel)
        channel._socket, channel._buffer = b, bytearray()
        a.sendall(data)
        a.shutdown(socket.SHUT_WR)
        try:
            while True:
                channel.receive(WireRequest, timeout=5)
        except Refusal as refused:
            assert refused.code.startswith("wire.")


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5),
        max_size=5,
    )
)
def test_what_is_sent_is_what_arrives(args):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as a, listener.accept()[0] as b:
        WireChannel(a).send(WireRequest(3, "train", msgspec.Raw(msgspec.json.encode(args))))
        received = WireChannel(b).receive(WireRequest, timeout=5)
        assert (received.id, received.op) == (3, "train")
        assert msgspec.json.decode(received.args) == json.loads(json.dumps(args))
