"""The wheel of kernels in C: one for every Python, and none, without harm, where no compiler is."""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheelhouse():
    spec = importlib.util.spec_from_file_location("wheelhouse", TREE / ".ci" / "wheelhouse.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_wheel_holds_both_libraries_for_every_python_and_is_installed_by_its_hash(wheelhouse, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler here")
    wheel = wheelhouse.build_kernels(tmp_path)
    assert wheel.name.startswith("fedslice_kernels-0.1.0-py3-none-linux_")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    package = "fedslice_kernels/"
    assert names == {package + name for name in ("__init__.py", "passes.so", "product.so")}
    requirements, pinned = tmp_path / "requirements.txt", wheelhouse.pin(wheel)
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--require-hashes",
        "--target",
    ]
    install += [tmp_path / "there", "--find-links", tmp_path, "--requirement", requirements]
    for text, status in ((pinned[:-1] + "0", 1), (pinned[:-1] + "1", 1), (pinned, 0)):
        if text != pinned or not status:
            requirements.write_text(text + "\n")
            assert subprocess.run(install, capture_output=True, check=False).returncode == status
    assert (tmp_path / "there" / package / "product.so").is_file()


def test_without_a_compiler_there_is_no_wheel_and_nothing_fails(wheelhouse, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "false")
    assert wheelhouse.build_kernels(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_setup_goes_on_without_a_compiler(tmp_path):
    """The recipe itself, on a copy with a blank in its path, with a compiler that fails."""
    tree = tmp_path / "a tree"
    (tree / ".venv").mkdir(parents=True)
    shutil.copytree(TREE / "kernels", tree / "kernels", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    shutil.copy(TREE / "Makefile", tree)
    (tree / "requirements-dev.txt").write_text("")
    (tree / ".venv" / ".installed").touch()
    (tree / ".venv" / "bin").symlink_to(TREE / ".venv" / "bin")
    make = ["make", "--no-print-directory", "--old-file", ".venv/.installed", ".venv/.kernels", "CC=false"]
    done = subprocess.run(make, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "slower" in done.stderr
