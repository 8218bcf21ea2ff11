"""Audit bundles: a zip file by which anyone re-checks a part of the log, or all of it, with no network.

bundle.json         format, origin, the log's key (as the exporter says), when and by what it was written
checkpoint          the signed tree head (C2SP note) under which all of this stands
earlier.jsonl       {"checkpoint": note, "proof": [base64, …]}: older heads and that the log grew from them
entries.jsonl       the entries, one canonical JSON value a line, in the log's order
proofs.jsonl        {"index": n, "proof": [base64, …] | null}: where each entry stands, and its inclusion
                    proof; null where the bundle holds the whole log and the head is computed from it
attachments/<sha256>  quotes, collateral (canonical JSON), policies, manifests: what the entries name
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.log import merkle
from contracts.log.checkpoint import (
    Checkpoint,
    follow,
    read_checkpoint,
    verify_checkpoint,
    verify_cosignatures,
)
from contracts.log.note import NoteKey, parse_note, parse_vkey
from contracts.refusal import Refusal
from transparency_log.archive import ATTACHMENTS, Archive
from transparency_log.entry import Entry, parse_entry
from transparency_log.report import BundleReport
from transparency_log.statements import Statements

VERIFIER = "fedslice 0.1.0"
NOTICE = (
    "Quotes carry the processor's PPID in clear text inside the PCK certificate. "
    "Pass this file only to those who may know which machines took part."
)

ProofHash = Annotated[bytes, Meta(min_length=merkle.HASH_BYTES, max_length=merkle.HASH_BYTES)]
T = TypeVar("T")
Proof = Annotated[tuple[ProofHash, ...], Meta(max_length=64)]


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """bundle.json. The log's key in it is the exporter's word: an auditor brings his own."""

    format: Literal["fedslice-bundle/1"]
    origin: str
    log_key: str
    created: int
    verifier: str
    notice: str


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of proofs.jsonl."""

    index: Annotated[int, Meta(ge=0)]
    proof: Proof | None


