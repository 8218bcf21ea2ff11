"""The parts of a bundle that are not entries, read strictly: each is the canonical form of what it says."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.log import merkle
from contracts.refusal import Refusal

ProofHash = Annotated[bytes, Meta(min_length=merkle.HASH_BYTES, max_length=merkle.HASH_BYTES)]
Proof = Annotated[tuple[ProofHash, ...], Meta(max_length=64)]
T = TypeVar("T")

BUNDLE_FORMAT = "fedslice-bundle/1"


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """bundle.json. The log's key in it is the exporter's word: an auditor brings their own."""

    format: str
    origin: str
    log_key: str
    created: int
    verifier: str
    notice: str


def header_of(data: bytes) -> Header:
    """Raises: `bundle.unusable`, too where the bundle has another format."""
    header = decode(data, Header)
    if header.format != BUNDLE_FORMAT:
        fault = f"its format is {header.format[:40]}; this version reads {BUNDLE_FORMAT}"
        raise Refusal("bundle.unusable", fault=fault)
    return header


class ProofLine(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of proofs.jsonl."""

    index: Annotated[int, Meta(ge=0, lt=2**53)]
    proof: Proof | None


class EarlierLine(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of earlier.jsonl."""

    checkpoint: str
    proof: Proof


def decode(data: bytes, kind: type[T]) -> T:
    """Raises: `bundle.unusable`: also where a name stands twice, or anything is spelled otherwise."""
    try:
        value = msgspec.json.decode(data, type=kind)
        same = canonical(value) == data
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refusal("bundle.unusable", fault=str(error)[:200]) from error
    if not same:
        raise Refusal("bundle.unusable", fault=f"a {kind.__name__.lower()} is not in canonical form")
    return value
