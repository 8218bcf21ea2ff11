"""The ledger's file: authenticated, replaced as a whole, and never taken for empty when it is gone.

The authentication (HMAC-SHA-256 under a key from `dataset.key`) shows a file that was edited or damaged. Who
can read the whole state folder can forge it; against them stands the approval key.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.policy import Hex32
from contracts.refusal import Refusal
from site_agent.files import private_folder, write_private
from site_agent.state import State

FILE = "ledger.json"
DOMAIN = b"fedslice/ledger/v1\x00"

Unit = Literal["none", "site", "record"]
LEVELS: tuple[Literal["site"], Literal["record"]] = ("site", "record")


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """What a hospital lets a lineage tell: epsilon at `delta` per level, and how many runs without noise.
    None is no limit."""

    site: Annotated[float, Meta(ge=0)] | None = None
    record: Annotated[float, Meta(ge=0)] | None = None
    unbounded: Annotated[int, Meta(ge=0)] | None = None
    delta: Annotated[float, Meta(gt=0, le=0.1)] = 1e-5


class DatasetRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset that was added here: by its digest, with keyed tags of its name and files, and the smallest
    keyed hashes of its texts (site_agent/ledger/lineage.py). They outlive its rows. `reason` is what a person
    typed to make it a lineage of its own."""

    digest: Hex32
    lineage: str
    name: str
    tags: tuple[str, ...]
    sketch: bytes
    added: int
    reason: str = ""


class Used(Struct, frozen=True, forbid_unknown_fields=True):
    """A run that was approved here, as its manifest plans it. `kind` says which runs can be subtracted from
    it. `rate` and `steps` are this site's (unit `none`: 0)."""

    manifest: Hex32
    run: str
    study: str
    at: int
    digest: Hex32
    members: dict[str, str]
    kind: Hex32
    unit: Unit
    noise: float = 0.0
    rate: float = 0.0
    steps: int = 0


class Book(Struct, forbid_unknown_fields=True):
    """All of it. `budgets` is by lineage; `released` are the runs of each sweep (by its root) whose results
    this site has ordered to be let out, in that order."""

    rows: list[DatasetRecord] = []
    used: list[Used] = []
    budgets: dict[str, Budget] = {}
    released: dict[str, list[str]] = {}

    def lineage(self, digest: str) -> str:
        """Raises: `ledger.damaged` for rows that never were entered."""
        for rows in self.rows:
            if rows.digest == digest:
                return rows.lineage
        raise Refusal("ledger.damaged", fault="it does not know this dataset")

    def names(self, lineage: str) -> list[str]:
        """What the datasets of a lineage were called, in the order in which they came."""
        return list(dict.fromkeys(rows.name for rows in self.rows if rows.lineage == lineage))

    def of(self, lineage: str) -> list[Used]:
        """The runs that have counted against a lineage."""
        digests = {rows.digest for rows in self.rows if rows.lineage == lineage}
        return [used for used in self.used if used.digest in digests]


class _Sealed(Struct, forbid_unknown_fields=True):
    book: msgspec.Raw
    mac: Hex32


def read_book(state: State) -> Book:
    """The ledger as it is.

    Raises: `ledger.missing` where it is gone although something was approved here, `ledger.damaged` where
    it was edited, or lacks a run that was approved.
    """
    approved = {path.stem for path in state.approved.glob("*.json")}
    try:
        sealed = msgspec.json.decode((state.folder / FILE).read_bytes(), type=_Sealed)
        if not hmac.compare_digest(_mac(state, bytes(sealed.book)), sealed.mac):
            raise Refusal("ledger.damaged", fault="it was changed by something else than this agent")
        book = msgspec.json.decode(sealed.book, type=Book)
    except FileNotFoundError as error:
        if approved:
            raise Refusal("ledger.missing") from error
        return Book()
    except msgspec.DecodeError as error:
        raise Refusal("ledger.damaged", fault="it cannot be read") from error
    if absent := approved - {used.manifest for used in book.used}:
        raise Refusal("ledger.damaged", fault=f"it lacks {len(absent)} runs that were approved here")
    return book


@contextmanager
def changing(state: State) -> Iterator[Book]:
    """The ledger, to be changed; on the disk when the block ends well, else as it was. One process at a
    time has it.

    Raises: as `read_book`.
    """
    private_folder(state.folder)
    descriptor = os.open(state.folder / "ledger.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        book = read_book(state)
        yield book
        write_private(state.folder / FILE, sealed(state, book))
    finally:
        os.close(descriptor)


def sealed(state: State, book: Book) -> bytes:
    """The file's content, with its authentication."""
    data = msgspec.json.encode(book)
    return msgspec.json.encode(_Sealed(msgspec.Raw(data), _mac(state, data)))


def _mac(state: State, data: bytes) -> str:
    return hmac.new(state.dataset_key, DOMAIN + data, hashlib.sha256).hexdigest()
