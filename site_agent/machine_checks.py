"""The machine's part of `check`: room, memory, processors, GPU, TEE, and the platform's certificate cache."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from site_agent.check_rows import Check, Outcome
from site_agent.enrolment import needs_platform
from site_agent.state import State
from site_agent.words import counted, readable_bytes

LEAST_DISK = 5 << 30
LEAST_MEMORY = 4 << 30
GPUS = Path("/proc/driver/nvidia/gpus")
QCNL = Path("/etc/sgx_default_qcnl.conf")
DCAP_PORT = 8081
"""Where a PCCS listens by default (Intel DCAP)."""


def machine(state: State) -> Iterator[Check]:
    free = shutil.disk_usage(state.folder).free
    hint = f"Make room, or move the state folder; {readable_bytes(LEAST_DISK)} are enough for most runs."
    yield Check("disk", *_enough(free, LEAST_DISK, f"{readable_bytes(free)} free", hint))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hint = f"Training the small models needs {readable_bytes(LEAST_MEMORY)}; larger ones need more."
    yield Check("memory", *_enough(memory, LEAST_MEMORY, f"{readable_bytes(memory)} in this machine", hint))
    yield Check("processors", "pass", counted(len(os.sched_getaffinity(0)), "core"))


def _enough(there: int, least: int, found: str, hint: str) -> tuple[Outcome, str, str]:
    return ("pass", found, "") if there >= least else ("fail", found, hint)


def tee(state: State) -> Iterator[Check]:
    """What hardware is here, against what the agent is set up for."""
    runtime = state.config.runtime
    flags = _cpu_flags()
    sgx = [path for path in ("/dev/sgx_enclave", "/dev/sgx/enclave") if Path(path).exists()]
    tdx = Path("/sys/kernel/config/tsm/report").is_dir() and "tdx_guest" in flags
    present = [f"SGX ({path})" for path in sgx] + (["TDX guest"] if tdx else [])
    if "sgx" in flags and not sgx:
        present.append("SGX in the processor, but no driver")
    found = f"runtime {runtime}; hardware here: {', '.join(present) or 'none'}"
    if needs_platform(runtime):
        ready = (state.platform / "pck-chain.pem").exists()
        hint = "Development evidence protects nothing against this machine's own administrators."
        yield Check("TEE", "warn" if ready else "fail", found, hint if ready else "Enrol this machine anew.")
        return
    missing = (runtime == "sgx" and not sgx) or (runtime == "tdx" and not tdx)
    hint = {
        "sgx": "Switch SGX on in the firmware, load the kernel's SGX driver, start aesmd.",
        "tdx": "Run the agent inside the trust domain, on a kernel with configfs-tsm.",
    }[runtime]
    yield Check("TEE", "fail" if missing else "pass", found, hint if missing else "")


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def gpu(state: State) -> Iterator[Check]:
    """Which accelerators the driver shows; none is no fault."""
    try:
        told = [(folder / "information").read_text() for folder in sorted(GPUS.iterdir())]
    except OSError:
        told = []
    models = [re.search(r"^Model:\s*(.+)$", text, re.MULTILINE) for text in told]
    names = [match.group(1).strip() for match in models if match]
    if names:
        yield Check("GPU", "pass", ", ".join(names))
    elif list(Path("/dev").glob("nvidia[0-9]*")):
        yield Check("GPU", "pass", "an NVIDIA device; its driver does not name it")
    else:
        yield Check("GPU", "pass", "none; the processor does the multiplications, slower")


def pccs(state: State) -> Iterator[Check]:
    """Whether the cache answers from which quotes on this machine get their certificate chain."""
    runtime = state.config.runtime
    if needs_platform(runtime):
        yield Check("PCCS", "pass", f"not needed for the runtime {runtime}")
        return
    try:
        match = re.search(
            r"""["']?pccs_url["']?\s*[:=]\s*["']?([^"'\s,]+)""", QCNL.read_text(), re.IGNORECASE
        )
    except OSError:
        match = None
    if match is None:
        hint = f"Name the address of your PCCS in {QCNL} (pccs_url); without it quotes carry no certificates."
        yield Check("PCCS", "warn", f"{QCNL} names none", hint)
        return
    parts = urlsplit(match.group(1))
    host, port = parts.hostname or "", parts.port or DCAP_PORT
    try:
        with socket.create_connection((host, port), timeout=5):
            pass
    except OSError as error:
        hint = f"Start the PCCS, or allow connections from this machine to {host}, port {port}."
        letter = (
            f"Please allow outgoing TCP connections from {socket.gethostname()} to {host}, port {port} (the "
            "cache of Intel's platform certificates, PCCS). No incoming connections are needed."
        )
        yield Check("PCCS", "fail", f"{host}:{port} does not answer: {error.strerror or error}", hint, letter)
        return
    yield Check("PCCS", "pass", f"{host}:{port} answers")
