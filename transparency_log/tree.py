"""What a bundle shows about the log itself: who signed its head, that the entries are in it, that it only
grew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from contracts.log import growth, merkle
from contracts.log.checkpoint import Checkpoint, parse_text, verify_checkpoint, verify_cosignatures
from contracts.log.following import follow
from contracts.log.note import NoteKey, parse_note, parse_vkey
from contracts.log.note_writing import note_text
from contracts.refusal import Refusal
from transparency_log.archive import Archive
from transparency_log.entry import LeafEntry, outline, parse_entry
from transparency_log.format import EarlierLine, Header, Proof, ProofLine, decode
from transparency_log.report import BundleReport
from transparency_log.statements import Statements

LOG: Final = "the log"


def check_checkpoint(
    archive: Archive,
    header: Header,
    report: BundleReport,
    log_key: NoteKey | None,
    witnesses: Sequence[NoteKey],
    *,
    whose: str,
) -> Checkpoint | None:
    """The signed head; None where it was refused. Without a key from elsewhere it is nobody's."""
    try:
        note = parse_note(archive.read("checkpoint"))
        head = parse_text(note.text)
        report.origin, report.size = head.origin, head.size
        if head.origin != header.origin:
            raise Refusal("log.wrong_origin", found=head.origin[:100], expected=header.origin[:100])
        verify_checkpoint(note_text(note), log_key or parse_vkey(header.log_key))
        # One by one: two witnesses may share a name.
        cosigned = [verify_cosignatures(note_text(note), [witness]) for witness in witnesses]
    except Refusal as refusal:
        report.failed(LOG, f"The checkpoint was refused: {refusal}", refusal.code)
        return None
    if log_key is not None:
        report.established(LOG, f"The checkpoint over {head.size} entries is signed by the log key {whose}.")
    else:
        words = f"The checkpoint over {head.size} entries is signed by the key that the bundle names."
        report.established(LOG, words)
        words = (
            "Whose key signs: anybody can sign a log of their own. Give the log's key, obtained elsewhere."
        )
        report.missing(LOG, words, "bundle.log_key_unknown")
    for witness, times in zip(witnesses, cosigned, strict=True):
        for name, at in times.items():
            report.established(LOG, f"Witness {name} cosigned the checkpoint at Unix time {at}.")
        if not times:
            words = f"Witness {witness.name} has not cosigned this checkpoint."
            report.missing(LOG, words, "bundle.no_cosignature")
    return head


def check_entries(
    archive: Archive, report: BundleReport, head: Checkpoint, statements: Statements
) -> growth.MemoryStore | None:
    """Returns the whole tree where the bundle holds it and it has the checkpoint's head."""
    tree, last, unproven, broken = growth.MemoryStore(), -1, 0, False
    for data, place in _paired(archive):
        index, report.entries = place.index, report.entries + 1
        if index <= last:
            broken = True
            report.failed(LOG, "It is out of order or appears twice.", "log.not_included", index)
        last = max(last, index)
        leaf = merkle.leaf_hash(data)
        from_start = index == report.entries - 1 and not broken
        if from_start:
            growth.append(tree, index, leaf)
        entry: LeafEntry | None = None
        try:
            if place.proof is None:
                unproven += 1
            else:
                merkle.verify_inclusion(index, head.size, leaf, place.proof, head.root)
            entry = parse_entry(data)
        except Refusal as refusal:
            if refusal.code == "log.other_format":
                statements.pass_over(index, outline(data))
            else:
                broken = True
                report.failed(LOG, f"It was refused: {refusal}", refusal.code, index)
        if entry is not None:
            statements.take(index, entry, from_start=from_start)
    whole = report.entries == head.size == last + 1 and not broken
    if (whole or unproven) and not (whole and growth.root(tree, head.size) == head.root):
        report.failed(
            LOG,
            f"The entries here do not make the log that the checkpoint signs: it has {head.size} entries, "
            f"the bundle {report.entries}. Some were edited, removed, reordered or added.",
            "log.not_included",
        )
        return None
    return _say_what_is_here(report, head, tree, whole, broken)


def _say_what_is_here(
    report: BundleReport, head: Checkpoint, tree: growth.MemoryStore, whole: bool, broken: bool
) -> growth.MemoryStore | None:
    if report.entries == 0:
        report.missing(LOG, "It holds no entry, so nothing was checked.", "bundle.empty")
    elif not broken:
        words = f"All {report.entries} entries are in the log under this checkpoint, unchanged and in order."
        report.established(LOG, words)
    report.every_entry = whole
    if not whole:
        absent = max(head.size - report.entries, 0)
        words = f"{absent} of the log's {head.size} entries are not here; any of them may matter."
        report.missing(LOG, words, "bundle.part")
        return None
    words = "The bundle holds every entry of the log up to the checkpoint; none was left out."
    report.established(LOG, words)
    return tree


def check_growth(
    archive: Archive,
    report: BundleReport,
    head: Checkpoint,
    tree: growth.MemoryStore | None,
    log_key: NoteKey,
    seen: Sequence[Checkpoint],
) -> None:
    """The log grew from the older checkpoints in the bundle, and from those that were `seen` elsewhere."""
    proofs: dict[tuple[int, bytes], Proof] = {}
    for line in archive.lines("earlier.jsonl"):
        earlier = decode(line, EarlierLine)
        try:
            old = verify_checkpoint(earlier.checkpoint, log_key)
            follow(old, head, earlier.proof)
        except Refusal as refusal:
            words = f"An earlier checkpoint in the bundle was refused: {refusal}"
            report.failed(LOG, words, refusal.code)
            continue
        proofs[old.size, old.root] = earlier.proof
        words = f"The log grew from its checkpoint at {old.size} entries; nothing in it was changed."
        report.established(LOG, words)
    for old in seen:
        proof: Sequence[bytes] | None = proofs.get((old.size, old.root))
        if proof is None and 0 < old.size <= head.size and tree is not None:
            proof = growth.consistency_proof(tree, old.size, head.size)
        if proof is None and 0 < old.size < head.size:
            words = f"No proof that the log grew from the checkpoint at {old.size} entries that you saw."
            report.missing(LOG, words, "bundle.no_proof")
            continue
        try:
            follow(old, head, proof or ())
        except Refusal as refusal:
            report.failed(LOG, f"This is not the log that you saw before: {refusal}", refusal.code)
            continue
        report.established(LOG, f"The log grew from the checkpoint at {old.size} entries that you saw.")


def _paired(archive: Archive) -> Iterator[tuple[bytes, ProofLine]]:
    places = archive.lines("proofs.jsonl")
    for data in archive.lines("entries.jsonl"):
        place = next(places, None)
        if place is None:
            raise Refusal("bundle.unusable", fault="it has fewer proofs than entries")
        yield data, decode(place, ProofLine)
    if next(places, None) is not None:
        raise Refusal("bundle.unusable", fault="it has more proofs than entries")
