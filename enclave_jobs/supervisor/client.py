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

import msgspec
from django.conf import settings
from msgspec import Struct

from contracts.policy import Program
from contracts.program_calls import A, Call, Nothing, R
from contracts.refusal import Refusal
from enclave.programs.wire import Reply, WireChannel, WireRequest
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.supervisor import tls
from enclave_jobs.supervisor.protocol import (
    CALL,
    DRAIN,
    FORGET,
    LIST,
    PROTOCOL,
    ROOM,
    START,
    STOP,
    Drain,
    EnclaveCall,
    Forget,
    Greeting,
    Model,
    Room,
    RunningEnclave,
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
    return _ask(START, request, patience + SHORT_SECONDS, at=_holder(enclave)).ready


def call(
    enclave: str,
    call: Call[A, R],
    arguments: A,
    *,
    inputs: Iterable[str] = (),
    patience: float = SHORT_SECONDS,
) -> R:
    """Let the enclave do something short and wait for it.

    Raises: `program.busy` where the enclave is at other work for longer than `patience` seconds.
    """
    request = EnclaveCall(
        enclave=enclave,
        op=call.name,
        args=_json(arguments),
        inputs=tuple(inputs),
        patience=patience,
        about=_about(arguments),
    )
    done = _ask(CALL, request, 2 * patience + CONNECT_SECONDS, at=_holder(enclave))
    return _read(done.result, call.result)


def once(
    enclave: str,
    call: Call[A, R],
    arguments: A,
    *,
    run: str,
    key: str,
    inputs: Iterable[str] = (),
    outputs: Iterable[str] = (),
    patience: float = AT_ONCE_SECONDS,
    model: Model | None = None,
) -> R | None:
    """Let the enclave do something once for (run, key), however often this is called. None: still at work."""
    request = EnclaveCall(
        enclave=enclave,
        op=call.name,
        args=_json(arguments),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        run=run,
        key=key,
        patience=patience,
        model=model,
        about=_about(arguments),
    )
    done = _ask(CALL, request, patience + SHORT_SECONDS, at=_holder(enclave))
    return _read(done.result, call.result) if bytes(done.result) else None


def stop(enclave: str) -> None:
    """Stop an enclave; one that is gone is no error."""
    _ask(STOP, Stop(enclave), SHORT_SECONDS, at=_holder(enclave))


def forget(run: str, keys: tuple[str, ...] = ()) -> None:
    """Drop the kept answers of a run to these keys (without keys to all, as it is over), wherever its
    enclaves were; a machine that is away keeps a few small files, as does a version that knows no keys."""
    holders = Enclave.objects.filter(run_id=run).order_by().values_list("supervisor", flat=True)
    for holder in holders.distinct():
        try:
            _ask(FORGET, Forget(run, keys), SHORT_SECONDS, at=holder)
        except Refusal as refusal:
            if refusal.code != "supervisor.unreachable" and not keys:
                raise
            logger.info("kept answers of run %s stay at %s: %s", run, holder, refusal.code)


def is_running(enclave: str) -> bool:
    """Whether the enclave lives."""
    listed = _ask(LIST, Nothing(), SHORT_SECONDS, at=_holder(enclave)).enclaves
    return any(entry.enclave == enclave and entry.alive for entry in listed)


def listing(at: str = "") -> tuple[RunningEnclave, ...]:
    """Every enclave of the supervisor at this address (the one of this state folder)."""
    return _ask(LIST, Nothing(), LISTING_SECONDS, at=at).enclaves


def room(at: str) -> Room:
    """What the supervisor at this address has to offer."""
    return _ask(ROOM, Nothing(), LISTING_SECONDS, at=at)


def drain(at: str, draining: bool) -> None:
    """Let new runs go elsewhere, or come again."""
    _ask(DRAIN, Drain(draining), LISTING_SECONDS, at=at)


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


def _ask(call: Call[A, R], arguments: A, timeout: float, *, at: str = "") -> R:
    host, port = _address(at)
    context = tls.for_callers(host)
    try:
        connection = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise Refusal("supervisor.unreachable") from error
    channel = WireChannel(connection) if context is None else tls.greeted(context, connection, calls=host)
    try:
        channel.send(Greeting(settings.SUPERVISOR_TOKEN, PROTOCOL))
        channel.send(WireRequest(1, call.name, _json(arguments)))
        reply = channel.receive(Reply, timeout=timeout)
    except Refusal as refusal:
        if refusal.code in ("wire.closed", "wire.timeout"):
            raise Refusal("supervisor.unreachable") from refusal
        raise
    finally:
        channel.close()
    if reply.refused is not None:
        raise Refusal(reply.refused.code, **reply.refused.facts)
    return _read(reply.result, call.result)


def _json(arguments: Struct) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(arguments))


def _read(result: msgspec.Raw, kind: type[R]) -> R:
    """Raises: `wire.invalid` for another result than the operation has."""
    try:
        return msgspec.json.decode(result, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("wire.invalid", expected=kind.__name__) from error


def _about(arguments: Struct) -> dict[str, str]:
    """The ids that hold here, and the round and site that the enclave is asked about, where they are ids."""
    named = {name: getattr(arguments, name, None) for name in ("round", "site")}
    with logs.telling(**named):
        return logs.about()
