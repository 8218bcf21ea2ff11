"""A development trust domain: a folder that plays the kernel's interfaces and a TD's registers.

It lies in the mailbox; `enclave_host/tdx/development.py` makes it, once a start, and the launcher writes to
it as it does to the kernel.
The register's file is opened for appending, so the digests that it was extended by are its content. No image
was measured: MRTD and RTMR0 to RTMR2 are hashes of sentences.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from attestation.development_quoting.constants import sentence_hash
from contracts.launch import rtmr3_after

FOLDER = "trust-domain"
REGISTER, EVENT_LOG, REPORTS = "rtmr3:sha384", "launches", "report"
MRTD, RTMR0, RTMR1, RTMR2 = (
    hashlib.sha384(sentence_hash(f"{part} of the trust domain")).digest()
    for part in ("firmware", "configuration", "kernel", "image")
)


def rtmr3(folder: Path) -> bytes:
    """RTMR3 as it is now; zero where nothing was started by the launcher. Raises OSError."""
    file = folder / REGISTER
    data = file.read_bytes() if file.exists() else b""
    return rtmr3_after(*(data[at : at + 48] for at in range(0, len(data), 48)))
