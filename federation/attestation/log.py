"""The transparency log in the database: append before release, checkpoint, prove (RFC 6962, C2SP).

Entry format, tree and checkpoint are transparency_log's; this keeps the leaves, the hashes of complete
subtrees, the attachments, and the log's signing key.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from django.db import transaction

from contracts.canonical import digest
from contracts.fingerprint import fingerprint
from contracts.kept_keys import signing_key, signing_secret
from contracts.log import growth, merkle
from contracts.log.checkpoint import Checkpoint as TreeHead
from contracts.log.following import sign_checkpoint
from contracts.log.note import NoteKey
from contracts.log.note_writing import vkey_of
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from federation.attestation.models import (
    Checkpoint,
    LogEntry,
    LogHead,
    LogMention,
    LogNode,
    StoredEvidence,
)
from federation.attestation.subjects import manifest_in, search_columns, sites_in
from federation.frozen import read_manifest
from federation.people.models import User
from transparency_log.entry import (
    FORMAT,
    AppraisalBody,
    LeafEntry,
    draft_entry,
    leaf_of,
    typed_body,
)

KEY_FILE = "log-key.json"
_HEAD = 1


@dataclass(frozen=True)
class Attachment:
    """A raw thing that an entry names by its SHA-256, to be kept beside the log."""

    kind: str
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def person_id(actor: str) -> str:
    """How the log names who acted: `user:<id>` for a person's e-mail address, any other name as it is. The
    log can forget nothing, so nothing personal enters it; whose id it is stands in the database alone."""
    if "@" not in actor:
        return actor
    known = User.objects.filter(email=actor).values_list("pk", flat=True).first()
    return f"user:{known or 'gone'}"


NEWER = re.compile(
    rb'"release":\{"answers":|"kind":"prompt-choices"|"passes":"native"|"(packing|at_once)":[0-9]'
    rb'|"activations":"again"|"(start|prepared)":"[0-9a-f]{64}"'
)
"""What stands in the canonical form of a manifest that bounds answers, has questions with choices, has masks
put on in C, packs rows, divides batches, computes activations again, starts from a released adapter or pins a
prepared model, and, as quotes in texts are escaped, in no other (but one that spells a label `passes` as
`native`, or `activations` as `again`, which costs it the earlier format, and no more): what names such a
manifest is of the format that has it, all else of the one that 0.1.0 reads."""


def text_hash(text: str) -> str:
    """What the log holds of a text that somebody wrote freely: its SHA-256 in hex, over UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def append(kind: str, body: Any, attachments: Sequence[Attachment] = ()) -> LogEntry:
    """Add an entry. What it tells of may take effect only after the transaction around this has committed.

    `body` is a Struct or a JSON value. Appends take their turn on the head's row, until the commit.

    Raises: `log.invalid_entry`, also if the entry names an attachment that is not kept,
    `log.foreign_policy` for an appraisal by another policy than its manifest's.
    """
    with transaction.atomic():
        head, _ = LogHead.objects.select_for_update().get_or_create(pk=_HEAD)
        at = int(time.time())
        for attachment in attachments:
            _keep(attachment)
        entry = draft_entry(kind, at, body, tuple(attachment.sha256 for attachment in attachments))
        if _is_newer(entry):
            entry = msgspec.structs.replace(entry, version=FORMAT)
        entry, data = leaf_of(entry)
        kept = StoredEvidence.objects.filter(pk__in=entry.attachments).count()
        if kept != len(set(entry.attachments)):
            raise Refusal("log.invalid_entry", fault="an attachment is missing")
        _require_own_policy(entry)
        leaf = merkle.leaf_hash(data)
        row = LogEntry.objects.create(
            index=head.size,
            kind=kind,
            at=datetime.fromtimestamp(at, UTC),
            data=data.decode(),
            leaf_hash=leaf.hex(),
            **search_columns(entry),
        )
        LogMention.objects.bulk_create(LogMention(entry=row, site_id=site) for site in sites_in(entry))
        head.size = growth.append(DatabaseStore(), head.size, leaf)
        head.save(update_fields=["size"])
        return row


def _is_newer(entry: LeafEntry) -> bool:
    """Whether it names a manifest with what is NEWER, brought with it or by an entry before it."""
    named = {*entry.attachments, manifest_in(entry)}
    manifests = StoredEvidence.objects.filter(pk__in=named - {None}, kind="manifest")
    texts = [bytes(data) for data in manifests.values_list("data", flat=True)]
    return any(map(NEWER.search, texts))


