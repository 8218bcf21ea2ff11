"""A sweep's one signature by an officer whose machine has no network: one file there, one signature back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from contracts.approvals import verify_approval
from contracts.canonical import canonical
from contracts.manifest import Manifest, Release
from contracts.signing import SigningKey
from site_agent import approval_key as module
from site_agent.approval_key import public_half
from site_agent.approvals import approved_copy
from site_agent.files import write_private
from site_agent.signing_requests import DOMAIN, SigningRequest
from tests.attacks.hospital import Hospital, attacked_hospital
from tests.attacks.test_sweeps_at_the_hospital import ASKED, in_ledger, ratios, root
from tests.site_agent.test_signing_elsewhere import Officer

KNOWN = ("--confirm-members", "--accept", "unbounded")


@pytest.fixture
def officer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Officer:
    monkeypatch.setattr(module, "MEMORY_KIB", 1024)
    return Officer(tmp_path / "officer")


@pytest.fixture
def hospital(tmp_path: Path, officer: Officer) -> Iterator[Hospital]:
    """The agent's machine has the public half alone."""
    with attacked_hospital(tmp_path / "agent", approval_key=officer.public) as made:
        (made.state.folder / "approval.key").unlink()
        write_private(made.state.approval_file, public_half(officer.key).read_bytes())
        yield made


@pytest.fixture
def manifests(hospital: Hospital) -> list[Manifest]:
    return ratios(hospital, 12.5, 25.0, 50.0)


def exported(hospital: Hospital, manifests: list[Manifest], folder: Path) -> tuple[Path, str]:
    hospital.offer(*manifests, sweep=ASKED)
    request = folder / "request"
    status, said = hospital.types("approve", "--export", str(request))
    assert status == 0, said
    return request, said


def test_one_file_there_and_one_signature_back_approve_every_point(
    hospital: Hospital, officer: Officer, manifests: list[Manifest], tmp_path: Path
) -> None:
    request, reported = exported(hospital, manifests, tmp_path)
    exact = ("--yes", "--hash", root(manifests), *KNOWN)
    status, said = officer.signs(hospital, request, "--yes", "--hash", root(manifests))
    assert status == 1, "neither the members nor what is weak were said yes to"
    status, said = officer.signs(hospital, request, *exact)
    assert status == 0, said
    for words in ("12.5 %", "25 %", "50 %", "at most 1 of 3"):
        assert words in reported and words in said, words
    assert hospital.approved == [] and in_ledger(hospital) == []
    signed = request.with_name("request.signed")
    for _again in range(2):
        status, said = hospital.types("approve", "--import", str(signed), "--confirm-members")
        assert status == 0, said
    assert "Approved 3 runs by the one signature" in said
    assert sorted(set(hospital.approved)) == sorted(one.hash for one in manifests)
    assert sorted(in_ledger(hospital)) == ["run-0", "run-1", "run-2"]
    copies = [approved_copy(hospital.state, one.hash) for one in manifests]
    assert len({copy.signature for copy in copies}) == 1
    for one, copy in zip(manifests, copies, strict=True):
        verify_approval(one, "site-1", copy.given, "no")


def test_a_point_that_was_slipped_into_the_file_is_not_signed(
    hospital: Hospital, officer: Officer, manifests: list[Manifest], tmp_path: Path
) -> None:
    request, _ = exported(hospital, manifests, tmp_path)
    sound = msgspec.json.decode(request.read_bytes(), type=SigningRequest)
    other = canonical(ratios(hospital, 12.5, 25.0, 75.0, release=Release("export", 2))[2]).decode()
    asked = msgspec.structs.replace(sound.asked, others=(*sound.asked.others[:-1], other))
    for signature in (sound.signature, SigningKey.generate().sign(DOMAIN, asked)):
        request.write_bytes(msgspec.json.encode(SigningRequest(asked, signature)))
        status, said = officer.signs(hospital, request, "--yes", "--hash", root(manifests), *KNOWN)
        assert status == 1 and "[signing_request.altered]" in said, said
    assert not request.with_name("request.signed").exists()


def test_a_signature_for_a_sweep_that_has_changed_since_approves_nothing(
    hospital: Hospital, officer: Officer, manifests: list[Manifest], tmp_path: Path
) -> None:
    request, _ = exported(hospital, manifests, tmp_path)
    assert officer.signs(hospital, request, "--yes", "--hash", root(manifests), *KNOWN)[0] == 0
    signed = request.with_name("request.signed")
    hospital.offer(*ratios(hospital, 12.5, 25.0, 75.0), sweep=ASKED)
    status, said = hospital.types("approve", "--import", str(signed), "--confirm-members")
    assert status == 1 and "[approval.unknown]" in said, said
    assert hospital.approved == [] and in_ledger(hospital) == []


def test_what_the_signature_states_cannot_be_raised_on_its_way_back(
    hospital: Hospital, officer: Officer, manifests: list[Manifest], tmp_path: Path
) -> None:
    request, _ = exported(hospital, manifests, tmp_path)
    assert officer.signs(hospital, request, "--yes", "--hash", root(manifests), *KNOWN)[0] == 0
    signed = request.with_name("request.signed")
    reported = json.loads(signed.read_bytes())
    assert reported["stated"]["releases"] == 1
    signed.write_text(json.dumps({**reported, "stated": {**reported["stated"], "releases": 3}}))
    status, said = hospital.types("approve", "--import", str(signed), "--confirm-members")
    assert status == 1, said
    assert hospital.approved == [] and in_ledger(hospital) == []
