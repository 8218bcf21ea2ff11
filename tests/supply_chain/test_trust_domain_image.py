"""The image of a trust domain: exactly the program's closure and lock, read-only, each byte under one hash.

The base here is a few files, for Debian's Python comes from elsewhere; the file system and the hash tree are
made and checked by the tools that an image is made with. Nothing here boots it.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from attestation.measured import TREE
from attestation.measurement import measured_files
from attestation.trust_domain import rtmr3_of
from contracts.refusal import Refusal
from enclave_host.environments import STAMP, stamp_of
from enclave_host.lock import read_lock
from enclave_host.tdx.image import CODE, PACKAGES, assemble, build, command_line, main

PROGRAM = "split_server"
pytestmark = pytest.mark.skipif(
    shutil.which("mkfs.erofs") is None or not Path("/usr/sbin/veritysetup").exists(),
    reason="erofs-utils and cryptsetup-bin are not installed (.ci/install-debian.sh)",
)


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    (folder / "usr" / "bin").mkdir(parents=True)
    (folder / "usr" / "bin" / "python3.11").write_bytes(b"\x7fELF")
    (folder / "usr" / "bin" / "python3.11").chmod(0o755)
    return folder


@pytest.fixture
def environment(tmp_path):
    """As `enclave_host.environments` leaves it, without what is in the packages."""
    folder = tmp_path / "environment"
    packages = folder / "lib" / "python3.11" / "site-packages"
    for name, version, _sha in read_lock(PROGRAM):
        (packages / f"{name.replace('-', '_')}-{version}.dist-info").mkdir(parents=True)
    (folder / STAMP).write_text(stamp_of(PROGRAM))
    return folder


def refused(code, *arguments):
    with pytest.raises(Refusal) as caught:
        assemble(PROGRAM, *arguments)
    assert caught.value.code == code
    return caught.value.facts


def test_the_image_holds_the_measured_closure_the_launcher_and_the_locked_packages(
    base, environment, tmp_path
):
    root = tmp_path / "root"
    assemble(PROGRAM, base, environment, root)
    files = {str(path.relative_to(root / CODE)) for path in (root / CODE).rglob("*") if path.is_file()}
    assert files == {*measured_files(PROGRAM), "enclave/launcher.py"}
    assert all((root / CODE / name).read_bytes() == (TREE / name).read_bytes() for name in files)
    packages = {path.name.removesuffix(".dist-info") for path in (root / PACKAGES).iterdir()}
    assert packages == {f"{name.replace('-', '_')}-{version}" for name, version, _sha in read_lock(PROGRAM)}


def test_a_package_that_is_not_locked_or_a_stale_environment_is_refused(base, environment, tmp_path):
    packages = environment / "lib" / "python3.11" / "site-packages"
    (packages / "spy-1.0.dist-info").mkdir()
    assert refused("image.environment", base, environment, tmp_path / "1")["found"] == "spy-1.0"
    (packages / "spy-1.0.dist-info").rmdir()
    (environment / STAMP).write_text("another lock\n")
    refused("image.environment", base, environment, tmp_path / "2")


@pytest.mark.parametrize("name", ["sh", "bash", "sshd", "busybox", "apt-get", "pip3.11", "login"])
def test_a_way_in_is_refused_also_by_a_link(base, environment, tmp_path, name):
    (base / "usr" / "bin" / name).symlink_to("python3.11")
    assert refused("image.way_in", base, environment, tmp_path / "root") == {"file": f"usr/bin/{name}"}


def test_the_root_hash_covers_each_byte_and_is_the_same_from_the_same_tree(base, environment, tmp_path):
    said = []
    for number in (1, 2):
        into = tmp_path / str(number)
        into.mkdir()
        assemble(PROGRAM, base, environment, into / "root")
        said.append(build(PROGRAM, into / "root", into))
        os.utime(base / "usr" / "bin" / "python3.11", (1, 1))  # times are no part of it
    assert said[0] == said[1]
    assert said[0]["rtmr3"] == rtmr3_of(PROGRAM)
    assert said[0]["command_line"] == command_line(PROGRAM, said[0]["roothash"])

    def verified(roothash):
        files = [str(into / "root.erofs"), str(into / "root.verity")]
        done = subprocess.run(["/usr/sbin/veritysetup", "verify", *files, roothash], capture_output=True)
        return done.returncode == 0

    roothash = said[0]["roothash"]
    assert verified(roothash) and not verified("0" * 64)
    image = bytearray((into / "root.erofs").read_bytes())
    image[-5000] ^= 1
    (into / "root.erofs").write_bytes(image)
    assert not verified(roothash)


def test_the_kernel_starts_the_launcher_as_the_only_process_from_the_verified_root():
    kernel, _, launcher = command_line(PROGRAM, "ab" * 32).partition(" -- ")
    assert "roothash=" + "ab" * 32 in kernel.split() and "init=/usr/bin/python3.11" in kernel.split()
    assert re.fullmatch(rf"-I -B /{CODE}/enclave/launcher.py {PROGRAM} --mailbox /mailbox", launcher)


def test_a_running_system_is_no_base(environment, tmp_path):
    assert refused("image.base", Path("/"), environment, tmp_path / "root")["fault"].startswith(
        "it is the root"
    )
    assert "lie in it" in refused("image.base", tmp_path, environment, tmp_path / "image" / "root")["fault"]
    assert not (tmp_path / "image").exists()


def test_what_holds_no_python_is_no_base(environment, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "python3.11" in refused("image.base", tmp_path / "empty", environment, tmp_path / "root")["fault"]
    assert "no folder" in refused("image.base", tmp_path / "missing", environment, tmp_path / "root")["fault"]


def test_a_refusal_leaves_nothing_behind_and_an_image_is_never_overwritten(environment, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    asked = [PROGRAM, "--base", str(tmp_path / "empty"), "--into", str(tmp_path / "image")]
    assert main(asked) == 1 and not (tmp_path / "image").exists()
    assert "[image.base]" in capsys.readouterr().err
    (tmp_path / "image").mkdir()
    with pytest.raises(SystemExit):
        main(asked)
    assert (tmp_path / "image").exists()