class Earlier(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of earlier.jsonl."""

    checkpoint: str
    proof: Proof


def write_bundle(
    path: Path,
    *,
    checkpoint: str,
    log_key: NoteKey,
    store: merkle.HashStore,
    entries: Iterable[tuple[int, bytes]],
    attachment: Callable[[str], bytes | None],
    created: int,
    earlier: Sequence[str] = (),
) -> None:
    """Write the bundle of `entries` (log index and canonical bytes, in order) under a signed `checkpoint`.

    `store` gives the hashes for proofs; `attachment` the raw thing of a SHA-256, or None where it is not kept
    or may not leave; `earlier` are older signed checkpoints of the same log. Entries are read once, so they
    may come from a cursor. Raises Refusal("log.bad_range") for an entry beyond the checkpoint.
    """
    head = verify_checkpoint(checkpoint, log_key)
    header = Header("fedslice-bundle/1", head.origin, log_key.vkey, created, VERIFIER, NOTICE)
    places: list[int] = []
    named: dict[str, None] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        _write(bundle, "bundle.json", canonical(header))
        _write(bundle, "checkpoint", checkpoint.encode())
        with bundle.open(_member("entries.jsonl"), "w") as lines:
            for index, data in entries:
                lines.write(data + b"\n")
                places.append(index)
                named |= dict.fromkeys(parse_entry(data).attachments)
        whole = places == list(range(head.size))
        with bundle.open(_member("proofs.jsonl"), "w") as lines:
            for index in places:
                proof = None if whole else merkle.inclusion_proof(store, index, head.size)
                lines.write(canonical(Place(index, None if proof is None else tuple(proof))) + b"\n")
        with bundle.open(_member("earlier.jsonl"), "w") as lines:
            for note in earlier:
                first = verify_checkpoint(note, log_key).size
                grew = merkle.consistency_proof(store, first, head.size) if first else []
                lines.write(canonical(Earlier(note, tuple(grew))) + b"\n")
        for sha256 in named:
            if (thing := attachment(sha256)) is not None:
                _write(bundle, ATTACHMENTS + sha256, thing)


def verify_bundle(
    path: Path | str,
    *,
    log_key: NoteKey | None = None,
    seen: Sequence[Checkpoint] = (),
    witnesses: Sequence[NoteKey] = (),
) -> BundleReport:
    """Re-check everything in a bundle, offline, and say what that established and what it could not.

    1. the container: only known names, plain files, limited sizes
    2. the checkpoint: signed by `log_key` (by the key in the bundle shows less), cosigned by `witnesses`
    3. every entry: canonical, in order, in the tree; the whole tree where the bundle is complete
    4. growth: the log grew from older checkpoints in the bundle and from those `seen` elsewhere
    5. attachments have their names' hashes
    6. what the entries say: see transparency_log/statements.py

    Runs with the auditor, over files alone. Refuses with `bundle.unusable` or `bundle.too_large` where the
    file cannot be read at all; everything else is in the report.
    """
    with Archive(Path(path)) as archive:
        header = _decode(archive.read("bundle.json"), Header)
        report = BundleReport(origin=header.origin, created=header.created, verifier=header.verifier)
        head = _check_checkpoint(archive, header, report, log_key, witnesses)
        if head is None:
            return report
        statements = Statements(archive, report)
        tree = _check_entries(archive, report, head, statements)
        _check_growth(archive, report, head, tree, log_key or parse_vkey(header.log_key), seen)
        _check_attachments(archive, report)
        statements.finish()
        return report


def _check_checkpoint(
    archive: Archive,
    header: Header,
    report: BundleReport,
    log_key: NoteKey | None,
    witnesses: Sequence[NoteKey],
) -> Checkpoint | None:
    try:
        note = parse_note(archive.read("checkpoint"))
        head = read_checkpoint(note)
        report.origin, report.size = head.origin, head.size
        verify_checkpoint(str(note), log_key or parse_vkey(header.log_key))
        cosigned = verify_cosignatures(str(note), witnesses)
    except Refusal as refusal:
        report.failed(f"The checkpoint was refused: {refusal}", refusal.code)
        return None
    if log_key is not None:
        report.established(f"The checkpoint over {head.size} entries is signed by the log key that you gave.")
    else:
        report.established(f"The checkpoint over {head.size} entries is signed by the key in the bundle.")
        report.open("Whose key that is: give the log's key, obtained elsewhere, to establish it.")
    for name, at in cosigned.items():
        report.established(f"Witness {name} cosigned the checkpoint at Unix time {at}.")
    for witness in witnesses:
        if witness.name not in cosigned:
            report.open(f"Witness {witness.name} has not cosigned this checkpoint.")
    return head


def _check_entries(
    archive: Archive, report: BundleReport, head: Checkpoint, statements: Statements
) -> merkle.MemoryStore | None:
    """Returns the whole tree where the bundle holds it and it has the checkpoint's head."""
    tree, last, unproven, broken = merkle.MemoryStore(), -1, 0, False
    for data, place in _paired(archive):
        index, report.entries = place.index, report.entries + 1
        if index <= last:
            broken = True
            report.failed("It is out of order or appears twice.", "log.not_included", index)
        last = max(last, index)
        leaf = merkle.leaf_hash(data)
        from_start = index == report.entries - 1 and not broken
        if from_start:
            merkle.append(tree, index, leaf)
        entry: Entry | None = None
        try:
            if place.proof is None:
                unproven += 1
            else:
                merkle.verify_inclusion(index, head.size, leaf, place.proof, head.root)
            entry = parse_entry(data)
        except Refusal as refusal:
            broken = True
            report.failed(f"It was refused: {refusal}", refusal.code, index)
        if entry is not None:
            statements.take(index, entry, from_start=from_start)
    whole = report.entries == head.size == last + 1 and not broken
    if (whole or unproven) and not (whole and merkle.root(tree, head.size) == head.root):
        report.failed(
            f"The entries here do not make the log that the checkpoint signs: it has {head.size} entries, "
            f"the bundle {report.entries}. Some were edited, removed, reordered or added.",
            "log.not_included",
        )
        return None
    if not broken:
        report.established(
            f"All {report.entries} entries are in the log under this checkpoint, unchanged and in order."
        )
    report.complete = whole
    if whole:
        report.established("The bundle holds every entry of the log up to the checkpoint; none was left out.")
        return tree
    report.open(f"That none of the other entries matters: the bundle holds {report.entries} of {head.size}.")
    return None


def _check_growth(
    archive: Archive,
    report: BundleReport,
    head: Checkpoint,
    tree: merkle.MemoryStore | None,
    log_key: NoteKey,
    seen: Sequence[Checkpoint],
) -> None:
    proofs: dict[tuple[int, bytes], Proof] = {}
    for line in archive.lines("earlier.jsonl"):
        earlier = _decode(line, Earlier)
        try:
            old = verify_checkpoint(earlier.checkpoint, log_key)
            follow(old, head, earlier.proof)
        except Refusal as refusal:
            report.failed(f"An earlier checkpoint in the bundle was refused: {refusal}", refusal.code)
            continue
        proofs[old.size, old.root] = earlier.proof
        report.established(
            f"The log grew from its checkpoint at {old.size} entries; nothing in it was changed."
        )
    for old in seen:
        proof: Sequence[bytes] | None = proofs.get((old.size, old.root))
        if proof is None and 0 < old.size <= head.size and tree is not None:
            proof = merkle.consistency_proof(tree, old.size, head.size)
        if proof is None and 0 < old.size < head.size:
            report.open(
                f"Whether the log grew from the checkpoint at {old.size} entries that you saw: no proof."
            )
            continue
        try:
            follow(old, head, proof or ())
        except Refusal as refusal:
            report.failed(f"This is not the log that you saw before: {refusal}", refusal.code)
            continue
        report.established(f"The log grew from the checkpoint at {old.size} entries that you saw.")
    if not seen:
        report.open(
            "That others were shown the same log: give checkpoints that you or a site saw, or witnesses."
        )


def _check_attachments(archive: Archive, report: BundleReport) -> None:
    names, changed = archive.attachments(), 0
    for sha256 in names:
        if archive.attachment(sha256) is None:
            changed += 1
            report.failed(
                f"The attachment {sha256} has another content than its name says.", "bundle.unusable"
            )
    if names and not changed:
        report.established(f"All {len(names)} attachments are those that the entries name by hash.")


def _paired(archive: Archive) -> Iterator[tuple[bytes, Place]]:
    places = archive.lines("proofs.jsonl")
    for data in archive.lines("entries.jsonl"):
        place = next(places, None)
        if place is None:
            raise Refusal("bundle.unusable", fault="it has fewer proofs than entries")
        yield data, _decode(place, Place)
    if next(places, None) is not None:
        raise Refusal("bundle.unusable", fault="it has more proofs than entries")


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("bundle.unusable", fault=str(error)[:200]) from error


def _member(name: str) -> zipfile.ZipInfo:
    """A fixed date, so that the same log gives the same bytes."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _write(bundle: zipfile.ZipFile, name: str, data: bytes) -> None:
    bundle.writestr(_member(name), data)
