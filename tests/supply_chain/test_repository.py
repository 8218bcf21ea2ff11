"""What the repository promises of what is installed, and that no secret stands in it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from attestation.measured import PROGRAMS
from enclave_host.lock import read_lock
from tests.support.installation import REPOSITORY

SECRETS = {
    "a private key": r"-----BEGIN (?:RSA |EC |OPENSSH |ENCRYPTED |DSA |PGP )?PRIVATE KEY",
    "a key of Amazon": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a key of Google": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "a token of GitHub": r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{82})\b",
    "a token of GitLab": r"\bglpat-[0-9A-Za-z_-]{20}\b",
    "a token of Slack": r"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "a token of PyPI": r"\bpypi-AgEIcHlwaS5vcmc[0-9A-Za-z_-]{50,}",
    "a token of Hugging Face": r"\bhf_[A-Za-z]{34}\b",
    "a JSON web token": r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{20,}",
    "a password in an address": r"\b(?:postgres(?:ql)?|redis|smtp|https?)://[^\s:/@{}$\"'<]+:[^\s:/@{}$\"'<*]{6,}@(?!127\.|localhost|[\w.-]+\.(?:example|test)\b)",
}
"""Patterns of what these services hand out; a file that only speaks of them does not match."""
SPOKEN_OF = {"postgresql://user:password@", "smtp://user:password@"}
# An address on this machine or of nobody (RFC 2606) is a test's.


def secrets_in(text: str) -> list[str]:
    return [
        what
        for what, pattern in SECRETS.items()
        for found in re.finditer(pattern, text)
        if found.group() not in SPOKEN_OF
    ]


def test_no_file_of_the_repository_holds_a_secret() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    found = {}
    for name in filter(None, listed):
        path = REPOSITORY / name
        if path.is_file() and (said := secrets_in(path.read_bytes().decode("latin-1"))):
            found[name] = said
    assert found == {}


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a private key", "-----BEGIN " + "PRIVATE KEY-----"),
        ("a key of Amazon", "AKIA" + "Q" * 16),
        ("a token of GitHub", "ghp_" + "a1" * 18),
        ("a password in an address", "redis://:".replace("//:", "//me:") + "hunter2222@cache"),
    ],
)
def test_the_scan_finds_what_it_looks_for(what: str, text: str) -> None:
    assert secrets_in(f"x = '{text}'") == [what]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    return script("lock")


def test_each_lock_holds_every_pin_by_version_and_hash(lock: ModuleType) -> None:
    assert [fault for name in lock.LOCKS for fault in lock.stale(name)] == []


def test_a_pin_without_a_lock_and_a_line_without_a_hash_are_faults(lock: ModuleType, tmp_path: Path) -> None:
    for name, files in lock.LOCKS.items():
        for file in (name, *files):
            (tmp_path / file).write_text((REPOSITORY / file).read_text())
    site = tmp_path / "requirements-site.txt"
    site.write_text(site.read_text().replace("msgspec==", "msgspec==99."))
    with (tmp_path / "requirements-site.lock").open("a") as file:
        file.write("evil==1.0\n")
    faults = lock.stale("requirements-site.lock", tmp_path)
    assert len(faults) == 2 and "msgspec" in faults[0] and "evil==1.0" in faults[1]


def test_the_audit_asks_about_every_locked_package_and_takes_no_silence_for_a_pass(lock: ModuleType) -> None:
    audit = script("audit")
    asked = audit.pinned().splitlines()
    for name in lock.LOCKS:
        for package, version, _sha in lock.LOCKED.findall((REPOSITORY / name).read_text()):
            assert f"{package}=={version.partition('+')[0]}" in asked
    for program in PROGRAMS:
        for package in read_lock(program):
            assert f"{package.name}=={package.version.partition('+')[0]}" in asked
    found = {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}
    report = [
        {"name": "fine", "version": "1.0", "vulns": []},
        {"name": "weak", "version": "1.0", "vulns": [found]},
        {"name": "unknown", "skip_reason": "Dependency not found on PyPI"},
    ]
    assert audit.verdict({"dependencies": report}) == [
        "weak 1.0: PYSEC-2026-1; fixed in 1.1",
        "unknown: not checked: Dependency not found on PyPI",
    ]


@pytest.mark.parametrize("busy", [0, 3, 99])
def test_the_tests_own_packages_wait_for_another_apt(tmp_path: Path, busy: int) -> None:
    """A machine's own updates at boot hold the lock: of the lists, for which apt has no time-out, as well."""
    said = tmp_path / "said"
    programs = {
        "apt-get": f'echo "$*" >> {said}; [ "$1" != update ] || [ "$(grep -c ^update {said})" -gt {busy} ]',
        "sleep": "",
        "id": "echo 0",
        "ldconfig": "",
    }
    for name, does in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("seq", "grep"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    script = REPOSITORY / ".ci" / "install-debian.sh"
    done = subprocess.run(["/bin/bash", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    calls = said.read_text().splitlines()
    assert done.returncode == (1 if busy == 99 else 0), done.stderr
    assert len([call for call in calls if call.startswith("update")]) == min(busy + 1, 60)
    installs = [call for call in calls if call.startswith("install")]
    assert len(installs) == (0 if busy == 99 else 1)
    assert all("DPkg::Lock::Timeout=300" in call and "chromium" in call for call in installs)
