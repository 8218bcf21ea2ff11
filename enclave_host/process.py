"""The host's side of an enclave program: start it, call it, notice its death, stop it.

Used by the coordinator's supervisor and by the site agent. The host is outside the trust boundary: it carries
sealed files and evidence to and fro and learns nothing from them.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from attestation.measured import TREE
from contracts.policy import Program
from contracts.program_calls import STOP, A, Call, Nothing, R
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.programs.wire import MAX_HELLO_BYTES, PROTOCOL, Hello, HostFile, Reply, WireChannel, WireRequest
from enclave_host.gramine.launch import command
from enclave_host.mailbox import HostMailbox

log = logging.getLogger(__name__)

START_SECONDS = 180.0
HELLO_SECONDS = 5.0
STOP_SECONDS = 5.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS")
# Threads that spin while they wait make several enclaves on a few cores forty times slower than one.
_ADDED = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}


class EnclaveProcess:
    """One enclave program that this process has started. Any thread may use it; one call runs at a time.

    The program ends when this process does, whatever ends it: it watches the connection.
    """

    def __init__(self, program: Program, mailbox: HostMailbox, process: subprocess.Popen[bytes]) -> None:
        self.program = program
        self.mailbox = mailbox
        self._process = process
        self._channel: WireChannel | None = None
        self._turn = threading.Lock()
        self._last_id = 0

    @classmethod
    def start(
        cls,
        program: Program,
        runtime: str,
        mailbox: Path,
        platform: Path | None = None,
        *,
        timeout: float = START_SECONDS,
    ) -> Self:
        """Make the mailbox folder, start the program, and wait for its greeting.

        The program's own output goes to `program.log` in the folder.

        Raises: `program.start_failed`.
        """
        box = HostMailbox.create(mailbox)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            token = secrets.token_hex(32)
            named = str(platform.resolve()) if platform else None
            _write_private(
                mailbox / "host.json",
                msgspec.json.encode(HostFile(listener.getsockname()[1], token, runtime, named)),
            )
            with (mailbox / "program.log").open("ab") as output:
                process = subprocess.Popen(  # noqa: S603 - the command is ours, without a shell
                    command(program, runtime, mailbox.resolve()),
                    cwd=TREE,
                    env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _ADDED,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            started = cls(program, box, process)
            try:
                started._channel = started._greeting(listener, token, time.monotonic() + timeout)
            except BaseException:
                started.kill()
                raise
        (mailbox / "host.json").unlink(missing_ok=True)
        log.info("started %s as process %d", program, process.pid)
        return started

    @property
    def pid(self) -> int:
        """The operating system's number of the program's process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the program can still be called."""
        return self._channel is not None and self._process.poll() is None

    def ask(
        self,
        call: Call[A, R],
        arguments: A,
        progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,
    ) -> R:
        """Carry out one operation and return its result, which is read strictly: see `exchange`.

        Raises: as `exchange`, and `wire.invalid` for another result than the operation has.
        """
        result = self.exchange(call.name, msgspec.Raw(msgspec.json.encode(arguments)), progress, timeout)
        try:
            return msgspec.json.decode(result, type=call.result)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal("wire.invalid", expected=call.result.__name__) from error

    def exchange(
        self,
        op: str,
        args: msgspec.Raw,
        progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,
    ) -> msgspec.Raw:
        """Carry out one operation: JSON arguments in, the JSON of its result out. `timeout` (seconds) covers
        the wait for an earlier call.

        Raises the program's own refusal; `program.busy` or `program.timeout` when the time is over;
        `program.died`. After a timeout, or an exception out of `progress`, the program finishes that
        operation in vain and can then be called again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._turn.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            raise Refusal("program.busy", program=self.program)
        try:
            return self._exchange(op, args, progress, deadline)
        except Refusal as refusal:
            if refusal.code == "wire.timeout":
                raise Refusal("program.timeout", program=self.program, op=op, seconds=timeout) from refusal
            if refusal.code == "wire.closed":
                raise self._died() from refusal
            raise
        finally:
            self._turn.release()

    def stop(self) -> None:
        """End the program, politely where it listens. Its keys are gone then. Safe to call twice."""
        if self.alive:
            with contextlib.suppress(Refusal):
                self.ask(STOP, Nothing(), timeout=STOP_SECONDS)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the program at once."""
        self._process.kill()
        self._process.wait()
        if self._channel is not None:
            self._channel.close()
        (self.mailbox.folder / "host.json").unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _exchange(
        self,
        op: str,
        args: msgspec.Raw,
        progress: Callable[[Progress], None] | None,
        deadline: float | None,
    ) -> msgspec.Raw:
        if self._channel is None or self._process.poll() is not None:
            raise self._died()
        self._last_id += 1
        self._channel.send(WireRequest(self._last_id, op, args))
        while True:
            remaining = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            reply = self._channel.receive(Reply, timeout=remaining)
            if 0 < reply.id < self._last_id:
                continue  # the end of a call that was given up
            if reply.refused is not None:
                raise Refusal(reply.refused.code, **reply.refused.facts)
            if reply.result:
                return reply.result
            if progress is not None and reply.progress is not None:
                progress(reply.progress)

    def _greeting(self, listener: socket.socket, token: str, deadline: float) -> WireChannel:
        """Wait for the program. Whoever else connects to the port does not know the token and is sent
        away."""
        listener.settimeout(0.2)
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise self._not_started(f"it ended with status {self._process.returncode}")
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            channel = WireChannel(connection)
            try:
                hello = channel.receive(Hello, timeout=HELLO_SECONDS, limit=MAX_HELLO_BYTES)
            except Refusal:
                channel.close()
                continue
            known = hmac.compare_digest(hello.token, token)
            if known and (hello.program, hello.protocol) == (self.program, PROTOCOL):
                return channel
            channel.close()
            if known:
                raise self._not_started(f"it says that it is {hello.program}, protocol {hello.protocol}")
        raise self._not_started("it did not connect in time")

    def _not_started(self, fault: str) -> Refusal:
        return Refusal("program.start_failed", program=self.program, fault=fault)

    def _died(self) -> Refusal:
        try:
            status: int | None = self._process.wait(1)
        except subprocess.TimeoutExpired:
            status = None  # it closed the connection and lives on: of no use any more
            self.kill()
        return Refusal("program.died", program=self.program, status=status)


def _write_private(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
