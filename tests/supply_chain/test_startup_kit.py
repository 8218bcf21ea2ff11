"""The start-up kit's own words: what it verifies, what it refuses, and the unit that systemd takes."""

from __future__ import annotations

import html
import importlib.util
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from contracts.refusal import Refusal
from frontend import startup_kit
from site_agent import service_command
from site_agent.service import settings, unit
from tests.support.installation import REPOSITORY
from tests.support.pasting import paste

INSTALL = (REPOSITORY / "frontend/templates/frontend/install/install.sh").read_text().strip()
NEEDS_SSH = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("wheelhouse", REPOSITORY / ".ci" / "wheelhouse.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "release"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


def fingerprint(key: Path) -> str:
    shown = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


@pytest.fixture
def wheels(key: Path, tmp_path: Path, settings: Any) -> Path:
    """A signed folder; what stands for a wheel is a file."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    (folder / "fedslice-0.1-py3-none-any.whl").write_bytes(b"a wheel")
    (folder / "requirements.txt").write_text("fedslice==0.1\n")
    maker().sign(folder, key)
    settings.WHEELHOUSE = str(folder)
    return folder


@pytest.fixture
def served(wheels: Path, tmp_path: Path) -> Iterator[str]:
    """The same folder under /install, as the coordinator serves it."""
    root = tmp_path / "served"
    root.mkdir()
    (root / "install").symlink_to(wheels)
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def typed_into(block: str, home: Path, typed: str) -> tuple[int, str]:
    """What a person does: paste the block into a terminal, and type the fingerprint when asked."""
    return paste(
        block, home, [("Fingerprint of the release key", typed)], {**os.environ, "no_proxy": "127.0.0.1"}
    )


@NEEDS_SSH
class TestTheBlock:
    @pytest.fixture
    def block(self, served: str, settings: Any) -> str:
        settings.PUBLIC_URL = served
        block = startup_kit.verified("install")
        return block.replace(INSTALL, "echo INSTALLED")

    def test_what_the_release_key_signed_is_installed(self, block: str, key: Path, tmp_path: Path) -> None:
        status, said = typed_into(block, tmp_path / "home", fingerprint(key))
        assert (status, "INSTALLED" in said) == (0, True), said
        assert (tmp_path / "home/fedslice/fedslice-0.1-py3-none-any.whl").read_bytes() == b"a wheel"

    @pytest.mark.parametrize("lie", ["fingerprint", "another key", "two keys", "wheel", "list"])
    def test_a_coordinator_that_lies_installs_nothing(
        self, lie: str, block: str, key: Path, wheels: Path, tmp_path: Path
    ) -> None:
        typed = fingerprint(key)
        other = tmp_path / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
        if lie == "fingerprint":
            typed = fingerprint(other)
        elif lie == "another key":
            maker().sign(wheels, other)
        elif lie == "two keys":
            honest = (wheels / "release.pub").read_text()
            for old in ("SHA256SUMS", "SHA256SUMS.sig", "release.pub"):
                (wheels / old).unlink()
            maker().sign(wheels, other)
            (wheels / "release.pub").write_text(honest + f"release {other.with_suffix('.pub').read_text()}")
        elif lie == "wheel":
            (wheels / "fedslice-0.1-py3-none-any.whl").write_bytes(b"a worm")
        else:
            with (wheels / "SHA256SUMS").open("a") as sums:
                sums.write(f"{'0' * 64}  requirements.txt\n")
        status, said = typed_into(block, tmp_path / "home", typed)
        assert status != 0 and "INSTALLED" not in said, said


@NEEDS_SSH
def test_only_what_the_list_names_is_served_and_to_anybody(wheels: Path) -> None:
    (wheels / "notes.txt").write_text("the operator's")
    stranger = Client()
    page = stranger.get(reverse("install")).content.decode()
    assert "fedslice-0.1-py3-none-any.whl" in page and "notes.txt" not in page
    assert startup_kit.verified("install") in html.unescape(page)
    got = stranger.get(reverse("install-file", args=["SHA256SUMS.sig"]))
    assert b"SSH SIGNATURE" in b"".join(got.streaming_content)
    for name in ("notes.txt", "..", "release"):
        assert stranger.get(f"/install/{name}").status_code == 404


def test_an_installation_without_a_wheelhouse_says_so(settings: Any, tmp_path: Path) -> None:
    settings.WHEELHOUSE = str(tmp_path / "none")
    assert "Nothing is offered here yet" in Client().get(reverse("install")).content.decode()


def test_the_documentation_has_the_same_block(settings: Any) -> None:
    settings.PUBLIC_URL = "https://coordinator.example"
    said = (REPOSITORY / "docs" / "operations.md").read_text().splitlines()
    lines = [line for line in startup_kit.verified("install").splitlines() if line[:1] not in ("#", "e")]
    assert not [line for line in lines if line not in said]


def test_no_block_asks_a_public_index() -> None:
    for way in startup_kit.ways("python -m site_agent enrol --token fs_x"):
        said = "\n".join(text for _heading, text in way.steps)
        assert "pip install" not in said or "--no-index --require-hashes" in said
        assert "pypi" not in said and "--token fs_x" in said
    assert "--no-index --require-hashes" in (REPOSITORY / "Dockerfile.site").read_text()


class TestService:
    def test_the_unit_is_one_that_systemd_takes(self, tmp_path: Path) -> None:
        program = shutil.which("systemd-analyze")
        if program is None:
            pytest.skip("no systemd here")
        file = tmp_path / "fedslice-site-agent.service"
        # systemd says "path is not absolute" of what it reads otherwise than it was meant.
        file.write_text(
            unit("root", "/bin/sh", "/opt/a b", '/var/lib/"fed" slice', '/var/lib/"fed" slice/x.env')
        )
        done = subprocess.run([program, "verify", str(file)], capture_output=True, text=True, check=False)
        assert not [line for line in done.stderr.splitlines() if file.name in line], done.stderr

    def test_it_gains_no_rights_and_writes_to_its_state_alone(self) -> None:
        said = unit("agent", "/opt/agent/bin/python", "/opt/agent", "/state", "/state/service.env")
        for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "UMask=0077",
                     'ReadWritePaths="/state"', "User=agent"):  # fmt: skip
            assert f"\n{line}\n" in said
        assert said.count("ReadWritePaths") == 1

    def test_paths_and_settings_cannot_say_more_than_they_are(self) -> None:
        said = unit("agent", "/a b/python", "/a b", "/a b/%h", "/a b/%h/service.env").splitlines()
        for line in ("WorkingDirectory=/a b", "EnvironmentFile=-/a b/%%h/service.env",
                     'ReadWritePaths="/a b/%%h"',
                     "ExecStart=/a\\x20b/python -m site_agent --state /a\\x20b/%%h run"):  # fmt: skip
            assert line in said
        reported = settings({"HTTPS_PROXY": 'http://u:p"\nUser=root', "HOME": "/root"})
        assert reported == 'HTTPS_PROXY="http://u:p\\"User=root"\n'

    def test_it_is_written_for_its_owner_only_and_says_what_root_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from site_agent.cli import main

        state = tmp_path / "state"
        assert main(["--state", str(state), "service", "install"]) == 1
        assert "agent.not_enrolled" in capsys.readouterr().err
        monkeypatch.setattr("site_agent.state.State.config", property(lambda self: None))
        monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
        assert main(["--state", str(state), "service", "install"]) == 0
        said = capsys.readouterr().out
        assert "sudo systemctl enable --now fedslice-site-agent.service" in said and "secret" not in said
        for name in ("service.env", "fedslice-site-agent.service"):
            assert (state / name).stat().st_mode & 0o077 == 0
        assert "secret" in (state / "service.env").read_text()

    def test_a_unit_that_systemd_does_not_take_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        analyzer = tmp_path / "systemd-analyze"
        analyzer.write_text("#!/bin/sh\necho fedslice-site-agent.service: bad >&2\nexit 1\n")
        analyzer.chmod(0o755)
        monkeypatch.setattr("shutil.which", lambda name: str(analyzer))
        with pytest.raises(Refusal, match=r"service\.unit"):
            service_command._verify("fedslice-site-agent.service")
