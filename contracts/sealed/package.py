"""A released package as a file: a zip whose bytes depend on its content alone, so a SHA-256 names it.

What is in it and how it is loaded is made in enclave/slicing/released.py. Whoever opens it needs no torch.
"""

from __future__ import annotations

import zipfile
from io import BytesIO

from contracts.refusal import Refusal

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
HEAD, ROWS, ABOUT, README = "head.safetensors", "spf.safetensors", "release.json", "README.md"
NAMES = (README, ABOUT, ADAPTER_CONFIG, ADAPTER, HEAD, ROWS)
MAX_PACKAGE_BYTES = 2 << 30

Files = dict[str, bytes]


def zipped(files: Files) -> bytes:
    """The same files give the same bytes."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as package:
        for name in sorted(files):
            package.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    return packed.getvalue()


def unpack(data: bytes) -> Files:
    """The files of a package.

    Raises: `release.bad_package` for what an enclave does not write.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as package:
            entries = package.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names) or not {ABOUT, README} <= set(names) <= set(NAMES):
                raise Refusal("release.bad_package", fault="its files are not those of a package")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise Refusal("release.bad_package", fault="its files are compressed")
            return {name: package.read(name) for name in names}
    except (zipfile.BadZipFile, ValueError, EOFError, RuntimeError) as error:  # RuntimeError: enciphered
        raise Refusal("release.bad_package", fault="it is no zip file") from error
