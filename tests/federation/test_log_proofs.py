"""What agents demand before they sign or seal: a proof, for members, cosigned by the manifest's witnesses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.canonical import canonical
from contracts.evidence import Claims
from contracts.log.note import parse_note, parse_vkey
from contracts.log.note_writing import vkey_of
from contracts.log.proof import Logged, require_logged
from contracts.receipts import NO_RECEIPT
from contracts.roster import Roster, RosterEntry, parse_roster
from contracts.signing import SigningKey
from enclave_jobs.runs.services import launch
from federation.attestation import log, witnesses
from federation.frozen import manifest_of
from federation.people.models import User
from federation.studies.models import Study
from tests.federation.cast import Hospital
from tests.support.proofs import freeze as freeze_tried
from tests.support.witness import cosign, witness_key
from transparency_log.entry import APPRAISAL, AppraisalBody

pytestmark = pytest.mark.django_db
SIGNER = SigningKey.generate()
WITNESS = witness_key("witness.example/w1", SIGNER.public)


def proven(hospital: Hospital, kind: str, manifest: str, **about: Any) -> dict[str, Any]:
    """The entry's body, once the proof was found good."""
    query = "&".join(f"{name}={value}" for name, value in about.items())
    answer = hospital.call("get", f"log/proof?kind={kind}&manifest={manifest}&{query}")
    assert answer.status_code == 200, answer.content
    logged = msgspec.convert(answer.json(), Logged)
    return require_logged(logged, kind, parse_vkey(log.verifier_key()), [])[0]


def test_a_frozen_manifest_stands_in_the_log_that_it_names(frozen: Study, anna: Hospital) -> None:
    manifest = manifest_of(frozen)
    assert manifest.log is not None and manifest.log.key == log.verifier_key()
    body = proven(anna, "manifest", manifest.hash)
    assert (body["manifest"], body["run"]) == (manifest.hash, manifest.run)


def test_an_enclaves_appraisal_and_a_rounds_roster_are_found_by_key_and_by_round(
    ready: Study, lena: User, anna: Hospital
) -> None:
    run = launch(lena, ready)
    for key in ("1" * 64, "2" * 64):
        for verdict in ("accepted", "refused"):
            claims = Claims("0" * 64, "ab" * 8, key, run.manifest_hash, "aggregator")
            raw = [log.Attachment(kind, kind.encode()) for kind in ("quote", "collateral")]
            raw.append(log.Attachment("policy", canonical(manifest_of(run).policy)))
            raw.append(log.Attachment("manifest", run.manifest.encode()))
            named = [one.sha256 for one in raw]
            body = AppraisalBody("coordinator", "aggregator", claims, *named, {"verdict": verdict})
            log.append(APPRAISAL, body, raw)
    for number in (1, 2):
        inputs = (RosterEntry(anna.site.pk, f"{number}" * 64),)
        roster = Roster(run.manifest_hash, number, inputs, NO_RECEIPT, True)
        log.append("roster.fixed", {"roster": msgspec.to_builtins(roster)})
    found_body = proven(anna, "appraisal", run.manifest_hash, key="1" * 64)
    assert (found_body["claims"]["signing_key"], found_body["appraisal"]["verdict"]) == ("1" * 64, "accepted")
    found = parse_roster(proven(anna, "roster.fixed", run.manifest_hash, round=1)["roster"])
    assert (found.round, found.inputs[0].sha256) == (1, "1" * 64)


def test_what_is_not_logged_or_not_the_callers_has_no_proof(
    frozen: Study, anna: Hospital, clara: Hospital
) -> None:
    asked = {
        f"kind=roster.fixed&manifest={frozen.manifest_hash}&round=1": (anna, "log.not_logged"),
        f"kind=appraisal&manifest={frozen.manifest_hash}&key={'1' * 64}": (anna, "log.not_logged"),
        f"kind=manifest&manifest={frozen.manifest_hash}": (clara, "request.not_found"),
        f"kind=reference.added&manifest={frozen.manifest_hash}": (anna, "request.not_found"),
    }
    for query, (hospital, code) in asked.items():
        assert hospital.call("get", f"log/proof?{query}").json()["code"] == code


def test_a_proof_waits_for_the_witness_that_the_manifest_names(
    draft: Study, lena: User, anna: Hospital, settings: Any
) -> None:
    settings.LOG_WITNESSES = [vkey_of(WITNESS)]
    manifest = freeze_tried(lena, draft)
    path = f"log/proof?kind=manifest&manifest={manifest.hash}"
    assert anna.call("get", path).json()["code"] == "log.not_cosigned"
    head = log.checkpoint()
    key = parse_vkey(log.verifier_key())
    note = cosign(head.note, log=key, seen=None, proof=(), name=WITNESS.name, signer=SIGNER, at=1)
    witnesses.take(note.encode(), WITNESS)
    log.append("test.entry", {"n": 1})  # the newest checkpoint is cosigned by nobody
    logged = msgspec.convert(anna.call("get", path).json(), Logged)
    assert require_logged(logged, "manifest", key, [WITNESS])[0]["manifest"] == manifest.hash
    assert len(parse_note(logged.checkpoint).signatures) == 2
