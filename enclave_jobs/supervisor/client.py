"""The callers' end of the supervisor: Celery tasks and the agents' API. One connection per call.

Every function refuses with `supervisor.unreachable` when nobody answers (the caller's step is then simply
done again later), and with whatever the supervisor or the enclave refused with.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from typing import Any

import msgspec
from django.conf import settings
from msgspec import Struct

from enclave.attest.policy import Program
from enclave.errors import Refusal
from enclave.programs.wire import Channel, Reply, Request
from enclave_jobs.supervisor.protocol import PROTOCOL, Call, Forget, Greeting, Listing, Model, Start, Stop

CONNECT_SECONDS = 3.0
SHORT_SECONDS = 30.0


def start(enclave: str, program: Program, runtime: str, *, patience: float = 2.0) -> bool:
    """Start an enclave, unless it was started before. Whether it is ready within `patience` seconds."""
    request = Start(enclave=enclave, program=program, runtime=runtime, patience=patience)
    return bool(_ask("start", request, patience + SHORT_SECONDS)["ready"])


def call(
    enclave: str,
    op: str,
    args: dict[str, Any],
    *,
    inputs: Iterable[str] = (),
    patience: float = SHORT_SECONDS,
) -> dict[str, Any]:
    """Let the enclave do something short and wait for it. Refuses with `program.busy` where the enclave
    is at other work for longer than `patience` seconds."""
    request = Call(enclave=enclave, op=op, args=args, inputs=tuple(inputs), patience=patience)
    return _ask("call", request, 2 * patience + CONNECT_SECONDS)["done"]


def once(
    enclave: str,
    op: str,
    args: dict[str, Any],
    *,
    run: str,
    key: str,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    patience: float = 2.0,
    model: Model | None = None,
) -> dict[str, Any] | None:
    """Let the enclave do something once for (run, key), however often this is called. None: still at work."""
    request = Call(
        enclave=enclave,
        op=op,
        args=args,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        run=run,
        key=key,
        patience=patience,
        model=model,
    )
    return _ask("call", request, patience + SHORT_SECONDS).get("done")


def stop(enclave: str) -> None:
    """Stop an enclave; one that is gone is no error."""
    _ask("stop", Stop(enclave), SHORT_SECONDS)


def forget(run: str) -> None:
    """Drop the kept answers of a run that is over."""
    _ask("forget", Forget(run), SHORT_SECONDS)


def alive() -> set[str]:
    """The ids of the enclaves that live."""
    listing = _ask("list", Listing(), SHORT_SECONDS)
    return {enclave["enclave"] for enclave in listing["enclaves"] if enclave["alive"]}


def _address() -> tuple[str, int]:
    if settings.SUPERVISOR_ADDRESS:
        host, _, port = settings.SUPERVISOR_ADDRESS.rpartition(":")
        return host, int(port)
    try:
        told = json.loads(settings.SUPERVISOR_ADDRESS_FILE.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise Refusal("supervisor.unreachable") from error
    return told["host"], int(told["port"])


def _ask(op: str, arguments: Struct, timeout: float) -> dict[str, Any]:
    try:
        connection = socket.create_connection(_address(), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise Refusal("supervisor.unreachable") from error
    channel = Channel(connection)
    try:
        connection.settimeout(CONNECT_SECONDS)
        channel.send(Greeting(settings.SUPERVISOR_TOKEN, PROTOCOL))
        channel.send(Request(1, op, msgspec.to_builtins(arguments)))
        reply = channel.receive(Reply, timeout=timeout)
    except Refusal as refusal:
        if refusal.code in ("wire.closed", "wire.timeout"):
            raise Refusal("supervisor.unreachable") from refusal
        raise
    finally:
        channel.close()
    if reply.refused is not None:
        raise Refusal(reply.refused.code, **reply.refused.facts)
    return reply.result or {}
