"""Builds the libraries, and the one wheel that serves every Python: the same compiler gives the same bytes.

    python kernels/recipe.py --into FOLDER [--libraries | --lock]     # pip wheel ./kernels builds by it, too

No flag comes from Python's build or a distribution's defaults, and no path, name, time or mode of the machine
gets into the bytes. The enclave's library needs no other, not even C's. `wheel.lock` holds the compiler and
the hashes of the wheel that enclaves load and of its libraries; Dockerfile.enclaves has that compiler.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGE, VERSION, TAG = "fedslice_kernels", "0.1.0", "py3-none-linux_x86_64"
LIBRARIES = ("passes", "product")
LOCK = HERE / "wheel.lock"

# Products of floats are rounded as they stand in the source, never fused with an addition: the bits of numpy.
FLAGS = ["-std=gnu11", "-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
# What a distribution's compiler decides otherwise for itself. The CPU is the oldest; passes name newer ones.
FLAGS += ["-march=x86-64", "-mtune=generic", "-fwrapv", "-fno-stack-protector", "-fcf-protection=none"]
FLAGS += ["-U_FORTIFY_SOURCE", "-fno-ident"]
LINK = ["-shared", "-fPIC", "-nostartfiles", "-Wl,-s", "-Wl,--build-id=none", "-Wl,--hash-style=gnu"]
LINK += ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack", "-Wl,--no-undefined", "-Wl,--as-needed"]

METADATA = f"""Metadata-Version: 2.1
Name: fedslice-kernels
Version: {VERSION}
Summary: Two small libraries in C for FedSlice's masked placement; without them the same bits, slower.
License: Apache-2.0
Requires-Python: >=3.11
"""
WHEEL = f"Wheel-Version: 1.0\nGenerator: kernels/recipe.py\nRoot-Is-Purelib: false\nTag: {TAG}\n"


def compiler() -> str:
    """Its name: `CC`, or gcc."""
    return os.environ.get("CC") or "gcc"


def libraries(into: Path) -> list[Path]:
    """Compile them into a folder. Raises OSError or CalledProcessError where there is no such compiler."""
    into.mkdir(parents=True, exist_ok=True)
    for name in LIBRARIES:
        made = into / f"{name}.so"
        command = [compiler(), *FLAGS, *LINK, "-o", str(made.resolve()), f"{name}.c"]
        subprocess.run(command, cwd=HERE, check=True)  # noqa: S603 - ours, without a shell
    return [into / f"{name}.so" for name in LIBRARIES]


def wheel(into: Path) -> Path:
    """Build the wheel into a folder. Raises as `libraries`."""
    info = f"{PACKAGE}-{VERSION}.dist-info"
    with tempfile.TemporaryDirectory() as folder:
        files = {f"{PACKAGE}/{made.name}": made.read_bytes() for made in libraries(Path(folder))}
    files[f"{PACKAGE}/__init__.py"] = (HERE / PACKAGE / "__init__.py").read_bytes()
    files |= {f"{info}/METADATA": METADATA.encode(), f"{info}/WHEEL": WHEEL.encode()}
    rows = [f"{name},sha256={_for_record(data)},{len(data)}\n" for name, data in sorted(files.items())]
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    into.mkdir(parents=True, exist_ok=True)
    made = into / f"{PACKAGE}-{VERSION}-{TAG}.whl"
    with zipfile.ZipFile(
        made, "w", zipfile.ZIP_STORED
    ) as archive:  # zlib's versions compress in their own ways
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, data)
    return made


def lock_of(made: Path) -> str:
    """What `wheel.lock` says where this wheel is the one."""
    with zipfile.ZipFile(made) as archive:
        found = {name: archive.read(f"{PACKAGE}/{name}.so") for name in LIBRARIES}
    words = [f"# {first_line(compiler())}, {first_line(compiler(), '-Wl,--version')}"]
    words += [f"# {name}.so {hashlib.sha256(data).hexdigest()}" for name, data in found.items()]
    return "\n".join([*words, f"fedslice-kernels=={VERSION} --hash=sha256:{_sha256(made)}"]) + "\n"


def is_locked(made: Path) -> bool:
    """Whether this is the wheel that enclaves load."""
    return f"--hash=sha256:{_sha256(made)}\n" in LOCK.read_text()


def first_line(*command: str) -> str:
    """Of what a program says of its version."""
    asked = [*command, *([] if len(command) > 1 else ["--version"])]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return said.stdout.partition("\n")[0]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """PEP 517, for pip."""
    return wheel(Path(wheel_directory)).name


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _for_record(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def main(arguments: list[str] | None = None) -> int:
    """Build; exit 3 where another wheel came out than the locked one, 4 where there is no compiler."""
    parser = argparse.ArgumentParser(prog="python kernels/recipe.py", description=main.__doc__)
    parser.add_argument("--into", type=Path, required=True)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--libraries", action="store_true", help="these alone, without a wheel")
    what.add_argument(
        "--lock", action="store_true", help="write wheel.lock: this wheel is the one from now on"
    )
    options = parser.parse_args(arguments)
    try:
        if options.libraries:
            libraries(options.into)
            return 0
        made = wheel(options.into)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"the kernels were not built: {error}\n")
        return 4
    if options.lock:
        LOCK.write_text(
            "# The wheel that enclaves may load; written by kernels/recipe.py --lock\n" + lock_of(made)
        )
    locked = is_locked(made)
    sys.stdout.write(f"{made}: {'the locked wheel' if locked else 'another wheel than the locked one'}\n")
    return 0 if locked else 3


if __name__ == "__main__":
    sys.exit(main())
