"""Where an agent runs: what tells two machines with one state folder apart.

A copied state folder is a second agent with the same key, and the two would break each other's promises
without a sign (a roster is countersigned at most once). Honest agents therefore say in every token where they
run. It is no proof: who has the key can say anything.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MACHINE_LENGTH = 64

Id = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Machine = Annotated[str, Meta(pattern=r"^[ -~]{1,64}\Z")]


class Instance(NamedTuple):
    """Claims of the agent's token. `place` is the same for one state folder on one machine, over restarts: a
    copy of the folder has another one. `boot` changes when the machine starts: of two copies that look like
    one place (a cloned disk) each has its own. `machine` is the machine's name, for people."""

    place: Id
    boot: Id
    machine: Machine


def instance_of(folder: Path, machine: str) -> Instance:
    """Of the agent with this state folder, on this machine.

    `place` is of the machine's id (machine-id(5); containers may have none) and of the folder's inode, which
    no copy on the same file system shares; on another file system the device differs, so `boot` does. Nothing
    of it is kept in the folder, so nothing is copied along.
    """
    found = folder.stat()
    return Instance(
        place=_digest(_line(MACHINE_ID), str(found.st_ino)),
        boot=_digest(_line(BOOT_ID), str(found.st_dev)),
        machine="".join(sign if " " <= sign <= "~" else "?" for sign in machine[:MACHINE_LENGTH]) or "?",
    )


def read_instance(claims: dict[str, Any]) -> Instance:
    """The instance that a token's claims name. Raises msgspec.ValidationError."""
    return msgspec.convert([claims.get(name) for name in Instance._fields], Instance)


def _line(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(("fedslice instance", *parts)).encode()).hexdigest()[:32]
