"""Starts one enclave program in a trust domain, after it has measured it into RTMR3.

    python3 -I -B enclave/launcher.py PROGRAM --mailbox DIR [--threads N]

In the image (enclave_host/tdx) this is the first process; the program takes its place. In this order:

1. the event (contracts/launch.py): program, command line, measurement of its closure, its locked packages;
2. a line in the event log, then the event's SHA-384 into RTMR3, through the kernel (Linux 6.16 on,
   Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest): a write of 48 bytes extends;
3. configfs-tsm, where quotes come from, for the owner alone; no capability is left, nor can one be won again;
4. the program, with this command line and an environment of our own.

A second start in the same trust domain extends again, and no relying party accepts the two. What fails ends
it before the program runs. Part of every measured image: the standard library alone, and no module of ours.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
MEASURED = "enclave/measured"
PROGRAMS = ("aggregator", "client_slice", "split_server")
REGISTER = Path("/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384")
REPORTS = Path("/sys/kernel/config/tsm/report")
EVENT_LOG = Path("/run/fedslice/launches")
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HOME": "/tmp",  # noqa: S108 - of the image, whose only process this is
    "LC_ALL": "C.UTF-8",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PATH": "/usr/bin:/bin",
    "PYTHONPATH": str(TREE),
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
}
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522


def command_line(program: str, python: str = "python3", mailbox: str = "MAILBOX") -> list[str]:
    """The command line; without the two places it is what is measured."""
    return [python, "-P", "-s", "-B", "-m", f"enclave.programs.{program}", "--mailbox", mailbox]


def event_of(program: str, tree: Path = TREE) -> bytes:
    """The event of a start: `contracts.launch.Launch` in canonical form. Raises OSError."""
    beside = [f"{MEASURED}/{program}.{kind}" for kind in ("modules", "manifest.template", "packages")]
    names = sorted({*(tree / beside[0]).read_text().split(), *beside})
    files = {name: hashlib.sha256((tree / name).read_bytes()).hexdigest() for name in names}
    closure = {"domain": "fedslice/measurement/v1", "files": files, "program": program}
    return _canonical(
        {
            "argv": command_line(program),
            "domain": "fedslice/launch/v1",
            "measurement": hashlib.sha256(_canonical(closure)).hexdigest(),
            "packages": files[beside[2]],
            "program": program,
        }
    )


def extend(register: Path, log: Path, event: bytes) -> None:
    """The log first: what is in the register and not in the log could be explained to nobody. Raises
    OSError."""
    log.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(event + b"\n")
    # Not created where it is missing. sysfs takes each write as one at offset 0, also of an appending file.
    descriptor = os.open(register, os.O_WRONLY | os.O_APPEND)
    try:
        if os.write(descriptor, hashlib.sha384(event).digest()) != 48:
            raise OSError(f"{register} took a part only")
    finally:
        os.close(descriptor)


def lock_down(reports: Path) -> None:
    """The kernel gives the files of a report request to root, whoever asks: the program stays root, in name
    alone. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if reports == REPORTS and not reports.is_dir():
        libc.mount(b"configfs", b"/sys/kernel/config", b"configfs", 0, None)
    reports.chmod(0o700)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; two words each
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "privileges could not be given up")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, give up what the program does not need, and become it.

    Returns: never.
    """
    parser = argparse.ArgumentParser(prog="enclave/launcher.py")
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--mailbox", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--register", type=Path, default=REGISTER)
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--event-log", type=Path, default=EVENT_LOG)
    chosen = parser.parse_args(arguments)
    extend(chosen.register, chosen.event_log, event_of(chosen.program))
    lock_down(chosen.reports)
    os.closerange(3, 1 << 16)
    python = sys.executable
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": str(chosen.threads)}
    os.execve(python, command_line(chosen.program, python, str(chosen.mailbox)), environment)  # noqa: S606 - no shell


def _canonical(value: Mapping[str, object]) -> bytes:
    """RFC 8785 of what stands here: text and nothing outside of ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    main()
