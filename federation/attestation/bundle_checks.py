"""Check a bundle for somebody at this machine: the same for the command line and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contracts.log.checkpoint import verify_checkpoint
from contracts.log.note import KeyType, NoteKey, parse_vkey
from contracts.refusal import Refusal
from error_catalogue import explain
from federation.attestation.log import kept_verifier_key
from transparency_log.archive import MAX_UNPACKED_BYTES
from transparency_log.bundle import read_header, verify_bundle
from transparency_log.report import BundleReport, Finding, Verdict

MEANING: dict[Verdict, str] = {
    "verified": "All that a bundle can show was shown.",
    "incomplete": "Nothing contradicts it, but it cannot be verified with what is here.",
    "failed": "Something contradicts what the runs in it promise.",
}


def check(
    path: Path,
    *,
    log_key: str | None = None,
    seen: Sequence[bytes] = (),
    witnesses: Sequence[str] = (),
    unpacked: int = MAX_UNPACKED_BYTES,
) -> BundleReport:
    """Verify a bundle by the vkey `log_key`. Where none is given, this machine's own log has to have the key
    that the bundle names; otherwise whose log it is stays open.

    `seen` are signed checkpoints that somebody kept, `witnesses` vkeys.

    Raises: `bundle.unusable`, `bundle.too_large`, or `log.*` for keys and checkpoints that cannot be used.
    """
    key, whose = _log_key(path, log_key)
    if seen and key is None:
        raise Refusal("bundle.unusable", fault="a checkpoint that you saw needs the log's key")
    cosigners = [parse_vkey(text) for text in witnesses]
    if any(witness.type != KeyType.COSIGNATURE for witness in cosigners):
        raise Refusal("log.invalid_note", fault="a witness's key is not a cosignature key")
    heads = [verify_checkpoint(note, key) for note in seen if key is not None]
    return verify_bundle(path, log_key=key, seen=heads, witnesses=cosigners, whose=whose, unpacked=unpacked)


def next_steps(findings: Sequence[Finding]) -> list[str]:
    """What to do about them, each once."""
    return list(dict.fromkeys(explain(finding.code or "").hint for finding in findings))


def _log_key(path: Path, given: str | None) -> tuple[NoteKey | None, str]:
    if given:
        return parse_vkey(given), "that you gave"
    own = kept_verifier_key()
    if own is not None and read_header(path).log_key == own:
        return parse_vkey(own), "that this machine keeps"
    return None, ""
