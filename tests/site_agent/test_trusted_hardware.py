"""`site_agent check` says what a machine has for trusted execution, before anybody enrols it."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from site_agent import daemon, tee_checks
from site_agent.check_rows import CheckRow
from site_agent.formatting import size
from site_agent.state import State
from site_agent.tee_checks import MachineFiles, tee, without_hardware
from tests.support.installation import REPOSITORY
from translations.spoken import speaking

GIB = 1 << 30


class Built:
    """A machine of files, as a kernel would show them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.flags("fpu", "sgx", "sgx_lc")
        self.put("proc/sys/kernel/osrelease", "6.8.0-41-generic\n")
        self.put("dev/sgx_enclave", "")
        self.put("dev/sgx_provision", "")
        for node in (0, 1):
            self.put(f"sys/devices/system/node/node{node}/x86/sgx_total_bytes", f"{2 * GIB}\n")
        self.put("var/run/aesmd/aesm.socket", "")
        self.put("usr/lib/x86_64-linux-gnu/libsgx_dcap_ql.so.1.13.103.3", "")
        (root / "usr/lib/x86_64-linux-gnu/libsgx_dcap_ql.so.1").symlink_to("libsgx_dcap_ql.so.1.13.103.3")

    def flags(self, *flags: str) -> None:
        self.put("proc/cpuinfo", f"processor\t: 0\nflags\t\t: {' '.join(flags)}\n\nprocessor\t: 1\n")

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def drop(self, path: str) -> None:
        (self.root / path).unlink()


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path / "machine")


@pytest.fixture
def before(tmp_path: Path) -> State:
    """A folder that nobody has enrolled."""
    return State.open(tmp_path / "state")


def rows(built: Built, state: State, enclave: int = 0) -> dict[str, CheckRow]:
    return {check.name: check for check in tee(state, enclave, MachineFiles(built.root))}


def of_runtime(state: State, runtime: str) -> State:
    state.config = msgspec.structs.replace(state.config, runtime=runtime)
    return state


def test_before_enrolment_all_that_is_here_is_told_and_nothing_is_red(built: Built, before: State) -> None:
    reported = rows(built, before)
    assert (
        reported["SGX"].found
        == f"{built.root}/dev/sgx_enclave, 4.0 GiB of protected memory (EPC), kernel 6.8.0-41-generic"
    )
    assert reported["DCAP"].found == "aesmd listens; libsgx-dcap-ql 1.13.103.3"
    assert reported["TDX"].found == "this is no trust domain (not needed by this site so far)"
    assert {check.outcome for check in reported.values()} == {"pass"}
    assert "Method 2 nothing" in reported["TEE"].found


def test_a_machine_without_any_of_it_says_so_without_reproach(before: State, tmp_path: Path) -> None:
    (bare := tmp_path / "bare").mkdir()
    reported = {check.name: check for check in tee(before, machine=MachineFiles(bare))}
    assert list(reported) == ["TEE", "SGX", "TDX", "PCCS"]
    assert {check.outcome for check in reported.values()} == {"pass"}
    assert reported["SGX"].found.startswith("not in this processor")
    asked = {check.name: check for check in tee(before, GIB, MachineFiles(bare))}["enclave"]
    assert (asked.outcome, asked.found) == ("fail", "1.0 GiB are asked, and there is no SGX here")


@pytest.mark.parametrize(
    ("broken", "found", "hint"),
    [
        (lambda m: (m.flags("fpu"), m.drop("dev/sgx_enclave")), "not in this processor", "firmware"),
        (lambda m: m.flags("fpu", "sgx"), "without flexible launch control", "flexible"),
        (lambda m: m.drop("dev/sgx_enclave"), "6.8.0-41-generic has no driver for it", "CONFIG_X86_SGX"),
        (
            lambda m: (m.drop("dev/sgx_enclave"), m.put("proc/sys/kernel/osrelease", "5.4.0-1\n")),
            "which is too old for one",
            "5.11",
        ),
        (lambda m: m.drop("dev/sgx_provision"), "may not open", "sgx_prv"),
    ],
    ids=["no processor", "no launch control", "no driver", "old kernel", "no right"],
)  # fmt: skip
def test_where_the_runtime_is_sgx_what_is_missing_is_red_and_says_what_to_do(
    broken, found, hint, built: Built, state: State
) -> None:
    broken(built)
    row = rows(built, of_runtime(state, "sgx"))["SGX"]
    assert row.outcome == "fail"
    assert found in row.found and hint in row.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_device_that_this_user_may_not_open_is_named(built: Built, state: State) -> None:
    (built.root / "dev/sgx_enclave").chmod(0)
    assert "sgx_enclave" in rows(built, of_runtime(state, "sgx"))["SGX"].found


def test_what_quotes_are_made_with_is_named_where_it_is_missing(built: Built, state: State) -> None:
    built.drop("var/run/aesmd/aesm.socket")
    row = rows(built, of_runtime(state, "sgx"))["DCAP"]
    assert (row.outcome, row.found) == ("fail", "missing: aesmd")
    for file in (built.root / "usr/lib/x86_64-linux-gnu").iterdir():
        file.unlink()
    assert rows(built, state)["DCAP"].found == "missing: aesmd, libsgx-dcap-ql"


