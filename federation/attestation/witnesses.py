"""Witnesses: a second key that followed the log and cosigned one of its checkpoints (C2SP tlog-cosignature).

A witness fetches checkpoint and consistency proof like an agent, cosigns on its own machine with software of
its own, and sends the note back; here its line is added to ours.
"""

from __future__ import annotations

from django.db import transaction

from contracts.log.checkpoint import verify_checkpoint, verify_cosignatures
from contracts.log.note import KeyType, Note, NoteKey, parse_note, parse_vkey
from contracts.log.note_writing import note_text
from contracts.refusal import Refusal
from federation.attestation import log
from federation.attestation.models import Checkpoint
from federation.audit.services import record


def take(data: bytes, witness: NoteKey) -> Checkpoint:
    """Add the cosignature of `witness` to the checkpoint that it is for; the same one again changes nothing.

    Raises: `cosignature.unfit`, `log.invalid_note`, `log.wrong_origin` or `log.bad_checkpoint_signature`.
    """
    if witness.type != KeyType.COSIGNATURE:
        raise Refusal("cosignature.unfit", fault="the witness's key is not a cosignature key")
    head = verify_checkpoint(data, parse_vkey(log.verifier_key()))
    if witness.name not in verify_cosignatures(data, [witness]):
        raise Refusal("cosignature.unfit", fault="the witness has not signed it")
    came = parse_note(data)
    with transaction.atomic():
        row = Checkpoint.objects.select_for_update().filter(size=head.size).first()
        ours = parse_note(row.note) if row else None
        if row is None or ours is None or ours.text != came.text:
            raise Refusal("cosignature.unfit", fault="it is of a checkpoint that we never signed")
        if any((line.name, line.key_id) == (witness.name, witness.id) for line in ours.signatures):
            return row
        added = next(
            line for line in came.signatures if (line.name, line.key_id) == (witness.name, witness.id)
        )
        row.note = note_text(Note(ours.text, (*ours.signatures, added)))
        row.save(update_fields=["note"])
        record(None, "checkpoint.cosigned", f"checkpoint:{row.size}", witness=witness.name)
    return row
