"""The part of `check` about trusted execution: what this machine has, before anybody enrols it.

Told are SGX (processor, driver, rights, and how much protected memory, EPC), what quotes are made with
(aesmd and Intel's DCAP library), Gramine, TDX, and where the cache of the platform's certificates (PCCS)
answers. A row is red only where the runtime that this site is enrolled for needs what is not there, or where
the asked enclave does not fit.

Sources: Linux' Documentation/arch/x86/sgx.rst, Documentation/ABI/stable/sysfs-devices-node
(x86/sgx_total_bytes) and Documentation/ABI/testing/configfs-tsm-report; Intel DCAP's sgx_default_qcnl.conf.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from contracts.refusal import Refusal
from site_agent.check_rows import CheckRow
from site_agent.enrolment import needs_platform
from site_agent.formatting import printable, readable_bytes
from site_agent.state import State

DCAP_PORT = 8081
"""Where a PCCS listens by default (Intel DCAP)."""
SGX_KERNEL, TSM_KERNEL = (5, 11), (6, 7)
"""The first releases of Linux with an SGX driver, and with configfs-tsm."""
QUOTE_LIBRARY = "libsgx_dcap_ql.so.*"
LIBRARIES = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/lib",
    "opt/intel/sgx-dcap-pccs/lib",
)
PACKAGE_TOOLS = (("dpkg-query", "-W", "-f=${Version}"), ("rpm", "-q", "--qf=%{VERSION}"))


@dataclass(frozen=True)
class MachineFiles:
    """A machine as its files tell of it."""

    root: Path = Path("/")

    @property
    def flags(self) -> set[str]:
        """What the processor can do."""
        lines = self.text("proc/cpuinfo").splitlines()
        return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))

    @property
    def kernel(self) -> str:
        return self.text("proc/sys/kernel/osrelease").strip()

    @property
    def sgx_device(self) -> Path | None:
        """The enclave device of the kernel's driver, or of Intel's older one."""
        devices = (self.root / "dev/sgx_enclave", self.root / "dev/sgx/enclave")
        return next((device for device in devices if device.exists()), None)

    @property
    def epc(self) -> int:
        """Bytes of protected memory on all sockets; 0 where the kernel (before 5.17) does not tell."""
        nodes = (self.root / "sys/devices/system/node").glob("node*/x86/sgx_total_bytes")
        return sum(int(said) for node in nodes if (said := self.text(node).strip()).isdigit())

    @property
    def aesmd(self) -> bool:
        return any((self.root / run / "aesmd/aesm.socket").exists() for run in ("var/run", "run"))

    @property
    def quote_library(self) -> str:
        """The version of Intel's library that quotes are made with; empty where there is none."""
        for folder in LIBRARIES:
            for file in sorted((self.root / folder).glob(QUOTE_LIBRARY), reverse=True):
                return file.resolve().name.partition(".so.")[2]
        return ""

    @property
    def tsm(self) -> bool:
        """Whether this is a trust domain that can ask for its quotes."""
        return (self.root / "sys/kernel/config/tsm/report").is_dir() and "tdx_guest" in self.flags

    def newer(self, release: tuple[int, int]) -> bool:
        """Whether the kernel is of this release or a later one."""
        found = re.match(r"(\d+)\.(\d+)", self.kernel)
        return found is None or (int(found[1]), int(found[2])) >= release

    def text(self, path: str | Path) -> str:
        """A small file of the machine; empty where it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return ""


def tee(state: State, enclave: int = 0, machine: MachineFiles | None = None) -> Iterator[CheckRow]:
    """Rows about trusted execution. `enclave` is how many bytes the study's enclave takes here, 0 where that
    is not asked. Works before enrolment."""
    machine, runtime = machine or MachineFiles(), _runtime(state)
    yield from _evidence(state, runtime)
    yield _needed(_sgx(machine), runtime == "sgx")
    yield from _room(machine, enclave)
    if machine.sgx_device or runtime == "sgx":
        yield _needed(_quoting(machine), runtime == "sgx")
        yield _needed(_gramine("gramine-sgx"), runtime == "sgx")
    elif runtime == "direct":
        yield _gramine("gramine-direct")
    yield _needed(_tdx(machine), runtime == "tdx")
    yield from _pccs(machine, runtime)


def _runtime(state: State) -> str:
    """What the site is enrolled for; empty before, and where that cannot be read (`enrolment` says why)."""
    try:
        return state.config.runtime if state.enrolled else ""
    except Refusal:
        return ""


def _evidence(state: State, runtime: str) -> Iterator[CheckRow]:
    """What this site's evidence is worth."""
    if not runtime:
        yield CheckRow(
            "TEE", "pass", "Method 1 needs SGX at the hospital, Method 2 nothing; what is here stands below"
        )
    elif needs_platform(runtime):
        ready = (state.platform / "pck-chain.pem").exists()
        hint = "Development evidence protects nothing against this machine's own administrators."
        found = f"runtime {runtime}; no hardware is used"
        yield CheckRow(
            "TEE", "warn" if ready else "fail", found, hint if ready else "Enrol this machine again."
        )
    else:
        yield CheckRow("TEE", "pass", f"runtime {runtime}; the hardware that it needs stands below")


