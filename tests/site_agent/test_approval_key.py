"""The approval key: only its passphrase opens it, and it is never in the way of another one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.refusal import Refusal
from site_agent import approval_key as module
from site_agent import cli
from site_agent.approval_key import (
    ApprovalKey,
    Development,
    Public,
    Sealed,
    create_development,
    create_sealed,
    public_half,
    read_key_file,
    unseal_key,
)
from site_agent.state import State
from tests.site_agent.factories import add_dataset, make_manifest

SECRET = "six random words are enough"


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """One test pays the real cost."""
    monkeypatch.setattr(module, "MEMORY_KIB", 1024)


def line(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / f"line-{len(list(folder.iterdir()))}"
    file.write_text(f"{text}\n")
    file.chmod(mode)
    return file


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.code


def test_only_its_passphrase_opens_a_sealed_key(tmp_path: Path) -> None:
    file = tmp_path / "approval.key"
    made = create_sealed(file, SECRET)
    assert file.stat().st_mode & 0o077 == 0
    assert read_key_file(file) == made and read_key_file(public_half(file)) == Public(1, made.public)
    assert unseal_key(file, made, SECRET).public == made.public
    assert code_of(unseal_key, file, made, f"{SECRET}.") == "approval_key.wrong_passphrase"


@pytest.mark.usefixtures("cheap")
def test_a_changed_key_file_does_not_open(tmp_path: Path) -> None:
    file, other = tmp_path / "approval.key", tmp_path / "other.key"
    made, second = create_sealed(file, SECRET), create_sealed(other, SECRET)
    for name in ("public", "salt", "nonce", "sealed"):
        changed = msgspec.structs.replace(made, **{name: getattr(second, name)})
        assert code_of(unseal_key, file, changed, SECRET) == "approval_key.wrong_passphrase"
    file.write_bytes(file.read_bytes()[:-20])
    assert code_of(read_key_file, file) == "approval_key.damaged"
    assert code_of(read_key_file, tmp_path / "none") == "approval_key.missing"
    assert code_of(create_sealed, other, SECRET) == "approval_key.exists"


@pytest.mark.usefixtures("cheap")
def test_a_script_makes_a_key_and_changes_its_passphrase(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, old, new = tmp_path / "a.key", line(tmp_path, SECRET), line(tmp_path, "another " + SECRET)

    def run(*words: str) -> str:
        status = cli.main(["--state", str(tmp_path / "state"), "approval-key", *words])
        shown = capsys.readouterr()
        assert status in (0, 1) and SECRET not in shown.out + shown.err
        return shown.err

    key = ("--approval-key", str(file))
    for words, code in (
        ((), "needs_passphrase"),
        (("--passphrase-file", str(line(tmp_path, "elevenchars"))), "short_passphrase"),
        (("--passphrase-file", str(line(tmp_path, SECRET, 0o644))), "exposed"),
    ):
        assert f"[approval_key.{code}]" in run("create", *key, *words)
        assert not file.exists()
    assert run("create", *key, "--passphrase-file", str(old)) == ""
    assert "[approval_key.exists]" in run("create", *key, "--passphrase-file", str(old))
    change = ("passphrase", *key, "--new-passphrase-file", str(new), "--passphrase-file")
    assert "[approval_key.wrong_passphrase]" in run(*change, str(new))
    assert run(*change, str(old)) == ""
    held = read_key_file(file)
    assert isinstance(held, Sealed)
    assert unseal_key(file, held, "another " + SECRET).public == held.public
    assert code_of(unseal_key, file, held, SECRET) == "approval_key.wrong_passphrase"


def test_a_key_is_asked_for_only_what_it_is_for(state: State, tmp_path: Path) -> None:
    manifest = make_manifest(state, add_dataset(state, tmp_path))
    site = state.config.site
    assert ApprovalKey(state.approval_file).of(manifest, site).public == state.config.approval_key
    create_development(tmp_path / "other.key")
    assert code_of(ApprovalKey(tmp_path / "other.key").of, manifest, site) == "approval_key.other"
    half = line(tmp_path, msgspec.json.encode(Public(1, state.config.approval_key)).decode())
    assert code_of(ApprovalKey(half).of, manifest, site) == "approval_key.public_only"
    hardware = msgspec.structs.replace(
        manifest, runtime="sgx", policy=msgspec.structs.replace(manifest.policy, root="intel")
    )
    assert isinstance(read_key_file(state.approval_file), Development)
    assert code_of(ApprovalKey(state.approval_file).of, hardware, site) == "approval_key.development"


def test_a_person_types_a_new_passphrase_twice_and_nobody_sees_it(tmp_path: Path) -> None:
    file = tmp_path / "a.key"
    command = [sys.executable, "-m", "site_agent", "--state", str(tmp_path / "s"), "approval-key", "create"]

    def typed(*answers: str) -> str:
        child, terminal = pty.fork()
        if child == 0:
            os.execv(sys.executable, [*command, "--approval-key", str(file)])
        shown = b""
        for answer in (*answers, None):
            while b"phrase of" not in shown.rsplit(b"\n", 1)[-1] if answer else True:
                try:
                    read = os.read(terminal, 4096)
                except OSError:
                    break
                shown += read
                if not read:
                    break
            if answer:
                os.write(terminal, f"{answer}\n".encode())
                shown += b"\n"
        os.waitpid(child, 0)
        os.close(terminal)
        return shown.decode()

    shown = typed(SECRET, SECRET + "!")
    assert "[approval_key.passphrases_differ]" in shown and not file.exists()
    shown = typed(SECRET, SECRET)
    assert file.exists() and SECRET not in shown, shown


def test_a_passphrase_comes_by_an_inherited_descriptor(tmp_path: Path) -> None:
    file = tmp_path / "a.key"
    reading, writing = os.pipe()
    os.write(writing, f"{SECRET}\n".encode())
    os.close(writing)
    words = ["approval-key", "create", "--approval-key", str(file), "--passphrase-file", f"/dev/fd/{reading}"]
    done = subprocess.run(
        [sys.executable, "-m", "site_agent", *words],
        pass_fds=[reading],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    os.close(reading)
    assert done.returncode == 0 and file.exists(), done.stderr
