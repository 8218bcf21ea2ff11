"""What a child process gives up before it reads what others made: memory, time, files, the network.

The child calls these itself, first thing. Linux only; what the kernel does not allow is said by the answer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource

from contracts.refusal import Refusal

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def bound(memory: int, seconds: int, file_bytes: int) -> None:
    """At most so many bytes of private memory, CPU seconds and bytes in a file; no core dump."""
    limits = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 512,
    }
    for name, limit in limits.items():
        hard = resource.getrlimit(name)[1]
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(name, (most, most))


def leave_network() -> bool:
    """Enter a network namespace of one's own, with nothing in it; False where the kernel does not let us."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    return bool(libc.unshare(flags) == 0 or libc.unshare(_CLONE_NEWNET | _CLONE_NEWUSER) == 0)


_ALLOW, _DENY, _TSYNC = 0x7FFF0000, 0x00050000 | errno.EPERM, 4  # seccomp.h
_NEEDED = (
    "read", "readv", "pread64", "write", "writev", "lseek", "close", "fstat", "newfstatat", "fcntl",
    "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", "sched_yield", "sched_getaffinity",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "getpid", "gettid",
    "getrandom", "clock_gettime", "clock_nanosleep", "getrusage", "sysinfo", "restart_syscall", "exit",
    "exit_group",
)  # fmt: skip
"""What a process needs that computes on files that are open already."""


def lock_down() -> None:
    """From now on, in every thread and for good: no file is opened, no process started, no socket made;
    only what is open is read and written. By libseccomp, whose list of system calls is the kernel's own.

    Raises: `child.no_sandbox` where that cannot be had.
    """
    try:
        seccomp = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise Refusal("child.no_sandbox", fault="libseccomp.so.2 is not installed") from error
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_DENY))
    if not context or seccomp.seccomp_attr_set(context, _TSYNC, 1) != 0:
        raise Refusal("child.no_sandbox", fault="the kernel has no filters")
    for name in _NEEDED:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            failed = seccomp.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
            if failed:
                raise Refusal("child.no_sandbox", fault=f"no rule for {name}: {os.strerror(-failed)}")
    if failed := seccomp.seccomp_load(context):
        raise Refusal("child.no_sandbox", fault=os.strerror(-failed))
    seccomp.seccomp_release(context)
