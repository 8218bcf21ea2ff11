"""`pip wheel .` builds, and what it holds is all that a hospital or a coordinator runs on."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, as a build leaves folders behind, by this environment's own setuptools."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "tree"
    tracked = subprocess.run(["git", "ls-files"], cwd=TREE, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if not name.startswith(("tests/", "benchmarks/", "docs/")) and (TREE / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((TREE / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*build, "--wheel-dir", folder, copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("fedslice-*.whl")))


def test_every_module_template_and_static_file_is_in_the_wheel(wheel):
    packages = (
        "attestation",
        "contracts",
        "enclave",
        "enclave_host",
        "enclave_jobs",
        "error_catalogue",
        "federation",
        "frontend",
        "manifest_summary",
        "outgoing",
        "privacy_accounting",
        "site_agent",
        "translations",
        "transparency_log",
    )
    wanted = {
        file.relative_to(TREE).as_posix()
        for package in packages
        for file in (TREE / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted and wanted <= set(wheel.namelist())


def test_it_holds_neither_tests_nor_benchmarks(wheel):
    assert not [name for name in wheel.namelist() if name.startswith(("tests/", "benchmarks/", "var/"))]


def test_a_hospitals_extra_brings_no_django_and_the_coordinators_brings_all(wheel):
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    site = [line for line in lines if line.startswith("Requires-Dist") and 'extra == "site"' in line]
    coordinator = [
        line for line in lines if line.startswith("Requires-Dist") and 'extra == "coordinator"' in line
    ]
    assert any("torch==" in line for line in site) and not any("django" in line for line in site)
    assert any("django==" in line for line in coordinator)
    assert {line.split(";")[0] for line in site} < {line.split(";")[0] for line in coordinator}


def test_a_coordinators_image_holds_every_package_but_the_hospitals():
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    lines = (TREE / "Dockerfile").read_text().splitlines()
    copied = {line.split()[1] for line in lines if line.startswith("COPY ")}
    assert packages - copied == {"site_agent"}
