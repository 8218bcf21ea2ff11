"""The accelerator at the hospital: the process that multiplies for a client slice, started, watched, stopped.

It is outside every trust boundary, and so is this: the client slice checks each answer. FEDSLICE_ACCELERATOR
names another program to start instead (`--weights`, `--channel` and, behind a public front, `--first` are
added to it), and another device or number of threads is chosen there. FEDSLICE_ACCELERATOR_OWNER says whose
the machine is that multiplies: `site`, or anything else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from attestation.measured import TREE
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from enclave_host.gramine.render import CHANNEL

PROGRAM = "FEDSLICE_ACCELERATOR"
OWNER = "FEDSLICE_ACCELERATOR_OWNER"
SHARED = Path("/dev/shm")  # noqa: S108 - shared memory is what it is for
NAME = "fedslice-accelerator"
CHANNEL_BYTES = 160 << 20
START_SECONDS = 300.0


class AcceleratorProcess:
    """One accelerator, for one client slice. It ends when this process does."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Path, link: Path | None) -> None:
        self._process = process
        self.channel = channel
        self._link = link

    @classmethod
    def start(cls, weights: Path, runtime: str, log: Path, first: int = 0) -> AcceleratorProcess:
        """Start it on a prepared model's folder in the mailbox, for the layers from number `first` on, and
        wait until its channel is there. Its own output goes to `log`.

        Raises: `accelerator.not_started`.
        """
        channel = _place(weights)
        program = shlex.split(os.environ.get(PROGRAM, "")) or _own_program()
        command = [*program, "--weights", str(weights), "--channel", str(channel)]
        command += ["--first", str(first)] if first else []
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(  # noqa: S603 - ours or the site's own, without a shell
                    command,
                    cwd=TREE,
                    env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise Refusal("accelerator.not_started", fault=type(error).__name__) from error
        started = cls(process, channel, _link(runtime, weights, channel))
        try:
            started._wait()
        except BaseException:
            started.stop()
            raise
        return started

    @property
    def seen(self) -> Path:
        """Where the client slice sees the channel. Under Gramine that is another place than the host's."""
        return Path("/", CHANNEL, NAME) if self._link else self.channel

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The operating system's number of the process."""
        return self._process.pid

    def stop(self) -> None:
        """End it, and remove its channel. Safe to call twice."""
        self._process.kill()
        self._process.wait()
        for file in (self.channel, self._link):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.channel.exists():
            if not self.alive:
                raise Refusal("accelerator.not_started", fault=f"it ended with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise Refusal("accelerator.not_started", fault="its channel is not there in time")
            time.sleep(0.05)


def require_own(manifest: Manifest) -> None:
    """A public front is for accelerators that are the site's own. Our program multiplies on this very
    machine; of another one somebody has to say that it is the site's.

    Raises: `front.not_own_accelerator`.
    """
    said = os.environ.get(OWNER, "" if os.environ.get(PROGRAM) else "site")
    if manifest.front is not None and manifest.masking is not None and said != "site":
        raise Refusal("front.not_own_accelerator", variable=OWNER)


def _own_program() -> list[str]:
    return [sys.executable, "-m", "enclave_host.accelerator"]


def _place(weights: Path) -> Path:
    """Shared memory where there is enough of it, else a file beside the weights."""
    roomy = SHARED.is_dir() and shutil.disk_usage(SHARED).free >= CHANNEL_BYTES
    return (SHARED if roomy else weights.parent) / f"{NAME}-{secrets.token_hex(8)}"


def _link(runtime: str, weights: Path, channel: Path) -> Path | None:
    """A client slice under Gramine sees one folder of its mailbox for this, whose name its manifest fixes;
    there a link leads to the channel. Without Gramine there is none."""
    if runtime not in ("sgx", "direct"):
        return None
    link = weights.parents[1] / CHANNEL / NAME  # they lie in the mailbox's `in`
    link.unlink(missing_ok=True)
    link.symlink_to(channel.absolute())
    return link
