"""A program's own environment: installed from its lock alone, and what a host starts the program from.

That pip resolves and installs the real locks is shown by `make enclave-envs`, which `make demo` needs; here
no network is asked.
"""

import hashlib
import sys
import zipfile

import pytest

from attestation.measured import PROGRAMS, TREE
from contracts.refusal import Refusal
from enclave_host import environments, lock
from enclave_host.gramine.launch import command
from enclave_host.lock import read_lock, stale

# What speaks HTTP, reads Parquet or signs tokens by a program's own wish.
UNWANTED = {"httpx", "pyjwt", "pyarrow", "requests", "django"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_lock_holds_what_the_program_imports_at_the_pinned_versions(program):
    assert stale(program) == "", "run `make lock` and review what changed"
    assert not {package.name for package in read_lock(program)} & UNWANTED


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_line_of_a_lock_names_one_wheel_and_no_place(program):
    lines = (TREE / lock.lock_of(program)).read_text().splitlines()
    assert len(read_lock(program)) == sum(not line.startswith("#") for line in lines)
    assert "/" not in "".join(lines)


def test_a_new_import_or_another_pin_makes_the_lock_stale(tmp_path, capsys):
    for file in ("requirements-site.txt", lock.lock_of("aggregator")):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((TREE / file).read_text())
    program = tmp_path / "enclave" / "programs" / "aggregator.py"
    program.parent.mkdir(parents=True)
    wanted = lock.needed("aggregator")
    imports = "".join(f"import {name}\n" for name in lock.outside("aggregator"))
    program.write_text(imports)
    assert wanted and stale("aggregator", tmp_path) == ""
    program.write_text(imports + "import httpx\n")
    assert "httpx" in stale("aggregator", tmp_path)
    program.write_text(imports)
    pins = tmp_path / "requirements-site.txt"
    pins.write_text(pins.read_text().replace("msgspec==", "msgspec==9"))
    assert "msgspec" in stale("aggregator", tmp_path)
    program.write_text(imports + "import never_pinned\n")
    with pytest.raises(ValueError, match="never_pinned"):
        stale("aggregator", tmp_path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of the environments, and a mailbox whose host names no platform."""
    monkeypatch.setenv(environments.SETTING, str(tmp_path))
    (tmp_path / "host.json").write_text('{"platform": null}')
    return tmp_path


def test_a_host_starts_a_program_from_its_own_environment(folder):
    made = folder / "aggregator"
    made.mkdir()
    (made / environments.STAMP).write_text(environments.stamp_of("aggregator"))
    assert command("aggregator", "development", folder)[0] == str(made / "bin" / "python")


def test_an_environment_that_is_missing_or_of_another_lock_is_refused(folder):
    for stamp in (None, "0" * 64 + "\n"):
        if stamp:
            (folder / "aggregator").mkdir()
            (folder / "aggregator" / environments.STAMP).write_text(stamp)
        with pytest.raises(Refusal) as caught:
            command("aggregator", "development", folder)
        assert caught.value.code == "program.no_environment"


def test_without_the_setting_a_program_runs_in_the_hosts_own_environment(folder, monkeypatch):
    monkeypatch.delenv(environments.SETTING)
    assert command("aggregator", "development", folder)[0] == sys.executable


def test_a_wheel_that_is_not_the_locked_one_is_not_installed(tmp_path, monkeypatch, capfd):
    """The lock of a program, with one hash changed, over a folder of wheels that pip is pointed at."""
    wheels, tree = tmp_path / "wheels", tmp_path / "tree"
    wheels.mkdir()
    _wheel(wheels / "small-1.0-py3-none-any.whl")
    sha = hashlib.sha256((wheels / "small-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    locked = tree / lock.lock_of("aggregator")
    locked.parent.mkdir(parents=True)
    monkeypatch.setattr(environments, "TREE", tree)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    locked.write_text(f"small==1.0 --hash=sha256:{'0' * 64}\n")
    assert environments.main(["aggregator", "--into", str(tmp_path / "made")]) == 1
    assert not environments.is_current("aggregator", tmp_path / "made" / "aggregator")
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    locked.write_text(f"small==1.0 --hash=sha256:{sha}\n")
    assert environments.main(["aggregator", "--into", str(tmp_path / "made")]) == 0
    installed = {file.name for file in (tmp_path / "made" / "aggregator").glob("lib/python*/site-packages/*")}
    assert installed == {"small.py", "small-1.0.dist-info"}


def _wheel(path):
    about = "small-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("small.py", "")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
