"""A development trust domain for each start of a program: a folder in the mailbox, and the launcher in it.

The launcher is the one of the image (`enclave/launcher.py`), and measures as it does there; where it looks
for the kernel's interfaces is told to it here, and on hardware by nobody.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from attestation.development_quoting.trust_domain import EVENT_LOG, FOLDER, REGISTER, REPORTS
from attestation.measured import TREE
from contracts.policy import Program

LAUNCHER = TREE / "enclave" / "launcher.py"


def boot(mailbox: Path) -> None:
    """A trust domain in which nothing was started yet, in the place of what was there."""
    folder = mailbox / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    (folder / REPORTS).mkdir(parents=True)
    (folder / REGISTER).touch()


def launch(program: Program, python: str, mailbox: Path) -> list[str]:
    """The command that starts the program in the trust domain of this mailbox."""
    folder = mailbox / FOLDER
    places = {"--register": REGISTER, "--reports": REPORTS, "--event-log": EVENT_LOG}
    return [
        *(python, "-I", "-B", str(LAUNCHER), program, "--mailbox", str(mailbox)),
        *("--threads", os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))),
        *(word for option, name in places.items() for word in (option, str(folder / name))),
    ]
