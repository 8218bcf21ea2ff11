"""The acts on checkpoints: the log signs one, an agent or a witness follows what grows from the last that it
saw."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from contracts.log import growth
from contracts.log.checkpoint import Checkpoint, parse_text
from contracts.log.note_writing import sign_note
from contracts.refusal import Refusal
from contracts.signing import SigningKey


def sign_checkpoint(checkpoint: Checkpoint, signer: SigningKey) -> str:
    """The signed note, by the log's key. The caller never signs two that do not grow from one another."""
    text = checkpoint_text(checkpoint)
    parse_text(text)  # what nobody could read is not signed
    return sign_note(text, checkpoint.origin, signer)


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """What is signed of it."""
    root = base64.b64encode(checkpoint.root).decode()
    lines = (checkpoint.origin, str(checkpoint.size), root, *checkpoint.extensions)
    return "".join(f"{line}\n" for line in lines)


def follow(seen: Checkpoint | None, new: Checkpoint, proof: Sequence[bytes]) -> Checkpoint:
    """The rule of agents and witnesses: a log may only grow.

    `proof` is the consistency proof from `seen` to `new` (empty where nothing was seen, where nothing was
    in the log, or where both are equal).

    Returns: what to keep as seen.

    Raises: `log.wrong_origin`, `log.went_back` or `log.not_consistent` (a fork).
    """
    if seen is None:
        return new
    if new.origin != seen.origin:
        raise Refusal("log.wrong_origin", found=new.origin[:100], expected=seen.origin[:100])
    if new.size < seen.size:
        raise Refusal("log.went_back", found=new.size, seen=seen.size)
    if seen.size > 0:
        growth.verify_consistency(seen.size, new.size, seen.root, new.root, proof)
    return new
