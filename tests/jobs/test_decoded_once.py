"""A served step, and its answer, is decoded once by each who reads it, and by nobody who carries it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from contracts import serving_calls
from contracts.agents_api.serving import STEP
from contracts.program_calls import Call
from contracts.serving_calls import StepArguments, Stepped
from enclave.programs.program import EnclaveProgram, Operation, operations
from enclave.programs.wire import Reply, WireChannel, WireRequest
from enclave_jobs.supervisor import client, protocol, server
from federation.wire import answer, read

ASKED, ANSWERED = "QVNLRUQ=" * 2000, "QU5TV0VSRUQ=" * 2000


class Serving(EnclaveProgram):
    """A program with the operation, and nothing behind it."""

    name = "split_server"

    def __init__(self) -> None:
        super().__init__(None, None)  # type: ignore[arg-type]
        self.operations |= operations(Operation(serving_calls.STEP, self._step))

    def _step(self, asked: StepArguments, _report: Any) -> Stepped:
        assert asked.sealed == ASKED
        return Stepped(asked.number, ANSWERED, 1, 1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each of the two texts came out of JSON."""
    times = {ASKED: 0, ANSWERED: 0}
    real = msgspec.json.decode

    def counting(data: Any, **options: Any) -> Any:
        found = real(data, **options)
        for text in texts(found):
            times[text] = times.get(text, 0) + 1
        return found

    monkeypatch.setattr(msgspec.json, "decode", counting)
    return times


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from texts(getattr(value, name))


@pytest.fixture
def line() -> Iterator[tuple[WireChannel, WireChannel]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    ends = WireChannel(near), WireChannel(far)
    yield ends
    for end in ends:
        end.close()


def carried(line: tuple[WireChannel, WireChannel], request: WireRequest) -> WireRequest:
    line[0].send(request)
    return line[1].receive(WireRequest, timeout=60)


def replied(line: tuple[WireChannel, WireChannel], result: Any) -> msgspec.Raw:
    line[1].send(Reply(id=1, result=result))
    return line[0].receive(Reply, timeout=60).result


def test_a_served_step_is_decoded_once_at_the_relay_and_once_in_the_enclave(
    line: tuple[WireChannel, WireChannel], decoded: dict[str, int]
) -> None:
    relay: Any = SimpleNamespace(body=msgspec.json.encode(StepArguments("0" * 64, 0, ASKED)))
    step = read(relay, STEP)
    assert decoded[ASKED] == 1

    def in_the_enclave(asked: protocol.EnclaveCall) -> protocol.CallDone:
        """As the supervisor does: it passes on what it did not read."""
        request = carried(line, WireRequest(2, asked.op, asked.args))
        result = Serving().perform(request, lambda _progress: None)
        assert decoded == decoded | {ASKED: 2, ANSWERED: 0}
        return protocol.CallDone(replied(line, msgspec.Raw(msgspec.json.encode(result))))

    asked = protocol.EnclaveCall("e1", "step", client._json(step))
    _, perform = server._reading(Call("call", protocol.EnclaveCall, protocol.CallDone), in_the_enclave)
    request = carried(line, WireRequest(1, "call", client._json(asked)))
    assert decoded[ASKED] == 1
    done = perform(bytes(request.args))
    assert decoded == decoded | {ASKED: 2, ANSWERED: 0}

    kept = msgspec.json.decode(replied(line, client._json(done)), type=protocol.CallDone)
    assert decoded[ANSWERED] == 0
    stepped = client._read(kept.result, Stepped)
    assert decoded[ANSWERED] == 1
    at_the_site = msgspec.json.decode(answer(STEP, stepped).content, type=STEP.answer)
    assert (at_the_site.sealed, decoded[ANSWERED]) == (ANSWERED, 2)
