"""Do something in a bounded child process, whose end, whatever it is, ends nothing else.

The child (`python -m MODULE`) reads its bounds and its request from stdin, a line of JSON each, and writes
lines to stdout: `progress`, and at last `result` or `refused` (child_calls.py). It gets no secret: of the
environment only what a library needs to start, and a folder of its own that goes with it. A child that is
killed, or is over its time, is a refusal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import UnsetType

from contracts.refusal import Refusal
from enclave_host.child_calls import A, ChildBounds, ChildCall, ChildLine, R, Tell

log = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[1]
MAX_ANSWER = 16 << 20
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
_GIB = 1 << 30


@dataclass(frozen=True)
class ChildLimits:
    """`memory` and `disk` in bytes, `seconds` of wall clock (each core may use them)."""

    memory: int
    seconds: int = 1800
    disk: int = 1 << 40

    @classmethod
    def of_this_machine(cls) -> ChildLimits:
        """Three quarters of the memory that is free now, at least 2 GiB."""
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        meminfo = Path("/proc/meminfo")
        if meminfo.is_file():
            lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
            free = int(lines.get("MemAvailable", "0 kB").split()[0]) * 1024 or free
        return cls(max(2 * _GIB, free * 3 // 4))


def run_bounded(call: ChildCall[A, R], request: A, limits: ChildLimits, tell: Tell | None = None) -> R:
    """The child's result. `tell` hears its progress.

    Raises: what the child raises, or `child.timeout`, `child.killed`, `child.failed`.
    """
    threads = max(1, min(4, len(os.sched_getaffinity(0))))
    bounds = ChildBounds(limits.memory, limits.disk, limits.seconds * threads)
    with tempfile.TemporaryDirectory(prefix="fedslice-child-") as own, tempfile.TemporaryFile() as errors:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
            "HOME": own,
            "TMPDIR": own,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        child = subprocess.Popen(  # noqa: S603 - the command is ours, without a shell
            [sys.executable, "-m", call.module],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        try:
            assert child.stdin is not None
            child.stdin.write(msgspec.json.encode(bounds) + b"\n" + msgspec.json.encode(request))
            child.stdin.close()
            return _answer(child, call.result, limits, tell)
        except BrokenPipeError:
            raise _ended(child, limits) from None
        except Refusal as refusal:
            if refusal.code.startswith("child."):
                errors.seek(0)
                log.warning(
                    "%s: %s: %s", call.module, refusal.code, errors.read()[-2000:].decode(errors="replace")
                )
            raise
        finally:
            _end(child)


def _answer(child: subprocess.Popen[bytes], result: type[R], limits: ChildLimits, tell: Tell | None) -> R:
    for line in _lines(child, time.monotonic() + limits.seconds, limits):
        try:
            said = msgspec.json.decode(line, type=ChildLine)
            if not isinstance(said.result, UnsetType):
                return msgspec.json.decode(said.result, type=result)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal("child.failed", fault="its answer cannot be read") from error
        if not isinstance(said.progress, UnsetType) and tell is not None:
            tell(said.progress)
        if not isinstance(said.refused, UnsetType):
            raise Refusal(said.refused.code, **said.refused.facts)
    raise _ended(child, limits)


def _lines(child: subprocess.Popen[bytes], deadline: float, limits: ChildLimits) -> Iterator[bytes]:
    """The child's lines as they come.

    Raises: `child.timeout`.
    """
    assert child.stdout is not None
    kept, total = b"", 0
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not ready.select(max(0.0, deadline - time.monotonic())):
                raise Refusal("child.timeout", seconds=limits.seconds)
            block = os.read(child.stdout.fileno(), 1 << 16)
            total += len(block)
            if not block or total > MAX_ANSWER:
                return
            *lines, kept = (kept + block).split(b"\n")
            yield from lines


def _ended(child: subprocess.Popen[bytes], limits: ChildLimits) -> Refusal:
    """Why there was no answer."""
    try:
        status = child.wait(10)
    except subprocess.TimeoutExpired:
        return Refusal("child.failed", fault="it closed its answer and went on")
    if status == -signal.SIGXCPU:
        return Refusal("child.timeout", seconds=limits.seconds)
    if status < 0:
        name = signal.Signals(-status).name
        return Refusal("child.killed", signal=name, memory=limits.memory // (1 << 20))
    return Refusal("child.failed", fault=f"it ended with status {status}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """The child and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()
