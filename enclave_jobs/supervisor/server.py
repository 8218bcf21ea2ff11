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
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from contracts.refusal import Refusal
from enclave.programs.wire import Refused, Reply, WireChannel, WireRequest
from enclave_jobs.supervisor import tls
from enclave_jobs.supervisor.answers import Answer, AnswerCache
from enclave_jobs.supervisor.enclaves import Enclaves
from enclave_jobs.supervisor.protocol import PROTOCOL, Call, Drain, Forget, Greeting, Listing, Start, Stop

logger = logging.getLogger(__name__)

GREETING_SECONDS = 5.0
MAX_GREETING_BYTES = 2048
MAX_CALLERS = 64
Arguments = TypeVar("Arguments", bound=Struct)


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
            reply = Reply(request.id, result=self._perform(request))
        except Refusal as refusal:
            logger.info("%s refused: %s", request.op, refusal.code)
            reply = Reply(request.id, refused=Refused(refusal.code, refusal.facts))
        except Exception:
            logger.exception("%s failed", request.op)
            reply = Reply(request.id, refused=Refused("internal", {}))
        channel.send(reply)

    def _perform(self, request: WireRequest) -> dict[str, Any]:
        match request.op:
            case "start":
                start = _read(request, Start)
                ready = self._enclaves.start(start.enclave, start.program, start.runtime, start.patience)
                return {"ready": ready}
            case "call":
                return self._call(_read(request, Call))
            case "stop":
                self._enclaves.stop(_read(request, Stop).enclave)
                return {}
            case "forget":
                self._answers.forget(_read(request, Forget).run)
                return {}
            case "room":
                _read(request, Listing)
                return {"room": msgspec.to_builtins(self._enclaves.room())}
            case "drain":
                self._enclaves.draining = _read(request, Drain).draining
                return {}
            case "list":
                _read(request, Listing)
                return {"enclaves": self._enclaves.listing()}
        raise Refusal("supervisor.bad_request", fault=f"unknown operation {request.op}")

    def _call(self, call: Call) -> dict[str, Any]:
        if call.key is None or call.run is None:
            return {"done": self._enclaves.call(call, patience=call.patience)}
        answer: Answer | None = self._answers.once(
            call.run,
            call.key,
            lambda: self._enclaves.call(call, patience=None),
            call.patience,
            lambda: self._tell(call.enclave),
        )
        return {"pending": True} if answer is None else {"done": answer}


def _read(request: WireRequest, kind: type[Arguments]) -> Arguments:
    try:
        return msgspec.convert(request.args, kind)
    except msgspec.ValidationError as error:
        raise Refusal("supervisor.bad_request", fault=str(error)[:300]) from error


def publish_address(path: Path, address: tuple[str, int]) -> None:
    """Tell the other processes where the supervisor listens; the file appears whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps({"host": address[0], "port": address[1], "pid": os.getpid()}))
    fresh.replace(path)
