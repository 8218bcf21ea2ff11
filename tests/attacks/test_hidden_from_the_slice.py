"""A hospital's own host that leaves out what the log would show. Method 1's client slice took the
aggregator's evidence alone: whether manifest and acceptance stood in public was asked by the agent, which is
that host's.
"""

import contextlib
from types import SimpleNamespace

import msgspec
import pytest

from contracts.log.note_writing import vkey_of
from contracts.manifest import TransparencyLog
from contracts.signing import SigningKey
from tests.programs.conftest import Consortium, House, code_of, house  # noqa: F401
from tests.support.made_log import VKEY, WITNESS_KEY

WATCHED = TransparencyLog(VKEY, (vkey_of(WITNESS_KEY),))


@pytest.fixture(scope="module")
def world(house, tmp_path_factory):  # noqa: F811
    """A run whose manifest names a witness: its aggregator, a client slice, and evidence that is in order."""
    run = Consortium(house, tmp_path_factory.mktemp("watched") / "run", house.manifest(log=WATCHED))
    with contextlib.closing(run):
        client = run.client("anna")
        evidence = run.evidence(run.aggregator(), client.call("challenge")["nonce"])
        run.log.cosigned = True
        yield SimpleNamespace(run=run, client=client, evidence=evidence, logged=run.logged(evidence))


@pytest.fixture
def admitting(world, code_of):  # noqa: F811
    """The code by which the client slice refuses these proofs; it has admitted nobody then."""

    def code(**changed):
        logged = {**world.logged, **changed}
        refused = code_of(world.client.call, "admit", evidence=world.evidence, logged=logged)
        assert code_of(world.client.call, "train", round=1, previous=None) == "admission.not_admitted"
        return refused

    return code


def another_log(world, **changes):
    """Of the same entries, kept as no honest coordinator would."""
    log = type(world.run.log)()
    log.entries, log.cosigned = list(world.run.log.entries), True
    for name, value in changes.items():
        setattr(log, name, value)
    return log


@pytest.mark.parametrize("left_out", ["manifest", "appraisal"])
def test_evidence_without_both_proofs_is_not_looked_at(world, code_of, left_out):  # noqa: F811
    logged = {kind: proof for kind, proof in world.logged.items() if kind != left_out}
    for shown in ({}, {"logged": logged}):
        code = code_of(world.client.call, "admit", evidence=world.evidence, **shown)
        assert code == "program.bad_arguments"
    assert code_of(world.client.call, "train", round=1, previous=None) == "admission.not_admitted"


def test_an_entry_that_is_not_in_the_log_is_no_proof(world, admitting):
    log = another_log(world)
    log.add("appraisal", {"claims": world.evidence["claims"], "appraisal": {"verdict": "accepted"}})
    made_up = {**log.prove("appraisal"), "checkpoint": world.logged["appraisal"]["checkpoint"]}
    assert admitting(appraisal=made_up) == "log.not_included"


def test_a_log_that_the_manifest_does_not_name_is_none(world, admitting):
    log = another_log(world, key=SigningKey.generate())
    assert admitting(manifest=log.prove("manifest")) == "log.bad_checkpoint_signature"


def test_a_log_without_the_manifests_witness_is_none(world, admitting):
    log = another_log(world, cosigned=False)
    assert admitting(manifest=log.prove("manifest")) == "log.not_cosigned"
    assert admitting(appraisal=log.prove("appraisal")) == "log.not_cosigned"


def test_an_enclave_that_was_accepted_nowhere_is_not_admitted(world, admitting):
    claims = world.evidence["claims"]
    for wrong in (
        {"claims": {**claims, "signing_key": "ab" * 32}, "appraisal": {"verdict": "accepted"}},
        {"claims": claims, "appraisal": {"verdict": "refused"}},
        {},
    ):
        log = another_log(world)
        log.add("appraisal", wrong)
        assert admitting(appraisal=log.prove("appraisal")) == "log.wrong_entry"


def test_a_manifest_that_was_shown_to_this_hospital_alone_is_not_worked_for(world, admitting):
    """The others' manifest is in the log, with another rule of release; this one is not."""
    log = another_log(world)
    release = msgspec.structs.replace(world.run.manifest.release, approvals=1)
    log.freeze(msgspec.structs.replace(world.run.manifest, release=release))
    assert admitting(manifest=log.prove("manifest")) == "log.wrong_entry"
    assert admitting(manifest=world.logged["appraisal"]) == "log.wrong_entry"


def test_a_run_whose_manifest_names_no_log_admits_nobody(house, tmp_path, code_of):  # noqa: F811
    run = Consortium(house, tmp_path / "run", house.manifest(log=None))
    with contextlib.closing(run):
        client = run.client("anna", load=False)
        evidence = run.evidence(run.aggregator(), client.call("challenge")["nonce"])
        assert code_of(run.admit, client, evidence) == "log.none_named"


def test_what_stands_in_public_is_admitted(world):
    """Last: with the same evidence and the true proofs nothing is in the way."""
    world.client.call("admit", evidence=world.evidence, logged=world.logged)
    assert world.client.call("train", round=1, previous=None)["samples"] > 0