def _needed(check: CheckRow, needed: bool) -> CheckRow:
    """Red where the runtime needs it, and no reproach where it does not."""
    if check.outcome == "pass" or needed:
        return check
    return CheckRow(check.name, "pass", f"{check.found} (not needed by this site so far)")


def _sgx(machine: MachineFiles) -> CheckRow:
    flags, kernel, device = machine.flags, printable(machine.kernel, 60), machine.sgx_device
    if "sgx" not in flags and device is None:
        hint = "Where the processor has SGX, switch it on in the firmware (and the hypervisor)."
        return CheckRow("SGX", "fail", "not in this processor, or switched off in its firmware", hint)
    if "sgx" in flags and "sgx_lc" not in flags:
        hint = (
            "Set launch control to flexible in the firmware; processors without it cannot make DCAP quotes."
        )
        return CheckRow("SGX", "fail", "without flexible launch control, so no quotes can be made", hint)
    if device is None:
        hint = (
            "Use a kernel of 5.11 or later with CONFIG_X86_SGX, and enough protected memory in the firmware."
        )
        old = "" if machine.newer(SGX_KERNEL) else ", which is too old for one"
        return CheckRow(
            "SGX", "fail", f"in the processor, but kernel {kernel} has no driver for it{old}", hint
        )
    closed = [
        path for path in (device, device.parent / device.name.replace("enclave", "provision")) if _shut(path)
    ]
    if closed:
        names = " and ".join(map(str, closed))
        hint = "Let the agent's user open them: usermod -aG sgx,sgx_prv USER (group names differ)."
        return CheckRow("SGX", "fail", f"the driver is there, but this user may not open {names}", hint)
    protected = f"{readable_bytes(machine.epc)} of protected memory (EPC)" if machine.epc else "EPC not told"
    return CheckRow("SGX", "pass", f"{device}, {protected}, kernel {kernel}")


def _shut(path: Path) -> bool:
    return not os.access(path, os.R_OK | os.W_OK)


def _room(machine: MachineFiles, enclave: int) -> Iterator[CheckRow]:
    """Whether the study's enclave fits. In more than the EPC it runs all the same, paged, and very slowly."""
    if not enclave:
        return
    wish, epc = readable_bytes(enclave), machine.epc
    if machine.sgx_device is None:
        hint = "Run the agent on a machine with SGX, or ask for a study with Method 2."
        yield CheckRow("enclave", "fail", f"{wish} are asked, and there is no SGX here", hint)
    elif not epc:
        yield CheckRow("enclave", "warn", f"{wish} are asked; this machine does not tell its EPC",
                    "Read the EPC's size in the firmware, or use a kernel of 5.17 or later.")  # fmt: skip
    elif enclave <= epc:
        yield CheckRow("enclave", "pass", f"{wish} fit into {readable_bytes(epc)} of EPC")
    else:
        hint = "Give SGX more in the firmware, or ask for a public front, masked layers or less rows a batch."
        found = (
            f"{wish} do not fit into {readable_bytes(epc)} of EPC; swapped, a step takes many times as long"
        )
        yield CheckRow("enclave", "fail", found, hint)


