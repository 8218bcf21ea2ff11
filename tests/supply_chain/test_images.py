"""Container images by digest: the list, who takes images from it, and what refuses without digests."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from contracts.refusal import Refusal
from enclave_host import images
from enclave_host.gramine import render
from enclave_host.gramine.trusted import GLIBC
from enclave_host.registry import DOCKER_HUB, KINDS, parse
from tests.support.installation import REPOSITORY, free_port

INDEX = json.dumps({"schemaVersion": 2, "mediaType": KINDS[0], "manifests": []}).encode()
DIGEST = f"sha256:{hashlib.sha256(INDEX).hexdigest()}"


@dataclass
class Registry:
    """A small OCI distribution server: one index under every name and tag, behind an anonymous token."""

    address: str = ""
    digest: str = DIGEST
    kind: str = KINDS[0]
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                if self.path.startswith("/token"):
                    return self.say(200, b'{"token": "anonymous"}', {})
                if self.headers["Authorization"] != "Bearer anonymous":
                    realm = f'Bearer realm="http://{registry.address}/token",service="here",scope="pull"'
                    return self.say(401, b"{}", {"WWW-Authenticate": realm})
                headers = {"Content-Type": registry.kind, "Docker-Content-Digest": registry.digest}
                return self.say(registry.status, INDEX, headers)

            def say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def registry() -> Iterator[Registry]:
    answering = Registry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), answering.handler())
    answering.address = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield answering
    server.shutdown()
    server.server_close()


@pytest.fixture
def tree(tmp_path: Path, registry: Registry) -> Path:
    lines = (f"IMAGE_A={registry.address}/some/a:1", f"IMAGE_B={registry.address}/b:2-x")
    listed = "# Why.\n\n" + "".join(f"{line}  # unlocked\n" for line in lines)
    (tmp_path / images.FILE).write_text(listed)
    return tmp_path


def refused(code: str, function: object, *arguments: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        function(*arguments)  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value


def test_every_image_of_dockerfile_and_compose_comes_from_the_list() -> None:
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    dockerfile = "".join(path.read_text() for path in REPOSITORY.glob("Dockerfile*"))
    taken = re.findall(r"^\s*(?:image|IMAGE_\w+): (\S.*)$", compose, re.MULTILINE)
    taken += re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    outside = [image for image in taken if not re.match(r"\$\{IMAGE_\w+", image)]
    assert outside == ["fedslice:0.1.0"], "what is built here is the only image with a name of its own"
    assert set(re.findall(r"\$\{((?:IMAGE|FILE)_\w+)", compose + dockerfile)) == set(images.images())


def test_a_locked_list_names_the_digest_of_what_the_registry_serves(tree: Path, registry: Registry) -> None:
    refused("images.unlocked", images.require_locked, tree)
    images.lock(tree)
    images.require_locked(tree)
    assert images.images(tree) == {
        "IMAGE_A": (f"{registry.address}/some/a:1", DIGEST),
        "IMAGE_B": (f"{registry.address}/b:2-x", DIGEST),
    }
    assert (tree / images.FILE).read_text().startswith("# Why.\n\nIMAGE_A=")
    assert "/v2/some/a/manifests/1" in registry.asked and "/v2/b/manifests/2-x" in registry.asked
    images.lock(tree)  # a locked list can be locked again


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"digest": "sha256:" + "0" * 64}, "has not the digest that it names"),
        ({"kind": "text/html"}, "no manifest"),
        ({"status": 404}, "answered 404"),
    ],
)
def test_what_a_registry_only_claims_is_not_written(
    tree: Path, registry: Registry, answer: dict[str, object], fault: str
) -> None:
    before = (tree / images.FILE).read_bytes()
    for name, value in answer.items():
        setattr(registry, name, value)
    assert fault in str(refused("images.unreachable", images.lock, tree).facts["fault"])
    assert (tree / images.FILE).read_bytes() == before


def test_without_a_registry_the_command_says_so_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = f"IMAGE_A=127.0.0.1:{free_port()}/a:1  # unlocked\n"
    (tmp_path / images.FILE).write_text(listed)
    assert images.main(["--write", "--tree", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "nothing listens there" in said and "Run this where the registry is reachable" in said
    assert (tmp_path / images.FILE).read_text() == listed


def test_a_file_that_an_image_is_built_with_is_locked_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/key.gpg" else 404)
            self.end_headers()
            self.wfile.write(b"a key")

        def log_message(self, *_arguments: object) -> None:
            pass

    authority = trustme.CA()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    monkeypatch.setattr("enclave_host.registry.tls_context", lambda: trusted)
    address = f"https://127.0.0.1:{server.server_port}"
    try:
        for name in ("key.gpg", "other"):
            (tmp_path / images.FILE).write_text(f"FILE_KEY={address}/{name}  # unlocked\n")
            refused("images.unlocked", images.require_locked, tmp_path)
            if name == "other":
                assert "404" in str(refused("images.unreachable", images.lock, tmp_path).facts["fault"])
            else:
                images.lock(tmp_path)
                images.require_locked(tmp_path)
                digest = f"sha256:{hashlib.sha256(b'a key').hexdigest()}"
                assert images.images(tmp_path) == {"FILE_KEY": (f"{address}/key.gpg", digest)}
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "line", ["IMAGE_A=python", "IMAGE_A=a:1@sha256:12", "IMAGE_A=a:1", "rubbish", "IMAGE_A=a:1  # locked", ""]
)
def test_a_line_that_names_neither_digest_nor_unlocked_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / images.FILE).write_text(line + "\n")
    refused("images.unreadable", images.require_locked, tmp_path)


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    refused("images.unreadable", images.require_locked, tmp_path)


def test_no_manifest_is_rendered_for_sgx_from_an_unlocked_list(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gramine = tree / "gramine"
    (gramine / "runtime" / "glibc").mkdir(parents=True)
    for name in ("libsysdb.so", *(f"runtime/glibc/{name}" for name in GLIBC)):
        (gramine / name).write_bytes(b"a library")
    there = ["aggregator", "--gramine-lib", str(gramine)]
    monkeypatch.setattr(render, "require_locked", lambda: images.require_locked(tree))
    assert render.main(there) == 1
    said = capsys.readouterr()
    assert said.out == "" and "images.unlocked" in said.err and "make image-lock" in said.err
    platform = tree / "platform"
    platform.mkdir()
    assert render.main([*there, "--platform", str(platform)]) == 0  # gramine-direct protects nothing
    images.lock(tree)
    assert render.main(there) == 0


def test_names_are_read_as_docker_reads_them() -> None:
    assert parse("python:3.11") == (DOCKER_HUB, "library/python", "3.11")
    assert parse("gramineproject/gramine:1.9") == (DOCKER_HUB, "gramineproject/gramine", "1.9")
    assert parse("mirror.example:5000/a/b:2") == ("mirror.example:5000", "a/b", "2")
