"""The supervisor's listening side: one thread per caller, one enclave call at a time per enclave."""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from contracts.program_calls import A, Call, Nothing, R
from contracts.refusal import Refusal
from enclave.programs.wire import Refused, Reply, WireChannel, WireRequest
from enclave_jobs.supervisor import protocol, tls
from enclave_jobs.supervisor.answers import AnswerCache
from enclave_jobs.supervisor.enclaves import Enclaves
from enclave_jobs.supervisor.protocol import PROTOCOL, CallDone, EnclaveCall, Greeting, Started

logger = logging.getLogger(__name__)

GREETING_SECONDS = 5.0
MAX_GREETING_BYTES = 2048
MAX_CALLERS = 64


class SupervisorServer:
    """Serves until `close`. `address` is where it listens; `tell` is called with the id of an enclave whose
    work is over, after who had asked for it went.

    Raises: the codes of `tls.for_supervisor`.
    """

    def __init__(
        self,
        token: str,
        enclaves: Enclaves,
        answers: AnswerCache,
        host: str,
        port: int,
        tell: Callable[[str], None] = lambda _enclave: None,
    ) -> None:
        self._tell = tell
        self._token = token.encode()
        self._tls = tls.for_supervisor(host)
        self._enclaves = enclaves
        self._answers = answers
        self._callers = threading.BoundedSemaphore(MAX_CALLERS)
        self._listener = socket.create_server((host, port), backlog=64)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._closing = threading.Event()
        self._operations: dict[str, Callable[[bytes], Struct]] = dict(
            [
                _reading(protocol.START, self._start),
                _reading(protocol.CALL, self._call),
                _reading(protocol.STOP, self._stop),
                _reading(protocol.FORGET, self._forget),
                _reading(protocol.ROOM, lambda _: self._enclaves.room()),
                _reading(protocol.DRAIN, self._drain),
                _reading(protocol.LIST, lambda _: self._enclaves.listing()),
            ]
        )

    def serve(self) -> None:
        """Accept callers until `close`."""
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not self._callers.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Take no more callers."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _attend(self, connection: socket.socket) -> None:
        channel = None
        try:
            connection.settimeout(GREETING_SECONDS)
            channel = WireChannel(connection) if self._tls is None else tls.greeted(self._tls, connection)
            self._greet(channel)
            while True:
                self._answer(channel, channel.receive(WireRequest))
        except Refusal as refusal:
            if refusal.code != "wire.closed":
                logger.warning("a caller was sent away: %s", refusal.code)
                with contextlib.suppress(Refusal):
                    if channel is not None:
                        channel.send(Reply(0, refused=Refused(refusal.code, refusal.facts)))
        finally:
            if channel is not None:
                channel.close()
            self._callers.release()

    def _greet(self, channel: WireChannel) -> None:
        greeting = channel.receive(Greeting, timeout=GREETING_SECONDS, limit=MAX_GREETING_BYTES)
        if not hmac.compare_digest(greeting.token.encode(), self._token):
            raise Refusal("supervisor.unauthorised")
        if greeting.protocol != PROTOCOL:
            raise Refusal("supervisor.bad_request", fault=f"protocol {greeting.protocol}")

    def _answer(self, channel: WireChannel, request: WireRequest) -> None:
        try:
            reply = Reply(request.id, result=msgspec.Raw(msgspec.json.encode(self._perform(request))))
        except Refusal as refusal:
            logger.info("%s refused: %s", request.op, refusal.code)
            reply = Reply(request.id, refused=Refused(refusal.code, refusal.facts))
        except Exception:
            logger.exception("%s failed", request.op)
            reply = Reply(request.id, refused=Refused("internal", {}))
        channel.send(reply)

    def _perform(self, request: WireRequest) -> Struct:
        """Raises: `supervisor.bad_request`, and what the operation itself raises."""
        perform = self._operations.get(request.op)
        if perform is None:
            raise Refusal("supervisor.bad_request", fault=f"unknown operation {request.op}")
        return perform(request.args)

    def _start(self, asked: protocol.Start) -> Started:
        return Started(self._enclaves.start(asked.enclave, asked.program, asked.runtime, asked.patience))

    def _call(self, asked: EnclaveCall) -> CallDone:
        if asked.key is None or asked.run is None:
            return CallDone(self._enclaves.call(asked, patience=asked.patience))
        answer = self._answers.once(
            asked.run,
            asked.key,
            lambda: bytes(self._enclaves.call(asked, patience=None)),
            asked.patience,
            lambda: self._tell(asked.enclave),
            lambda: self._enclaves.let_go(asked),
        )
        return CallDone() if answer is None else CallDone(msgspec.Raw(answer))

    def _stop(self, asked: protocol.Stop) -> Nothing:
        self._enclaves.stop(asked.enclave)
        return Nothing()

    def _forget(self, asked: protocol.Forget) -> Nothing:
        self._answers.forget(asked.run, asked.keys)
        return Nothing()

    def _drain(self, asked: protocol.Drain) -> Nothing:
        self._enclaves.draining = asked.draining
        return Nothing()


def _reading(call: Call[A, R], do: Callable[[A], R]) -> tuple[str, Callable[[bytes], Struct]]:
    """The operation under its name: it reads its arguments strictly first."""

    def perform(args: bytes) -> R:
        try:
            arguments = msgspec.json.decode(args, type=call.arguments)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal("supervisor.bad_request", fault=str(error)[:300]) from error
        return do(arguments)

    return call.name, perform


def publish_address(path: Path, address: tuple[str, int]) -> None:
    """Tell the other processes where the supervisor listens; the file appears whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps({"host": address[0], "port": address[1], "pid": os.getpid()}))
    fresh.replace(path)
