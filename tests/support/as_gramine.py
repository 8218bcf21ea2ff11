"""Starts a program as an ordinary process whose system calls are answered as Gramine 1.9 would: what it
lacks is ENOSYS, and a new process is EAGAIN, as under `sys.disallow_subprocesses`. It needs no Gramine.

    python tests/support/as_gramine.py PROGRAM ARGUMENT…

The names that Gramine answers stand in gramine-1.9.syscalls. The filter is libseccomp's, loaded before the
program starts, so that the dynamic linker and the C library meet it as well. What Gramine answers, but in its
own way (the numbers of statvfs, a device's size, files outside the manifest), only Gramine itself can show.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

NAMES = Path(__file__).with_name("gramine-1.9.syscalls")
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # seccomp.h
_MASKED_EQUAL, _CLONE_VM = 7, 0x100
# The kernel itself asks for this one, to go on with a call after a signal.
_KERNELS_OWN = "restart_syscall"
_PROCESSES = ("fork", "vfork", "clone")


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def answered() -> list[str]:
    """The names of the system calls that Gramine answers."""
    return [line for line in NAMES.read_text().splitlines() if not line.startswith("#")]


def answer_as_gramine() -> None:
    """From now on, in this process and in what it becomes. Raises OSError where a rule cannot be had."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ERRNO | errno.ENOSYS)))

    def rule(action: int, name: str, *comparisons: _Comparison) -> None:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        array = (_Comparison * len(comparisons))(*comparisons)
        failed = seccomp.seccomp_rule_add_array(
            context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        if failed:
            raise OSError(-failed, f"no rule for {name}: {os.strerror(-failed)}")

    for name in [*answered(), _KERNELS_OWN]:
        if name not in _PROCESSES:
            rule(_ALLOW, name)
    rule(_ALLOW, "clone", _Comparison(0, _MASKED_EQUAL, _CLONE_VM, _CLONE_VM))
    rule(_ERRNO | errno.EAGAIN, "clone", _Comparison(0, _MASKED_EQUAL, _CLONE_VM, 0))
    for name in ("fork", "vfork"):
        rule(_ERRNO | errno.EAGAIN, name)
    if failed := seccomp.seccomp_load(context):
        raise OSError(-failed, os.strerror(-failed))


if __name__ == "__main__":
    answer_as_gramine()
    os.execv(sys.argv[1], sys.argv[1:])
