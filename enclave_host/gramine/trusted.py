"""The files that an enclave program loads beside our own code, and the SHA-256 that each must have inside.

They are what the program's manifest trusts (Gramine 1.9, "Trusted files"), file by file:

- packages: of the program's lock (`enclave/measured/<program>.packages`) and of nothing else, the modules,
  shared libraries and METADATA that each wheel's RECORD names. No tests, headers or sources of extensions,
  and no compiled files, as those hold times;
- Python's own library, without its tests and what only people use;
- Gramine's C library;
- libraries: what the interpreter, its extensions and the packages' shared libraries are linked with and what
  lies neither in the packages nor in Gramine's C library, each once, under the name by which it is asked for.
  The interpreter's own libpython is among them: no other is to be found inside.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePath

from contracts.policy import Program
from contracts.refusal import Refusal
from enclave_host.lock import read_lock

GLIBC = (
    "ld-linux-x86-64.so.2", "libanl.so.1", "libc.so.6", "libdl.so.2", "libm.so.6", "libmvec.so.1",
    "libpthread.so.0", "libresolv.so.2", "librt.so.1", "libutil.so.1",
)  # fmt: skip
"""What Gramine's C library brings (its subprojects/packagefiles/glibc-2.40/meson.build) and programs link."""

_UNUSED = {
    "test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "venv", "pydoc_data",
    "curses", "dbm", "sqlite3", "site-packages",
}  # fmt: skip
"""Folders of Python's library that nobody needs without a terminal, a compiler or a database."""
_UNUSED_EXTENSIONS = re.compile(
    r"_test|_ctypes_test|_?xx|_tkinter|_curses|_dbm|_gdbm|_sqlite3|nis\.|readline\.|ossaudiodev\."
)
_TESTS = {"test", "tests"}
_LIBRARY = re.compile(r".+\.so(\.\d+)*")
_LINKED = re.compile(r"^\t(?P<name>\S+) => (?P<path>/.+?|not found)(?: \(0x[0-9a-f]+\))?$", re.MULTILINE)


def packages(program: Program, folder: Path) -> list[Path]:
    """Of the environment's `folder` (its site-packages): what the program's locked packages bring.

    Raises: `gramine.bad_path` where one is missing or of another version.
    """
    files: set[Path] = set()
    for package in read_lock(program):
        found = next(iter(distributions(name=package.name, path=[str(folder)])), None)
        if found is None or found.version != package.version:
            fault = f"{package.name} {package.version} is not installed in {folder}"
            raise Refusal("gramine.bad_path", what="packages", fault=fault)
        files |= {folder / name for name in _loaded(found)}
    return sorted(files)


def standard_library(folder: Path) -> list[Path]:
    """Of Python's own library in `folder`: its modules and extensions."""
    modules = (file for file in folder.rglob("*.py") if not _unused(file.relative_to(folder)))
    extensions = (file for file in folder.glob("lib-dynload/*.so") if not _UNUSED_EXTENSIONS.match(file.name))
    return sorted([*modules, *extensions])


def libraries(linked: Iterable[Path], inside: Path) -> dict[str, Path]:
    """Name → file of each library that these executables and libraries are linked with, but what lies in
    the folder `inside` or is Gramine's. Asks the dynamic linker (`ldd`).

    Raises: `gramine.bad_path`.
    """
    command = ["ldd", *map(str, linked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - not a shell
    if done.returncode != 0:
        raise Refusal("gramine.bad_path", what="libraries", fault=done.stderr.strip()[:200])
    found: dict[str, Path] = {}
    for match in _LINKED.finditer(done.stdout):
        name, path = match["name"], match["path"]
        if path == "not found":
            raise Refusal("gramine.bad_path", what="libraries", fault=f"{name} is not on this machine")
        if name not in GLIBC and not Path(path).resolve().is_relative_to(inside.resolve()):
            found[name] = Path(path)
    return dict(sorted(found.items()))


def glibc(gramine_lib: Path) -> list[Path]:
    """Gramine's C library.

    Raises: `gramine.bad_path` where Gramine is not installed.
    """
    files = [gramine_lib / "runtime" / "glibc" / name for name in GLIBC]
    for file in files:
        if not file.is_file():
            raise Refusal("gramine.bad_path", what="gramine_lib", fault=f"{file} does not exist")
    return files


def is_library(file: Path) -> bool:
    """Whether this is a shared library, by its name."""
    return _LIBRARY.fullmatch(file.name) is not None


def sha256(file: Path) -> str:
    """Of the file's content, 64 hex characters.

    Raises: `gramine.bad_path`.
    """
    try:
        stat = file.stat()
        return _sha256(file, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise Refusal("gramine.bad_path", what="trusted files", fault=f"{file} is not readable") from error


@cache
def _sha256(file: Path, *_version: int) -> str:
    """Hashed once for a version of the file: a host that starts many programs reads torch once. A hash that
    is not the file's own could only make Gramine refuse it."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _unused(name: Path) -> bool:
    return bool(_UNUSED & set(name.parts)) or name.parts[0].startswith("config-")


def _loaded(package: Distribution) -> Iterator[PurePath]:
    """A wheel's RECORD lists its files, relative to site-packages (PyPA, "Recording installed projects")."""
    for name in package.files or ():
        kept = name.suffix == ".py" or is_library(Path(name))
        described = name.name == "METADATA" and name.parts[0].endswith(".dist-info")
        if ".." not in name.parts and (described or (kept and not _TESTS & set(name.parts))):
            yield name
