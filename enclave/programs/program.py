"""What every enclave program does: greet its host, take requests one at a time, answer each with one outcome.

The host owns the connection and the log. So a refusal is answered by its code, and any other fault by
`internal` alone: its text could carry a row or a parameter, and neither the wire nor the log may see one.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import queue
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
from msgspec import Struct

from attestation import guard
from attestation.sources import Source, open_source
from contracts.decoder_warm_up import warm_up_decoders
from contracts.faults import log_fault
from contracts.policy import Program
from contracts.program_calls import (
    BIND,
    EVIDENCE,
    PING,
    BindArguments,
    Call,
    Challenge,
    Nothing,
    ShownEvidence,
)
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.programs.identity import Identity, bind
from enclave.programs.mailbox import Mailbox
from enclave.programs.wire import PROTOCOL, Hello, HostFile, Refused, Reply, WireChannel, WireRequest

log = logging.getLogger(__name__)

Report = Callable[[Progress], None]
MAX_HOST_FILE_BYTES = 4096


class Operation(NamedTuple):
    """A call that the program takes, and what it does on it."""

    call: Call[Any, Any]
    run: Callable[[Any, Report], Struct]


def operations(*offered: Operation) -> dict[str, Operation]:
    """By name."""
    return {operation.call.name: operation for operation in offered}


class EnclaveProgram:
    """The operations that all programs have. A program adds its own to `operations`."""

    name: Program

    def __init__(self, source: Source, mailbox: Mailbox) -> None:
        self.source = source
        self.mailbox = mailbox
        self._identity: Identity | None = None
        self.operations = operations(
            Operation(PING, lambda _arguments, _report: Nothing()),
            Operation(BIND, self._bind),
            Operation(EVIDENCE, self._evidence),
        )

    @property
    def identity(self) -> Identity:
        """Raises: `program.not_bound`."""
        if self._identity is None:
            raise Refusal("program.not_bound")
        return self._identity

    def bound(self, identity: Identity) -> None:
        """Called once, after `bind` has succeeded."""

    def perform(self, request: WireRequest, report: Report) -> Struct:
        """Carry out one request.

        Raises: `program.unknown_operation`, `program.bad_arguments` or what the operation itself raises.
        """
        operation = self.operations.get(request.op)
        if operation is None:
            raise Refusal("program.unknown_operation", program=self.name, op=request.op)
        try:
            arguments = msgspec.json.decode(request.args, type=operation.call.arguments)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal("program.bad_arguments", op=request.op, fault=str(error)[:300]) from error
        return operation.run(arguments, report)

    def _bind(self, arguments: BindArguments, _report: Report) -> Nothing:
        if self._identity is not None:
            raise Refusal("program.already_bound")
        identity = bind(self.name, self.source, arguments.manifest, arguments.approvals)
        self.bound(identity)
        self._identity = identity
        return Nothing()

    def _evidence(self, arguments: Challenge, _report: Report) -> ShownEvidence:
        return self.identity.evidence(arguments.nonce)


def main(program: type[EnclaveProgram]) -> NoReturn:
    """Entry point of every program: `python -m enclave.programs.<program> --mailbox DIR`."""
    parser = argparse.ArgumentParser(prog=program.name, description=program.__doc__)
    parser.add_argument("--mailbox", type=Path, required=True, help="folder that the host has made")
    folder = parser.parse_args().mailbox
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    sys.excepthook = lambda _kind, error, _trace: log_fault(error)
    threading.excepthook = lambda fault: _end(fault.exc_value)
    warnings.simplefilter("ignore")  # a library's warning may quote what it warns about
    guard.install(program.name)
    warm_up_decoders()
    host = _read_host_file(folder / "host.json")
    platform = Path(host.platform) if host.platform else None
    source = open_source(host.runtime, platform=platform, mailbox=folder)
    running = program(source, Mailbox(folder))
    channel = WireChannel(socket.create_connection(("127.0.0.1", host.port), timeout=30))
    channel.send(Hello(host.token, program.name, PROTOCOL))
    serve(running, channel)
    logging.shutdown()
    os._exit(0)  # nothing is left to tidy up, and torch takes a second to do it


def serve(program: EnclaveProgram, channel: WireChannel) -> None:
    """Answer requests in order until `stop`. The host's death ends the process, also in mid-work."""
    requests: queue.Queue[WireRequest | Refusal] = queue.Queue(maxsize=8)
    threading.Thread(target=_receive, args=(channel, requests), daemon=True).start()
    while True:
        request = requests.get()
        if isinstance(request, Refusal):
            channel.send(Reply(0, refused=Refused(request.code, request.facts)))
            if request.code != "wire.invalid":
                return
        elif request.op == "stop":
            channel.send(Reply(request.id, result=msgspec.Raw(b"{}")))
            return
        else:
            channel.send(_answer(program, channel, request))


def _answer(program: EnclaveProgram, channel: WireChannel, request: WireRequest) -> Reply:
    def report(progress: Progress) -> None:
        channel.send(Reply(request.id, progress=progress))

    try:
        result = program.perform(request, report)
        return Reply(request.id, result=msgspec.Raw(msgspec.json.encode(result)))
    except Refusal as refusal:
        log.info("%s refused: %s", request.op, refusal.code)
        return Reply(request.id, refused=Refused(refusal.code, refusal.facts))
    except Exception as error:
        log_fault(error)
        return Reply(request.id, refused=Refused("internal", {}))


def _receive(channel: WireChannel, requests: queue.Queue[WireRequest | Refusal]) -> None:
    """Read ahead, so that the host's death is seen while the program works. After an oversized frame the
    connection is out of step: nothing more is read."""
    while True:
        try:
            requests.put(channel.receive(WireRequest))
        except Refusal as refusal:
            if refusal.code == "wire.closed":
                os._exit(0)
            requests.put(refusal)
            if refusal.code != "wire.invalid":
                return


def _end(error: BaseException | None) -> NoReturn:
    """The reading thread has failed: without it the host's death would not be seen."""
    if error is not None:
        log_fault(error)
    os._exit(1)


def _read_host_file(path: Path) -> HostFile:
    with path.open("rb") as file:
        data = file.read(MAX_HOST_FILE_BYTES + 1)
    with contextlib.suppress(OSError):
        path.unlink()
    return msgspec.json.decode(data, type=HostFile)
