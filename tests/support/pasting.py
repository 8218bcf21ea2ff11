"""A terminal into which somebody pastes a block, and types what it asks for."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb", "no_proxy": "127.0.0.1"}
"""The environment of a machine that nobody has set up for this: nothing of ours is found by it."""


def paste(
    block: str,
    home: Path,
    answers: Sequence[tuple[str, str]],
    environment: Mapping[str, str] = BARE,
    seconds: float = 600,
) -> tuple[int, str]:
    """Run the block in a bash with this home; each answer is typed once what it waits for (a regular
    expression) has been printed after the last. Exit status, and all that stood there."""
    home.mkdir(parents=True, exist_ok=True)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        os.execvpe("bash", ["bash", "-c", block], {**environment, "HOME": str(home)})
    said, read, waiting, until = "", 0, list(answers), time.monotonic() + seconds
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        said += part.decode("utf-8", "replace")
        while waiting and (asked := re.search(waiting[0][0], said[read:])):
            read += asked.end()
            os.write(terminal, f"{waiting.pop(0)[1]}\n".encode())
    else:
        os.kill(child, 9)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said