def _quoting(machine: MachineFiles) -> CheckRow:
    library = printable(machine.quote_library, 60)
    missing = ([] if machine.aesmd else ["aesmd"]) + ([] if library else ["libsgx-dcap-ql"])
    if missing:
        hint = "Install sgx-aesm-service with its ECDSA plugin and libsgx-dcap-ql, and start aesmd."
        return CheckRow("DCAP", "fail", f"missing: {', '.join(missing)}", hint)
    return CheckRow("DCAP", "pass", f"aesmd listens; libsgx-dcap-ql {library}")


def without_hardware(state: State, machine: MachineFiles | None = None) -> list[str]:
    """What the runtime of this site needs to start enclaves, and this machine has not; a line each."""
    machine, runtime = machine or MachineFiles(), _runtime(state)
    rows: list[CheckRow] = []
    if runtime == "sgx":
        rows = [_sgx(machine), _quoting(machine), _gramine("gramine-sgx")]
    elif runtime == "direct":
        rows = [_gramine("gramine-direct")]
    elif runtime == "tdx":
        rows = [_tdx(machine)]
    return [f"{row.name}: {row.found}" for row in rows if row.outcome == "fail"]


def _gramine(name: str) -> CheckRow:
    loader = shutil.which(name)
    if loader is None:
        hint = "Install Gramine 1.9 from its own package repository (docs/operations.md)."
        return CheckRow("Gramine", "fail", f"{name} is not on PATH", hint)
    return CheckRow("Gramine", "pass", f"{loader}, {_installed('gramine') or 'version not told'}")


def _installed(package: str) -> str:
    for command in PACKAGE_TOOLS:
        if shutil.which(command[0]):
            done = subprocess.run(  # noqa: S603  # the commands stand above
                [*command, package], capture_output=True, text=True, timeout=10, check=False
            )
            if not done.returncode:
                return printable(done.stdout.strip(), 60)
    return ""


def _tdx(machine: MachineFiles) -> CheckRow:
    if machine.tsm:
        return CheckRow(
            "TDX", "pass", f"a trust domain with configfs-tsm, kernel {printable(machine.kernel, 60)}"
        )
    hint = "Run inside a trust domain, on a kernel of 6.7 or later with configfs-tsm mounted."
    if "tdx_guest" not in machine.flags:
        return CheckRow("TDX", "fail", "this is no trust domain", hint)
    old = "" if machine.newer(TSM_KERNEL) else f": kernel {printable(machine.kernel, 60)} is too old"
    return CheckRow("TDX", "fail", f"a trust domain, but without configfs-tsm{old}", hint)


def _pccs(machine: MachineFiles, runtime: str) -> Iterator[CheckRow]:
    """Whether the cache answers from which quotes on this machine get their certificate chain."""
    file = machine.root / "etc/sgx_default_qcnl.conf"
    if not file.exists() and runtime != "sgx":
        for_whom = f"the runtime {runtime}" if runtime else "machines without SGX quotes"
        yield CheckRow("PCCS", "pass", f"not needed for {for_whom}")
        return
    match = re.search(r"""["']?pccs_url["']?\s*[:=]\s*["']?([^"'\s,]+)""", machine.text(file), re.IGNORECASE)
    if match is None:
        hint = f"Name the address of your PCCS in {file} (pccs_url); without it quotes carry no certificates."
        yield CheckRow("PCCS", "warn", f"{file} names none", hint)
        return
    try:
        parts = urlsplit(match.group(1))
        host, port = printable(parts.hostname or "", 200), parts.port or DCAP_PORT
    except ValueError:
        hint = f"Write pccs_url in {file} as https://HOST:{DCAP_PORT}/sgx/certification/v4/."
        yield CheckRow(
            "PCCS", "warn", f"{file} names {printable(match.group(1), 100)}, which is no address", hint
        )
        return
    try:
        with socket.create_connection((host, port), timeout=5):
            pass
    except OSError as error:
        hint = f"Start the PCCS, or allow connections from this machine to {host}, port {port}."
        letter = (
            f"Please allow outgoing TCP connections from {socket.gethostname()} to {host}, port {port} (the "
            "cache of Intel's platform certificates, PCCS). No incoming connections are needed."
        )
        found = f"{host}:{port} does not answer: {error.strerror or error}"
        yield CheckRow("PCCS", "fail" if runtime == "sgx" else "warn", found, hint, letter)
        return
    yield CheckRow("PCCS", "pass", f"{host}:{port} answers")
