"""The wheel of kernels in C: one for every Python, and none, without harm, where no compiler is."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from enclave_host import environments

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
    assert wheel.name == "fedslice_kernels-0.1.0-py3-none-linux_x86_64.whl"
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


RECIPE = TREE / "kernels" / "recipe.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("recipe", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_builds_in_other_places_under_other_circumstances_are_the_same_bytes(recipe, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler here")
    first = recipe.wheel(tmp_path / "first")
    there = shutil.copytree(TREE / "kernels", tmp_path / "another place" / "kernels")
    for file in there.rglob("*"):
        os.utime(file, (1, 1))
    circumstances = {
        "CFLAGS": "-O0 -g",
        "LDFLAGS": "-Wl,-rpath,/elsewhere",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
    }
    strange = os.environ | circumstances | {"TMPDIR": str(tmp_path), "SOURCE_DATE_EPOCH": "1"}
    command = [
        "sh",
        "-c",
        'umask 077; exec "$0" "$@"',
        sys.executable,
        there / "recipe.py",
        "--into",
        tmp_path,
    ]
    done = subprocess.run(command, env=strange, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == (0 if recipe.is_locked(first) else 3), done.stderr
    assert (tmp_path / first.name).read_bytes() == first.read_bytes()
    passes, product = (zipfile.ZipFile(first).read(f"fedslice_kernels/{n}.so") for n in recipe.LIBRARIES)
    assert not any(word in passes + product for word in (bytes(TREE), bytes(tmp_path), b"GCC: "))
    assert b"GLIBC" not in passes


def test_the_compiler_of_the_lock_gives_the_wheel_of_the_lock_and_the_library_that_enclaves_load(
    recipe, tmp_path
):
    from enclave.slicing.placement import PASSES

    _, compiler, passes, _, pinned = recipe.LOCK.read_text().splitlines()
    assert passes == f"# passes.so {PASSES}"
    ours = (
        f"# {recipe.first_line(recipe.compiler())}, {recipe.first_line(recipe.compiler(), '-Wl,--version')}"
    )
    if ours != compiler:
        pytest.skip(f"another compiler: {ours}")
    made = recipe.wheel(tmp_path)
    assert recipe.is_locked(made)
    assert recipe.lock_of(made).splitlines() == [compiler, *recipe.LOCK.read_text().splitlines()[2:]]
    assert pinned.startswith("fedslice-kernels==0.1.0 --hash=sha256:")


def test_an_environment_gets_the_locked_wheel_and_no_other(recipe, tmp_path):
    made, wheels = tmp_path / "made", tmp_path / "some wheels"
    venv.create(made, symlinks=True)
    wheels.mkdir()
    wheel = wheels / f"fedslice_kernels-0.1.0-{recipe.TAG}.whl"
    wheel.write_bytes(b"another wheel")
    assert not environments.add_kernels("client_slice", made, wheels)
    if shutil.which("gcc") is None or not recipe.is_locked(recipe.wheel(wheels)):
        pytest.skip("the compiler is not that of the lock")
    assert not environments.add_kernels("aggregator", made, wheels)
    assert environments.add_kernels("client_slice", made, wheels)
    (library,) = made.rglob("passes.so")
    assert hashlib.sha256(library.read_bytes()).hexdigest() in recipe.LOCK.read_text()


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
    (tree / ".venv" / ".installed").touch()
    (tree / ".venv" / "bin").symlink_to(TREE / ".venv" / "bin")
    make = ["make", "--no-print-directory", "--old-file", ".venv/.installed", ".venv/.kernels", "CC=false"]
    done = subprocess.run(make, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "slower" in done.stderr
