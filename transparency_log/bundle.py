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
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from contracts.canonical import canonical
from contracts.log import growth
from contracts.log.checkpoint import Checkpoint, verify_checkpoint
from contracts.log.note import NoteKey, parse_vkey
from contracts.log.note_writing import vkey_of
from transparency_log.archive import ATTACHMENTS, MAX_UNPACKED_BYTES, Archive
from transparency_log.entry import FORMAT, outline
from transparency_log.format import BUNDLE_FORMAT, EarlierLine, Header, ProofLine, header_of
from transparency_log.report import BundleReport
from transparency_log.statements import Statements
from transparency_log.tree import check_checkpoint, check_entries, check_growth

VERIFIER = f"fedslice 0.1.0, entries of format {FORMAT}"
NOTICE = (
    "Quotes carry the processor's PPID in clear text inside the PCK certificate. "
    "Pass this file only to those who may know which machines took part."
)


def write_bundle(
    path: Path,
    *,
    checkpoint: str,
    log_key: NoteKey,
    store: growth.HashStore,
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
    header = Header(BUNDLE_FORMAT, head.origin, vkey_of(log_key), created, VERIFIER, NOTICE)
    places: list[int] = []
    named: dict[str, None] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        _write(bundle, "bundle.json", canonical(header))
        _write(bundle, "checkpoint", checkpoint.encode())
        with bundle.open(_member("entries.jsonl"), "w") as lines:
            for index, data in entries:
                lines.write(data + b"\n")
                places.append(index)
                named |= dict.fromkeys(outline(data).attachments)
        whole = places == list(range(head.size))
        with bundle.open(_member("proofs.jsonl"), "w") as lines:
            for index in places:
                proof = None if whole else growth.inclusion_proof(store, index, head.size)
                lines.write(canonical(ProofLine(index, None if proof is None else tuple(proof))) + b"\n")
        with bundle.open(_member("earlier.jsonl"), "w") as lines:
            for note in earlier:
                first = verify_checkpoint(note, log_key).size
                grew = growth.consistency_proof(store, first, head.size) if first else []
                lines.write(canonical(EarlierLine(note, tuple(grew))) + b"\n")
        for sha256 in named:
            if (thing := attachment(sha256)) is not None:
                _write(bundle, ATTACHMENTS + sha256, thing)


def read_header(path: Path | str) -> Header:
    """What a bundle says of itself; nothing is believed yet.

    Raises: as `verify_bundle`.
    """
    with Archive(Path(path)) as archive:
        return header_of(archive.read("bundle.json"))


def verify_bundle(
    path: Path | str,
    *,
    log_key: NoteKey | None = None,
    seen: Sequence[Checkpoint] = (),
    witnesses: Sequence[NoteKey] = (),
    whose: str = "that you gave",
    unpacked: int = MAX_UNPACKED_BYTES,
) -> BundleReport:
    """Re-check everything in a bundle, offline: what holds, what contradicts it, and what is missing.

    1. the container: only known names, plain files, limited sizes
    2. the checkpoint: signed by `log_key` (`whose`, in words), cosigned by all `witnesses`
    3. every entry: canonical, in order, in the tree; the whole tree where the bundle is complete
    4. growth: the log grew from older checkpoints in the bundle and from those `seen` elsewhere
    5. what the entries say: see transparency_log/statements.py
    6. attachments have their names' hashes, and an entry names each

    Runs with the auditor, over files alone; at most `unpacked` bytes come out of the file.

    Raises: `bundle.unusable` or `bundle.too_large` where it cannot be read at all; everything else is in
    the report.
    """
    with Archive(Path(path), unpacked=unpacked) as archive:
        header = header_of(archive.read("bundle.json"))
        report = BundleReport(origin=header.origin, created=header.created, verifier=header.verifier)
        head = check_checkpoint(archive, header, report, log_key, witnesses, whose=whose)
        if head is None:
            return report
        statements = Statements(archive, report)
        tree = check_entries(archive, report, head, statements)
        check_growth(archive, report, head, tree, log_key or parse_vkey(header.log_key), seen)
        if not seen and not witnesses:
            words = "That others saw the same log: give checkpoints that you or a site kept, or witnesses."
            report.open("the log", words)
        statements.finish(exported_by=header.verifier)
        return report


def _member(name: str) -> zipfile.ZipInfo:
    """A fixed date, so that the same log gives the same bytes."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _write(bundle: zipfile.ZipFile, name: str, data: bytes) -> None:
    bundle.writestr(_member(name), data)