@pytest.mark.parametrize(
    ("asked", "outcome", "found"),
    [
        ("3.4GiB", "pass", "3.4 GiB fit into 4.0 GiB of EPC"),
        ("4 GiB", "pass", "4.0 GiB fit"),
        ("4.1 GiB", "fail", "4.1 GiB do not fit into 4.0 GiB of EPC"),
        ("16GB", "fail", "14.9 GiB do not fit"),
    ],
)
def test_a_study_s_enclave_fits_into_the_protected_memory_or_not(
    asked: str, outcome: str, found: str, built: Built, before: State
) -> None:
    row = rows(built, before, size(asked))["enclave"]
    assert row.outcome == outcome and row.found.startswith(found)
    assert bool(row.hint) is (outcome == "fail")


def test_a_kernel_that_does_not_tell_its_epc_is_not_believed_to_have_any(built: Built, before: State) -> None:
    for node in (0, 1):
        built.put(f"sys/devices/system/node/node{node}/x86/sgx_total_bytes", "all of it\n")
    reported = rows(built, before, GIB)
    assert "EPC not told" in reported["SGX"].found and reported["enclave"].outcome == "warn"


@pytest.mark.parametrize("text", ["", "3.4", "GiB", "-1GiB", "1e9GB", "3.4 GiB of EPC", "9" * 20 + "GB"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        size(text)


def test_a_trust_domain_needs_its_place_for_quotes(built: Built, state: State) -> None:
    built.flags("fpu", "tdx_guest")
    built.put("proc/sys/kernel/osrelease", "6.5.0\n")
    row = rows(built, of_runtime(state, "tdx"))["TDX"]
    assert row.outcome == "fail" and row.found.endswith("kernel 6.5.0 is too old")
    (built.root / "sys/kernel/config/tsm/report").mkdir(parents=True)
    assert rows(built, state)["TDX"].outcome == "pass"


@pytest.fixture
def listener() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_the_cache_of_certificates_is_told_by_where_it_answers(
    built: Built, before: State, listener: int
) -> None:
    assert rows(built, before)["PCCS"].found == "not needed for machines without SGX quotes"
    built.put(
        "etc/sgx_default_qcnl.conf", f'{{"pccs_url": "https://127.0.0.1:{listener}/sgx/certification/v4/"}}'
    )
    assert rows(built, before)["PCCS"].found == f"127.0.0.1:{listener} answers"
    built.put("etc/sgx_default_qcnl.conf", "PCCS_URL=https://127.0.0.1:1/sgx/certification/v4/\n")
    row = rows(built, before)["PCCS"]
    assert (
        row.outcome == "warn" and "127.0.0.1:1 does not answer" in row.found and "No incoming" in row.letter
    )
    built.put("etc/sgx_default_qcnl.conf", '{"pccs_url": "https://[::1/"}')
    assert "is no address" in rows(built, before)["PCCS"].found
    built.put("etc/sgx_default_qcnl.conf", "{}")
    assert rows(built, before)["PCCS"].found.endswith("names none")


def test_gramine_is_looked_for_where_programs_are(
    built: Built, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tee_checks, "PACKAGE_TOOLS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert rows(built, of_runtime(state, "sgx"))["Gramine"].outcome == "fail"
    (tmp_path / "gramine-sgx").write_text("#!/bin/sh\n")
    (tmp_path / "gramine-sgx").chmod(0o755)
    assert rows(built, state)["Gramine"].found == f"{tmp_path}/gramine-sgx, version not told"


def test_the_command_tells_it_in_a_folder_that_nobody_has_enrolled(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "site_agent",
        "--state",
        str(tmp_path / "new"),
        "check",
        "--enclave",
        "2GiB",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    reported = {line.split("  ")[0] for line in done.stdout.splitlines()}
    assert {"enrolment", "SGX", "TDX", "PCCS", "enclave"} <= reported, done.stdout
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_gramine_is_looked_for_where_the_runtime_is_gramine_without_hardware(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare := tmp_path / "bare").mkdir()
    (folder := tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(folder))
    reported = {row.name: row for row in tee(of_runtime(state, "direct"), machine=MachineFiles(bare))}
    assert (reported["Gramine"].outcome, reported["Gramine"].found) == (
        "fail",
        "gramine-direct is not on PATH",
    )
    assert without_hardware(state, MachineFiles(bare)) == ["Gramine: gramine-direct is not on PATH"]
    (folder / "gramine-direct").write_text("#!/bin/sh\n")
    (folder / "gramine-direct").chmod(0o755)
    reported = {row.name: row for row in tee(state, machine=MachineFiles(bare))}
    assert reported["Gramine"].outcome == "pass" and without_hardware(state, MachineFiles(bare)) == []


@pytest.mark.parametrize(
    ("runtime", "lacks"),
    [("sgx", ["SGX: ", "DCAP: ", "Gramine: "]), ("tdx", ["TDX: "]), ("development", [])],
)
def test_an_agent_without_the_hardware_of_its_runtime_does_not_say_that_it_is_ready(
    runtime: str, lacks: list[str], state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare := tmp_path / "bare").mkdir()
    monkeypatch.setenv("PATH", str(bare))
    found = without_hardware(of_runtime(state, runtime), MachineFiles(bare))
    assert [line[: len(start)] for line, start in zip(found, lacks, strict=True)] == lacks
    said: list[str] = []
    monkeypatch.setattr(daemon, "without_hardware", lambda _state: found)
    agent = daemon.Daemon(state, said.append)
    agent.stop.set()
    with speaking("de"):
        agent.run()
    assert ("ist bereit" in said[0]) == (not lacks) and said[-1] == "Der Agent ist beendet."
    assert all(line in said[0] for line in found)
