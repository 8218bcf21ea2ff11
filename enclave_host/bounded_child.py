"""The child's side of `enclave_host.bounded`: bounds first, then the work, and one answer.

Imports nothing heavy, so that the bounds stand before a library that they are for is loaded.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from contracts.refusal import Refusal
from enclave_host.confinement import bound, leave_network

_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")

Tell = Callable[[dict[str, Any]], None]


def serve(work: Callable[[dict[str, Any], Tell], Any]) -> int:
    """Carry out the request of stdin. `work` imports what is heavy itself. Whatever a library prints goes to
    stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    bounds = request.pop("bounds")
    bound(bounds["memory"], bounds["cpu"], bounds["disk"])
    leave_network()

    def say(**line: Any) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    try:
        say(result=work(request, lambda progress: say(progress=progress)))
    except Refusal as refusal:
        say(refused={"code": refusal.code, "facts": refusal.facts})
    except Exception as error:  # the parent's log has the traceback, people get a code
        traceback.print_exc()
        code, facts = explained(error, bounds)
        say(refused={"code": code, "facts": facts})
    return 0


def explained(error: Exception, bounds: dict[str, int]) -> tuple[str, dict[str, Any]]:
    """The code of what is no refusal yet: memory and disk are limits, all else is a failure."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return "child.memory", {"memory": bounds["memory"] // (1 << 20)}
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return "child.no_room", {"fault": os.strerror(error.errno)}
    return "child.failed", {"fault": f"{type(error).__name__}: {text}".split("\n")[0][:200]}
