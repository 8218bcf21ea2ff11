"""A coordinator that hides what it does: things that are in no log, a log for each hospital, no witness.

Before, agents only followed the log, under the first key that they were shown: they signed what stood in it
nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from contracts.agents_api.releases import ReleaseItem
from contracts.evidence import Claims
from contracts.log.note import NoteKey
from contracts.log.note_writing import vkey_of
from contracts.manifest import Release, Spf, Split, TransparencyLog
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.refusal import Refusal
from contracts.releases import Released, sign_release
from contracts.roster import Roster, RosterEntry
from contracts.signing import SigningKey
from site_agent import releases
from site_agent.enrolment import connect
from site_agent.proofs import require_appraisal, require_roster
from site_agent.serving import ServedModel
from tests.attacks.hospital import Hospital, attacked_hospital
from tests.site_agent.archive import Platform, plain
from tests.site_agent.conftest import Reply, Request
from tests.site_agent.factories import make_receipt
from tests.support.made_log import ORIGIN, VKEY, WITNESS_KEY


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with attacked_hospital(tmp_path) as made:
        yield made


def test_a_manifest_that_stands_in_no_log_is_not_signed(hospital: Hospital) -> None:
    manifest = hospital.manifest()
    hospital.offer(manifest, hidden=True)
    status, said = hospital.approves(manifest)
    assert (status, "[log.not_logged]" in said) == (1, True), said
    hospital.log.freeze(hospital.manifest(run="run-9"))
    status, said = hospital.approves(manifest)
    assert (status, "[log.wrong_entry]" in said) == (1, True), said
    assert hospital.approved == []


def test_a_proof_for_another_tree_is_no_proof(hospital: Hospital) -> None:
    manifest = hospital.manifest()
    hospital.offer(manifest)
    shown = hospital.log.prove("manifest")
    shown["entry"] = shown["entry"].replace("run-1", "run-2")
    hospital.log.prove = lambda *_: shown  # type: ignore[method-assign]
    status, said = hospital.approves(manifest)
    assert (status, "[log.not_included]" in said) == (1, True), said
    assert hospital.approved == []


def test_a_log_that_is_shown_to_this_hospital_alone_is_a_fork(hospital: Hospital) -> None:
    first = hospital.manifest()
    hospital.offer(first)
    assert hospital.approves(first)[0] == 0
    hospital.log.entries = [b"one", b"two", b"other", b"four", b"five"]
    second = hospital.manifest(run="run-2")
    hospital.offer(second)
    status, said = hospital.approves(second)
    assert (status, "[log.fork]" in said) == (3, True), said
    assert hospital.approved == [first.hash]
    assert (hospital.state.log / "fork-1.json").exists(), "the proof is kept"


def test_another_log_than_the_one_the_operator_told_of_is_refused(hospital: Hospital) -> None:
    other = SigningKey.generate()
    hospital.log.key = other
    for log in (None, TransparencyLog(vkey_of(NoteKey(ORIGIN, other.public)))):
        manifest = hospital.manifest(log=log)
        hospital.offer(manifest)
        status, said = hospital.approves(manifest)
        assert (status, "[approval.other_log]" in said) == (1, True), said
    manifest = hospital.manifest()
    hospital.offer(manifest)
    status, said = hospital.approves(manifest)
    assert (status, "[log.fork]" in said) == (3, True), said
    assert hospital.approved == []


def test_a_witness_that_the_manifest_names_must_have_cosigned(hospital: Hospital) -> None:
    manifest = hospital.manifest(log=TransparencyLog(VKEY, (vkey_of(WITNESS_KEY),)))
    hospital.offer(manifest)
    status, said = hospital.approves(manifest)
    assert (status, "[log.not_cosigned]" in said) == (1, True), said
    hospital.log.borrowed = "other.example/log"
    status, said = hospital.approves(manifest)
    assert (status, "[log." in said) == (1, True), "the witness has cosigned another log's checkpoint"
    hospital.log.borrowed, hospital.log.cosigned = "", True
    assert hospital.approves(manifest)[0] == 0


def test_nothing_is_sealed_to_an_enclave_whose_appraisal_was_hidden(hospital: Hospital) -> None:
    manifest = hospital.manifest()
    hospital.offer(manifest)
    claims = Claims("1" * 64, "ab" * 8, "2" * 64, manifest.hash, "split_server")
    coordinator = connect(hospital.state)

    def refused() -> str:
        with pytest.raises(Refusal) as caught:
            require_appraisal(hospital.state, coordinator, manifest, claims)
        return caught.value.code

    assert refused() == "log.not_logged"
    reported = msgspec.to_builtins(claims)
    for wrong in ({"claims": {**reported, "hpke_key": "cd" * 8}, "appraisal": {"verdict": "accepted"}},
                  {"claims": reported, "appraisal": {"verdict": "refused"}}):  # fmt: skip
        hospital.log.add("appraisal", wrong)
        assert refused() == "log.wrong_entry"
    hospital.log.add("appraisal", {"claims": reported, "appraisal": {"verdict": "accepted"}})
    require_appraisal(hospital.state, coordinator, manifest, claims)
    coordinator.close()


def test_no_question_is_sealed_to_a_served_model_whose_enclave_was_accepted_in_no_log(
    hospital: Hospital, tmp_path: Path
) -> None:
    """Its evidence is good: nobody but the coordinator and this hospital would know that it was shown."""
    platform, enclave, public = Platform(tmp_path / "platform"), SigningKey.generate(), False
    split = {"method": "method-2", "adapter": Spf(25.0, 25.0), "split": Split(1)}
    manifest = hospital.manifest(policy=platform.policy, release=Release("serve-only", 2), **split)

    def answer(request: Request) -> Reply:
        if request.path.endswith("serving/evidence"):
            shown = platform.evidence(manifest, "split_server", enclave, request.json["nonce"])
            if public:
                hospital.log.add("appraisal", {"claims": shown.claims, "appraisal": {"verdict": "accepted"}})
            return Reply(body={**plain(shown), "enclave": "e1", "epoch": 1})
        if request.path.startswith("log/"):
            return hospital.log(request)
        return Reply(body={"receipts": []})

    hospital.server.answer = answer
    coordinator = connect(hospital.state)
    served = ServedModel(hospital.state, coordinator, manifest, lambda _said: None)

    def asked() -> tuple[str, bool]:
        hospital.server.requests.clear()
        with pytest.raises(Refusal) as caught:
            served.ask(b"is this patient ill?")
        return caught.value.code, any("serving/open" in each.path for each in hospital.server.requests)

    assert asked() == ("log.not_logged", False)
    public = True
    assert asked() == ("agent.bad_answer", True), "the session is opened, which this coordinator cannot do"
    coordinator.close()


def test_no_release_is_opened_that_comes_from_an_enclave_which_was_accepted_in_no_log(
    hospital: Hospital, tmp_path: Path
) -> None:
    platform, enclave = Platform(tmp_path / "platform"), SigningKey.generate()
    manifest = hospital.manifest(policy=platform.policy, release=Release("sealed-to-sites", 2))
    receipt, evidence = make_receipt(manifest, 4), platform.evidence(manifest, "aggregator", enclave)
    sites = tuple(site.id for site in manifest.sites)
    said = Released(
        1, manifest.hash, manifest.run, receipt_hash(receipt.receipt), "sealed-to-sites", "1" * 64, 9,
        "2" * 64, sites, sites, "aggregator", "3" * 64, True, 1,
    )  # fmt: skip
    statement, asked_for = (
        msgspec.Raw(msgspec.json.encode(each)) for each in (sign_release(said, enclave), receipt)
    )
    asked = ReleaseItem(
        manifest.run, "Triage", manifest.hash, "sealed-to-sites", "released", asked_for, 2, 2,
        True, True, statement, evidence,
    )  # fmt: skip
    judged = releases.JudgedRelease(asked, manifest, receipt)

    def answer(request: Request) -> Reply:
        nothing = Reply(404, {"code": "request.not_found", "message": "", "hint": "", "facts": {}})
        return hospital.log(request) if request.path.startswith("log/") else nothing

    hospital.server.answer = answer
    coordinator = connect(hospital.state)

    def opened() -> tuple[str, bool]:
        hospital.server.requests.clear()
        with pytest.raises(Refusal) as caught:
            releases.fetch(hospital.state, coordinator, judged, tmp_path / "out")
        return caught.value.code, any("1" * 64 in each.path for each in hospital.server.requests)

    assert opened() == ("log.not_logged", False)
    hospital.log.add("appraisal", {"claims": evidence.claims, "appraisal": {"verdict": "accepted"}})
    assert opened()[1], "now its file is asked for"
    coordinator.close()


def test_a_roster_that_only_this_hospital_is_shown_is_not_countersigned(hospital: Hospital) -> None:
    manifest = hospital.manifest()
    hospital.offer(manifest)
    inputs = (RosterEntry("site-1", "a" * 64), RosterEntry("site-2", "b" * 64))
    roster = Roster(manifest.hash, 1, inputs, NO_RECEIPT, True)
    shown_to_others = msgspec.structs.replace(roster, inputs=(inputs[0], RosterEntry("site-2", "c" * 64)))
    coordinator = connect(hospital.state)
    for logged, code in ((None, "log.not_logged"), (shown_to_others, "log.wrong_entry")):
        if logged is not None:
            hospital.log.add("roster.fixed", {"roster": msgspec.to_builtins(logged)})
        with pytest.raises(Refusal) as caught:
            require_roster(hospital.state, coordinator, manifest, roster)
        assert caught.value.code == code
    hospital.log.add("roster.fixed", {"roster": msgspec.to_builtins(roster)})
    require_roster(hospital.state, coordinator, manifest, roster)
    coordinator.close()
