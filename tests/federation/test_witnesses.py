"""A second key cosigns a checkpoint, and everybody sees both signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from contracts.log.checkpoint import verify_cosignatures
from contracts.log.note import NoteKey, parse_vkey
from contracts.log.note_writing import vkey_of
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from federation.attestation import log, witnesses
from federation.attestation.models import Checkpoint
from tests.federation.cast import Hospital
from tests.support.witness import cosign, witness_key

pytestmark = pytest.mark.django_db
SIGNER = SigningKey.generate()
WITNESS = witness_key("witness.example/w1", SIGNER.public)


def cosigned(at: int = 1_700_000_000) -> str:
    key = parse_vkey(log.verifier_key())
    note = log.checkpoint().note
    return cosign(note, log=key, seen=None, proof=(), name=WITNESS.name, signer=SIGNER, at=at)


def test_an_imported_cosignature_is_on_the_checkpoint_that_agents_get(
    anna: Hospital, tmp_path: Path, capsys: Any
) -> None:
    log.append("test.entry", {"n": 1})
    path = tmp_path / "note"
    path.write_text(cosigned())
    for _ in range(2):  # again changes nothing
        call_command("import_cosignature", path, witness=vkey_of(WITNESS))
    reported = anna.call("get", "log/checkpoint").json()["checkpoint"]
    assert verify_cosignatures(reported, [WITNESS]) == {WITNESS.name: 1_700_000_000}
    assert reported.count(WITNESS.name) == 1


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    log.append("test.entry", {"n": 1})
    note = cosigned()
    before = Checkpoint.objects.get().note
    other = witness_key(WITNESS.name, SigningKey.generate().public)
    for data, witness, code in (
        (note, other, "cosignature.unfit"),  # another key of the same name
        (note, NoteKey(WITNESS.name, SIGNER.public), "cosignature.unfit"),  # not a cosignature key
        (before, WITNESS, "cosignature.unfit"),  # nobody cosigned
        (note.replace("\n1\n", "\n2\n", 1), WITNESS, "log.bad_checkpoint_signature"),
        ("hello", WITNESS, "log.invalid_note"),
    ):
        with pytest.raises(Refusal) as refusal:
            witnesses.take(data.encode(), witness)
        assert refusal.value.code == code
    with pytest.raises(CommandError):
        call_command("import_cosignature", tmp_path / "absent", witness=vkey_of(WITNESS))
    assert Checkpoint.objects.get().note == before
