"""The wire between a host and its enclave program: one loopback TCP connection, length-prefixed JSON frames.

A frame is a big-endian u32 length and that many bytes of UTF-8 JSON, at most MAX_FRAME_BYTES. Each message
has a type (`Hello`, `WireRequest`, `Reply`) and is read strictly. The two ends do not trust each other: the
enclave's host may be hostile, and a host must not be hurt by a program that it cannot see into. Large things
are sealed files in the mailbox (mailbox.py) and never pass here.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from contracts.policy import Hex32, Program
from contracts.progress import Progress
from contracts.refusal import Fact, Refusal

PROTOCOL = 1
MAX_FRAME_BYTES = 1 << 20
MAX_HELLO_BYTES = 1024
_HEADER = 4
_CHUNK = 1 << 16
_SEND_SECONDS = 60.0  # until the other end has taken a frame out of the operating system's buffers

Message = TypeVar("Message", bound=Struct)


class HostFile(Struct, forbid_unknown_fields=True, frozen=True):
    """`host.json` in the mailbox: where the host listens, and which source of evidence the program opens."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    token: Hex32
    runtime: Annotated[str, Meta(max_length=32)]
    platform: Annotated[str, Meta(max_length=2048)] | None = None


class Hello(Struct, forbid_unknown_fields=True, frozen=True):
    """The first frame, from the program: `token` proves that it is the one which the host started."""

    token: Hex32
    program: Program
    protocol: int


class WireRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """From the host. `id` comes back in each reply; `args` are JSON that the operation reads strictly."""

    id: Annotated[int, Meta(ge=1, lt=2**53)]
    op: Annotated[str, Meta(pattern=r"^[a-z]{1,32}\Z")]
    args: msgspec.Raw


class Refused(Struct, forbid_unknown_fields=True, frozen=True):
    """A refusal: a code of the error catalogue, and its facts."""

    code: str
    facts: dict[str, Fact]


class Reply(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """From the program: any number of `progress`, then exactly one `result` or `refused`. `id` 0 answers a
    frame that could not be read."""

    id: int
    progress: Progress | None = None
    result: msgspec.Raw = msgspec.Raw()
    refused: Refused | None = None


class WireChannel:
    """One end of the connection. One thread may send while another receives.

    After a timeout or an invalid message the channel is still in step; after `wire.frame_too_large` on
    receipt it is not, and the caller closes it.

    Raises: `wire.closed` (the other end is gone, also in the middle of a frame), `wire.frame_too_large`,
    `wire.invalid` or `wire.timeout`.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_SEND_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._buffer = bytearray()

    def send(self, message: Struct) -> None:
        """Send one frame. A message over the limit is refused before a byte of it goes out.

        Raises: `wire.closed` or `wire.frame_too_large`.
        """
        body = msgspec.json.encode(message)
        if len(body) > MAX_FRAME_BYTES:
            raise Refusal("wire.frame_too_large", bytes=len(body), limit=MAX_FRAME_BYTES)
        try:
            self._socket.sendall(len(body).to_bytes(_HEADER, "big") + body)
        except OSError as error:
            raise Refusal("wire.closed") from error

    def receive(
        self, kind: type[Message], *, timeout: float | None = None, limit: int = MAX_FRAME_BYTES
    ) -> Message:
        """The next frame as a `kind`. `timeout` is in seconds for the whole frame; None waits for ever.

        Raises: `wire.frame_too_large` or `wire.invalid`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._fill(_HEADER, deadline)
        length = int.from_bytes(self._buffer[:_HEADER], "big")
        if length > limit:
            raise Refusal("wire.frame_too_large", bytes=length, limit=limit)
        self._fill(_HEADER + length, deadline)
        body = bytes(self._buffer[_HEADER : _HEADER + length])
        del self._buffer[: _HEADER + length]
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal("wire.invalid", expected=kind.__name__) from error

    def close(self) -> None:
        """Close the connection; a thread that waits on it is woken with `wire.closed`."""
        with contextlib.suppress(OSError):  # the other end may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _fill(self, size: int, deadline: float | None) -> None:
        while len(self._buffer) < size:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise Refusal("wire.timeout")
            try:
                ready = self._wait(remaining)
            except OSError as error:
                raise Refusal("wire.closed") from error
            if ready == b"":
                raise Refusal("wire.closed")
            if ready is not None:
                self._buffer += ready

    def _wait(self, remaining: float | None) -> bytes | None:
        # Waiting by poll leaves the socket's own timeout to `send`, which another thread may be in.
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        if not ready.poll(None if remaining is None else remaining * 1000):
            return None
        return self._socket.recv(_CHUNK)