def _require_own_policy(entry: LeafEntry) -> None:
    """An appraisal is by the policy of its run's manifest.

    Raises: `log.foreign_policy`, and `manifest.*` where the manifest that it names is none.
    """
    body = typed_body(entry)
    if not isinstance(body, AppraisalBody):
        return
    text = bytes(StoredEvidence.objects.get(pk=body.manifest).data).decode()
    manifest = read_manifest(text, body.manifest)
    if digest(manifest.policy) != body.policy:
        raise Refusal("log.foreign_policy", run=manifest.run)


def take_turn() -> None:
    """Inside a transaction: wait for our turn to append, and keep it until the commit. For verbs that judge
    by what the log's writers keep (the floors) before they append."""
    LogHead.objects.get_or_create(pk=_HEAD)
    LogHead.objects.select_for_update().get(pk=_HEAD)


def _keep(attachment: Attachment) -> None:
    defaults = {"kind": attachment.kind, "data": attachment.data}
    StoredEvidence.objects.get_or_create(sha256=attachment.sha256, defaults=defaults)


class DatabaseStore:
    """The tree's hashes (contracts.log.growth.HashStore): level 0 is in the entries themselves."""

    def get_hash(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree that was put."""
        if level == 0:
            return bytes.fromhex(LogEntry.objects.values_list("leaf_hash", flat=True).get(index=index))
        return bytes.fromhex(LogNode.objects.values_list("hash", flat=True).get(level=level, index=index))

    def put(self, level: int, index: int, value: bytes) -> None:
        """Keep a hash; the unique key forbids a second one in its place."""
        if level > 0:
            LogNode.objects.create(level=level, index=index, hash=value.hex())


def size() -> int:
    """How many entries the log has."""
    return LogHead.objects.filter(pk=_HEAD).values_list("size", flat=True).first() or 0


def checkpoint() -> Checkpoint:
    """The signed tree head over all entries now. For one size there is one checkpoint for ever."""
    with transaction.atomic():
        head, _ = LogHead.objects.select_for_update().get_or_create(pk=_HEAD)
        latest = Checkpoint.objects.filter(size=head.size).first()
        if latest is not None:
            return latest
        origin, signer = log_key()
        root = growth.root(DatabaseStore(), head.size)
        note = sign_checkpoint(TreeHead(origin, head.size, root), signer)
        return Checkpoint.objects.create(size=head.size, root=root.hex(), note=note)


def inclusion(entry: str, at_size: int | None = None) -> tuple[LogEntry, int, list[bytes]]:
    """The entry (by index or by leaf hash), the tree size, and the proof that the entry is in that tree.

    Raises: `log.bad_range` or `request.not_found`.
    """
    whole = size()
    within = whole if at_size is None else at_size
    if not 0 < within <= whole:
        raise Refusal("log.bad_range", size=whole, asked=within)
    place = {"leaf_hash": entry} if len(entry) == 64 else {"index": int(entry)}
    row = LogEntry.objects.filter(**place).first()
    if row is None:
        raise Refusal("request.not_found")
    return row, within, growth.inclusion_proof(DatabaseStore(), row.index, within)


def consistency(first: int, second: int) -> list[bytes]:
    """The proof that the tree of `second` entries grew from that of `first`.

    Raises: `log.bad_range`.
    """
    whole = size()
    if second > whole:
        raise Refusal("log.bad_range", size=whole, asked=second)
    return growth.consistency_proof(DatabaseStore(), first, second)


def log_key() -> tuple[str, SigningKey]:
    """The log's origin and its signing key, made once per installation in the state folder (0600).

    Losing the key means a new log; the origin stays what the address was when the key was made.
    """
    path = settings.STATE_DIR / KEY_FILE
    if not path.exists():
        origin = f"{urlsplit(settings.PUBLIC_URL).netloc}/log"
        key = {"origin": origin, "secret": signing_secret(SigningKey.generate()).hex()}
        fresh = path.with_name(f"{KEY_FILE}.{secrets.token_hex(8)}")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(key))
        try:
            # A hard link is atomic and refuses to replace what another process made first.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    kept = json.loads(path.read_text())
    return kept["origin"], signing_key(bytes.fromhex(kept["secret"]))


def key_fingerprint() -> str:
    """Of `verifier_key`, for people: hospitals type it when they enrol."""
    return fingerprint(verifier_key().encode())


def verifier_key() -> str:
    """The log's public key as a C2SP vkey, for agents, witnesses and auditors."""
    origin, signer = log_key()
    return vkey_of(NoteKey(origin, signer.public))


def kept_verifier_key() -> str | None:
    """The vkey of the log that this machine keeps, for commands that must not make one; None where it keeps
    none, or where this process may not read it."""
    try:
        return verifier_key() if (settings.STATE_DIR / KEY_FILE).exists() else None
    except OSError:
        return None
