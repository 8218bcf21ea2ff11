"""The callers' end of the supervisors: Celery tasks and the agents' API. One connection per call.

Each machine that holds server enclaves has a supervisor. A worker names its own by FEDSLICE_SUPERVISOR, and
what it starts is entered with that address (`Enclave.supervisor`); whoever calls an enclave later, from
whatever machine, finds it there.

Every function refuses with `supervisor.unreachable` when nobody answers (the caller's step is then simply
done again later), with the codes of `tls.py` when who answers is not the supervisor that was called, and with
whatever the supervisor or the enclave refused with.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterable
from typing import Any

import msgspec
from django.conf import settings
from msgspec import Struct

from contracts.policy import Program
from contracts.refusal import Refusal
from enclave.programs.wire import Reply, WireChannel, WireRequest
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.supervisor import tls
from enclave_jobs.supervisor.protocol import (
    PROTOCOL,
    Call,
    Drain,
    Forget,
    Greeting,
    Listing,
    Model,
    Room,
    Start,
    Stop,
)
from federation import logs

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
SHORT_SECONDS = 30.0
LISTING_SECONDS = 5.0
AT_ONCE_SECONDS = 0.1
"""What is over so soon needs no second message; anything longer, the supervisor tells when it is over."""


def start(enclave: str, program: Program, runtime: str, *, patience: float = AT_ONCE_SECONDS) -> bool:
    """Start an enclave, unless it was started before. Whether it is ready within `patience` seconds."""
    request = Start(enclave=enclave, program=program, runtime=runtime, patience=patience)
    return bool(_ask("start", request, patience + SHORT_SECONDS, at=_holder(enclave))["ready"])


def call(
    enclave: str,
    op: str,
    args: dict[str, Any],
    *,
    inputs: Iterable[str] = (),
    patience: float = SHORT_SECONDS,
) -> dict[str, Any]:
    """Let the enclave do something short and wait for it.

    Raises: `program.busy` where the enclave is at other work for longer than `patience` seconds.
    """
    request = Call(
        enclave=enclave, op=op, args=args, inputs=tuple(inputs), patience=patience, about=logs.about()
    )
    return _ask("call", request, 2 * patience + CONNECT_SECONDS, at=_holder(enclave))["done"]


def once(
    enclave: str,
    op: str,
    args: dict[str, Any],
    *,
    run: str,
    key: str,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    patience: float = AT_ONCE_SECONDS,
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
        about=logs.about(),
    )
    return _ask("call", request, patience + SHORT_SECONDS, at=_holder(enclave)).get("done")


def stop(enclave: str) -> None:
    """Stop an enclave; one that is gone is no error."""
    _ask("stop", Stop(enclave), SHORT_SECONDS, at=_holder(enclave))


def forget(run: str) -> None:
    """Drop the kept answers of a run that is over, wherever its enclaves were; a machine that is away keeps a
    few small files."""
    holders = Enclave.objects.filter(run_id=run).order_by().values_list("supervisor", flat=True)
    for holder in holders.distinct():
        try:
            _ask("forget", Forget(run), SHORT_SECONDS, at=holder)
        except Refusal as refusal:
            if refusal.code != "supervisor.unreachable":
                raise
            logger.info("kept answers of run %s stay at %s, which is away", run, holder)


def is_running(enclave: str) -> bool:
    """Whether the enclave lives."""
    listing = _ask("list", Listing(), SHORT_SECONDS, at=_holder(enclave))
    return any(entry["enclave"] == enclave and entry["alive"] for entry in listing["enclaves"])


def listing(at: str = "") -> list[dict[str, Any]]:
    """Every enclave of the supervisor at this address (the one of this state folder): its program, whether it
    lives, and its memory in bytes."""
    return list(_ask("list", Listing(), LISTING_SECONDS, at=at)["enclaves"])


def room(at: str) -> Room:
    """What the supervisor at this address has to offer."""
    return msgspec.convert(_ask("room", Listing(), LISTING_SECONDS, at=at)["room"], Room)


def drain(at: str, draining: bool) -> None:
    """Let new runs go elsewhere, or come again."""
    _ask("drain", Drain(draining), LISTING_SECONDS, at=at)


def _holder(enclave: str) -> str:
    return Enclave.objects.filter(pk=enclave).values_list("supervisor", flat=True).first() or ""


def _address(at: str) -> tuple[str, int]:
    # An enclave without an address is with the supervisor that tells its own here, also where this process
    # starts its enclaves elsewhere: another machine does not have it, and must not replace it.
    if at:
        host, _, port = at.rpartition(":")
        return host, int(port)
    try:
        address = json.loads(settings.SUPERVISOR_ADDRESS_FILE.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise Refusal("supervisor.unreachable") from error
    return address["host"], int(address["port"])


def _ask(op: str, arguments: Struct, timeout: float, *, at: str = "") -> dict[str, Any]:
    host, port = _address(at)
    context = tls.for_callers(host)
    try:
        connection = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise Refusal("supervisor.unreachable") from error
    channel = WireChannel(connection) if context is None else tls.greeted(context, connection, calls=host)
    try:
        channel.send(Greeting(settings.SUPERVISOR_TOKEN, PROTOCOL))
        channel.send(WireRequest(1, op, msgspec.to_builtins(arguments)))
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
