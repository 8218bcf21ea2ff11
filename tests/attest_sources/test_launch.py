"""The command line that starts a program in each runtime.

Gramine is not installed where these tests run: a script of that name on the PATH shows that the command
starts it, where, and with what. That the manifest itself works under Gramine is not shown here.
"""

import json
import shutil
import subprocess
import sys
import tomllib

import pytest

from contracts.refusal import Refusal
from enclave_host.gramine import launch
from enclave_host.gramine.launch import command
from enclave_host.gramine.trusted import GLIBC


def _refused(code, function, *arguments):
    with pytest.raises(Refusal) as caught:
        function(*arguments)
    assert caught.value.code == code
    return caught.value


@pytest.fixture
def mailbox(tmp_path):
    folder = tmp_path / "mailbox"
    folder.mkdir()
    host = {"port": 1, "token": "t", "runtime": "direct", "platform": str(tmp_path / "platform")}
    (folder / "host.json").write_text(json.dumps(host))
    return folder


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A PATH with gramine-direct and gramine-sgx that print where and how they were started."""
    folder = tmp_path / "gramine" / "bin"
    folder.mkdir(parents=True)
    for name in ("gramine-direct", "gramine-sgx"):
        (folder / name).write_text('#!/bin/sh\necho "$(basename "$0")"\npwd\necho "$@"\n')
        (folder / name).chmod(0o755)
    lib = folder.parent / "lib" / "x86_64-linux-gnu" / "gramine"
    (lib / "runtime" / "glibc").mkdir(parents=True)
    for name in ("libsysdb.so", *(f"runtime/glibc/{name}" for name in GLIBC)):
        (lib / name).touch()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_development_is_an_ordinary_process_of_this_interpreter(mailbox):
    assert command("aggregator", "development", mailbox) == [
        sys.executable, "-m", "enclave.programs.aggregator", "--mailbox", str(mailbox)
    ]  # fmt: skip


def test_tdx_is_refused_because_nothing_measures_the_program_there(mailbox):
    _refused("runtime.unmeasured", command, "split_server", "tdx", mailbox)


def test_an_unknown_runtime_or_program_is_refused(mailbox):
    _refused("source.unknown_runtime", command, "aggregator", "sev", mailbox)
    _refused("gramine.unknown_program", command, "../shell", "development", mailbox)


@pytest.mark.skipif(shutil.which("gramine-direct") is not None, reason="Gramine is installed here")
@pytest.mark.parametrize("runtime", ["direct", "sgx"])
def test_without_gramine_the_refusal_names_the_tool(mailbox, runtime):
    assert _refused("gramine.not_installed", command, "aggregator", runtime, mailbox).facts == {
        "tool": f"gramine-{runtime}"
    }


def test_direct_starts_gramine_in_the_mailbox_on_a_manifest_rendered_for_it(mailbox, tools, tmp_path):
    output = subprocess.run(
        command("aggregator", "direct", mailbox), capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["gramine-direct", str(mailbox), str(mailbox / "aggregator")]
    manifest = tomllib.loads((mailbox / "aggregator.manifest").read_text())
    platform = str(tmp_path / "platform")
    assert {"path": platform, "uri": f"file:{platform}"} in manifest["fs"]["mounts"]
    expected = tools.parent / "lib" / "x86_64-linux-gnu" / "gramine" / "libsysdb.so"
    assert manifest["loader"]["entrypoint"]["uri"] == f"file:{expected}"


def test_direct_without_a_host_file_is_refused(mailbox, tools):
    (mailbox / "host.json").write_text("[]")
    _refused("gramine.bad_path", command, "client_slice", "direct", mailbox)
    (mailbox / "host.json").unlink()
    _refused("gramine.bad_path", command, "client_slice", "direct", mailbox)


def test_sgx_starts_only_what_the_operator_has_signed(mailbox, tools, tmp_path, monkeypatch):
    signed = tmp_path / "signed"
    signed.mkdir()
    monkeypatch.setenv(launch.SIGNED_FOLDER, str(signed))
    for ending in (".manifest.sgx", ".sig"):
        refusal = _refused("gramine.not_signed", command, "aggregator", "sgx", mailbox)
        assert refusal.facts["file"] == str(signed / f"aggregator{ending}")
        (signed / f"aggregator{ending}").write_bytes(b"signed")
    output = subprocess.run(command("aggregator", "sgx", mailbox), capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["gramine-sgx", str(mailbox), str(signed / "aggregator")]
    assert not (mailbox / "aggregator.manifest").exists()
