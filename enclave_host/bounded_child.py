"""The child's side of `enclave_host.bounded`: bounds first, then the work, and one answer.

Imports nothing heavy, so that the bounds stand before a library that they are for is loaded.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

import msgspec
from msgspec import Raw

from contracts.facts import sayable
from contracts.refusal import Fact, Refusal
from enclave_host.child_calls import A, ChildBounds, ChildCall, ChildLine, ChildRefused, R, Tell
from enclave_host.confinement import bound, leave_network

_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def serve(call: ChildCall[A, R], work: Callable[[A, Tell], R]) -> int:
    """Carry out the request of stdin. `work` imports what is heavy itself. Whatever a library prints goes to
    stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    bounds = msgspec.json.decode(sys.stdin.buffer.readline(), type=ChildBounds)
    bound(bounds.memory, bounds.cpu, bounds.disk)
    leave_network()

    def say(line: ChildLine) -> None:
        answers.write(msgspec.json.encode(line) + b"\n")
        answers.flush()

    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=call.request)
        result = work(request, lambda progress: say(ChildLine(progress=progress)))
        say(ChildLine(result=Raw(msgspec.json.encode(result))))
    except Refusal as refusal:
        say(ChildLine(refused=ChildRefused(refusal.code, sayable(refusal.facts))))
    except Exception as error:  # the parent's log has the traceback, people get a code
        traceback.print_exc()
        code, facts = explained(error, bounds)
        say(ChildLine(refused=ChildRefused(code, sayable(facts))))
    return 0


def explained(error: Exception, bounds: ChildBounds) -> tuple[str, dict[str, Fact]]:
    """The code of what is no refusal yet: memory and disk are limits, all else is a failure."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return "child.memory", {"memory": bounds.memory // (1 << 20)}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return "child.no_room", {"fault": os.strerror(error.errno)}
    return "child.failed", {"fault": f"{type(error).__name__}: {text}".split("\n")[0][:200]}
