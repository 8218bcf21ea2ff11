"""The officer's key lies on a machine without network: a file goes there, a signature comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from contracts.canonical import canonical
from contracts.manifest import Manifest, Release
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from contracts.releases import ReleaseApproval, verify_release_approval
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey
from site_agent import approval_key as module
from site_agent.approval_key import create_sealed, public_half
from site_agent.files import write_private
from site_agent.ledger.book import Budget
from site_agent.members import confirm
from site_agent.receipts import ReceiptBook
from site_agent.signing_requests import DOMAIN, SigningRequest
from site_agent.state import State
from tests.attacks.hospital import Hospital, attacked_hospital
from tests.attacks.test_many_runs import with_a_third
from tests.site_agent.conftest import Reply
from tests.site_agent.conftest import Request as Asked
from tests.site_agent.factories import make_receipt

SECRET = "six random words are enough"


class Officer:
    """Their machine: a sealed key and a passphrase file; no network, no enrolment."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.key, self.passphrase = folder, folder / "approval.key", folder / "passphrase"
        self.public = create_sealed(self.key, SECRET).public
        write_private(self.passphrase, SECRET.encode())

    def signs(self, hospital: Hospital, request: Path, *options: str) -> tuple[int, str]:
        at = Hospital(State.open(self.folder / "state"), hospital.dataset, hospital.server)
        how = ("--approval-key", str(self.key), "--passphrase-file", str(self.passphrase))
        return at.types("approve", "--sign", str(request), *how, *options)


@pytest.fixture
def officer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Officer:
    monkeypatch.setattr(module, "MEMORY_KIB", 1024)
    return Officer(tmp_path / "officer")


@pytest.fixture
def hospital(tmp_path: Path, officer: Officer) -> Iterator[Hospital]:
    """The agent's machine has the public half, and no key that could approve."""
    with attacked_hospital(tmp_path / "agent", approval_key=officer.public) as made:
        (made.state.folder / "approval.key").unlink()
        write_private(made.state.approval_file, public_half(officer.key).read_bytes())
        yield made


def exported(hospital: Hospital, manifest: Manifest, folder: Path) -> tuple[Path, str]:
    hospital.offer(manifest)
    request = folder / "request"
    status, said = hospital.types("approve", "--export", str(request))
    assert status == 0, said
    return request, said


def runs_in_ledger(hospital: Hospital) -> list[str]:
    (account,) = json.loads(hospital.types("budget", "--json")[1])
    return [run["run"] for run in account["runs"]]


def test_both_machines_say_the_same_and_only_the_officers_signs(
    hospital: Hospital, officer: Officer, tmp_path: Path
) -> None:
    manifest = hospital.manifest()
    confirm(hospital.state, manifest.sites)
    request, reported = exported(hospital, manifest, tmp_path)
    status, said = hospital.approves(manifest)
    assert status == 1 and "[approval_key.public_only]" in said, "the key is not on this machine at all"
    assert hospital.approved == []
    exact = ("--yes", "--accept", "unbounded", "--hash", manifest.hash)
    status, said = officer.signs(hospital, request, *exact)
    assert status == 1 and "[members.too_few]" in said, "their own book counts, not the agent's"
    status, said = officer.signs(hospital, request, *exact, "--confirm-members")
    assert status == 0, said
    status, said = officer.signs(hospital, request, *exact)
    assert status == 0, said
    assert reported[: reported.index("Written to")].rstrip() in said, "word for word what the agent has shown"
    assert manifest.hash in said and "Whose code it is" in said

    signed = request.with_name("request.signed")
    status, said = hospital.types("approve", "--import", str(signed))
    assert status == 0, said
    assert hospital.approved == [manifest.hash]


def test_a_file_that_was_changed_on_its_way_is_not_signed(
    hospital: Hospital, officer: Officer, tmp_path: Path
) -> None:
    manifest = hospital.manifest()
    request, _ = exported(hospital, manifest, tmp_path)
    sound = msgspec.json.decode(request.read_bytes(), type=SigningRequest)
    other = hospital.manifest(run="run-9", purpose="Something else")
    swapped = msgspec.structs.replace(sound.asked, manifest=canonical(other).decode())
    stranger = SigningKey.generate()
    renamed = msgspec.structs.replace(
        sound.asked, dataset=msgspec.structs.replace(sound.asked.dataset, name="harmless")
    )
    for asked, signature, code in (
        (swapped, sound.signature, "signing_request.altered"),
        (swapped, stranger.sign(DOMAIN, swapped), "signing_request.altered"),
        (renamed, sound.signature, "signing_request.altered"),
    ):
        request.write_bytes(msgspec.json.encode(SigningRequest(asked, signature)))
        status, said = officer.signs(hospital, request, "--yes", "--hash", other.hash, "--confirm-members")
        assert status == 1 and f"[{code}]" in said, said
    request.write_bytes(b'{"asked": 1}')
    assert "[signing_request.malformed]" in officer.signs(hospital, request)[1]
    assert not request.with_name("request.signed").exists()


def test_what_comes_back_is_judged_again(hospital: Hospital, officer: Officer, tmp_path: Path) -> None:
    manifest = hospital.manifest()
    request, _ = exported(hospital, manifest, tmp_path)
    exact = ("--yes", "--accept", "unbounded", "--hash", manifest.hash, "--confirm-members")
    assert officer.signs(hospital, request, *exact)[0] == 0
    signed = request.with_name("request.signed")
    sound = json.loads(signed.read_bytes())
    other = hospital.manifest(run="run-9")
    hospital.offer(other)
    status, said = hospital.types("approve", "--import", str(signed), "--confirm-members")
    assert status == 1 and "[approval.unknown]" in said, said
    signed.write_text(json.dumps({**sound, "manifest": other.hash}))
    status, said = hospital.types("approve", "--import", str(signed), "--confirm-members")
    assert status == 1 and "[sealing.bad_signature]" in said, said
    assert hospital.approved == []


def test_an_import_counts_in_the_ledger_before_the_approval_leaves_and_once(
    hospital: Hospital, officer: Officer, tmp_path: Path
) -> None:
    manifest = hospital.manifest()
    request, reported = exported(hospital, manifest, tmp_path)
    assert "unbounded    0 runs without noise → 1 with this one" in reported
    exact = ("--yes", "--hash", manifest.hash, "--confirm-members")
    status, said = officer.signs(hospital, request, *exact)
    assert status == 1 and "[approval.weak]" in said and "unbounded" in said, said
    assert officer.signs(hospital, request, *exact, "--accept", "unbounded")[0] == 0
    signed = request.with_name("request.signed")
    whole, counted = hospital.server.answer, []

    def answer(request: Asked) -> Reply:
        if request.method == "POST" and request.path == "approvals":
            counted.append(manifest.hash in (hospital.state.folder / "ledger.json").read_text())
        return whole(request)

    hospital.server.answer = answer
    for _ in range(2):
        status, said = hospital.types("approve", "--import", str(signed), "--confirm-members")
        assert status == 0, said
    assert counted == [True, True]
    assert runs_in_ledger(hospital) == [manifest.run]
    assert hospital.approved == [manifest.hash]


def test_an_import_is_no_way_around_a_budget_that_is_spent(
    hospital: Hospital, officer: Officer, tmp_path: Path
) -> None:
    manifest = hospital.manifest()
    request, _ = exported(hospital, manifest, tmp_path)
    exact = ("--yes", "--hash", manifest.hash, "--confirm-members", "--accept", "unbounded")
    assert officer.signs(hospital, request, *exact)[0] == 0
    signed = request.with_name("request.signed")
    brought = ("approve", "--import", str(signed), "--confirm-members")
    assert hospital.types("budget", "set", "notes", "--unbounded", "0")[0] == 0
    status, said = hospital.types(*brought)
    assert status == 1 and "[ledger.over_budget]" in said, said
    status, said = hospital.types("approve", "--export", str(tmp_path / "second"))
    assert status == 1 and "[ledger.over_budget]" in said and not (tmp_path / "second").exists(), said
    ledger = hospital.state.folder / "ledger.json"
    sound = ledger.read_bytes()
    ledger.write_bytes(sound.replace(b'"unbounded":0', b'"unbounded":9'))
    status, said = hospital.types(*brought)
    assert status == 1 and "[ledger.damaged]" in said, said
    ledger.write_bytes(sound)
    assert runs_in_ledger(hospital) == [] and hospital.approved == []


def test_the_officers_machine_signs_nothing_over_budget_or_without_the_ledgers_word(
    hospital: Hospital, officer: Officer, tmp_path: Path
) -> None:
    manifest = hospital.manifest()
    request, _ = exported(hospital, manifest, tmp_path)
    asked = msgspec.json.decode(request.read_bytes(), type=SigningRequest).asked
    assert asked.outlook is not None
    spent = msgspec.structs.replace(asked.outlook, budget=Budget(unbounded=0))
    exact = ("--yes", "--hash", manifest.hash, "--confirm-members", "--accept", "unbounded")
    for outlook, code in ((spent, "ledger.over_budget"), (None, "signing_request.altered")):
        changed = msgspec.structs.replace(asked, outlook=outlook)
        request.write_bytes(
            msgspec.json.encode(SigningRequest(changed, hospital.state.key.sign(DOMAIN, changed)))
        )
        status, said = officer.signs(hospital, request, *exact)
        assert status == 1 and f"[{code}]" in said, said
    assert not request.with_name("request.signed").exists()


def test_two_runs_that_differ_by_one_hospital_need_the_officers_yes(
    hospital: Hospital, officer: Officer, tmp_path: Path
) -> None:
    """Both are exported before either is approved: the second is judged again when it comes back."""
    first, second = hospital.manifest(run="run-1"), with_a_third(hospital.manifest(run="run-2"))
    files = {}
    for manifest in (first, second):
        request, _ = exported(hospital, manifest, tmp_path)
        files[manifest.run] = request.rename(tmp_path / manifest.run)
        exact = ("--yes", "--hash", manifest.hash, "--confirm-members", "--accept", "unbounded")
        assert officer.signs(hospital, files[manifest.run], *exact)[0] == 0

    def brought(manifest: Manifest) -> tuple[int, str]:
        hospital.offer(manifest)
        signed = tmp_path / f"{manifest.run}.signed"
        return hospital.types("approve", "--import", str(signed), "--confirm-members")

    assert brought(first)[0] == 0
    status, said = brought(second)
    assert status == 1 and "[approval.weak]" in said and "differs-by-one-hospital" in said, said
    signed = tmp_path / "run-2.signed"
    reported = json.loads(signed.read_bytes())
    signed.write_text(json.dumps({**reported, "accepted": ["unbounded", "differs-by-one-hospital"]}))
    status, said = brought(second)
    assert status == 1 and "[sealing.bad_signature]" in said, "who carries the file accepts nothing"
    assert hospital.approved == [first.hash]

    request, shown = exported(hospital, second, tmp_path)
    assert "by one hospital, St. Clara" in shown
    exact = ("--yes", "--hash", second.hash, "--confirm-members", "--accept", "unbounded")
    status, said = officer.signs(hospital, request, *exact)
    assert status == 1 and "[approval.weak]" in said, said
    status, said = officer.signs(hospital, request, *exact, "--accept", "differs-by-one-hospital")
    assert status == 0 and "by one hospital, St. Clara" in said, said
    request.with_name("request.signed").replace(signed)
    assert brought(second)[0] == 0
    assert runs_in_ledger(hospital) == ["run-1", "run-2"]


def test_a_release_is_ordered_from_there_too(
    hospital: Hospital, officer: Officer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whose receipts count is shown in tests/attacks/test_forged_receipts.py; here it is the officer's part.
    monkeypatch.setattr(ReceiptBook, "require_latest", lambda _book, given, **_: parse_receipt(given))
    manifest = hospital.manifest(release=Release("sealed-to-sites", 2))
    request, _ = exported(hospital, manifest, tmp_path)
    assert (
        officer.signs(
            hospital, request, "--yes", "--accept", "unbounded", "--hash", manifest.hash, "--confirm-members"
        )[0]
        == 0
    )
    signed = request.with_name("request.signed")
    assert hospital.types("approve", "--import", str(signed), "--confirm-members")[0] == 0

    receipt = make_receipt(manifest, manifest.training.rounds + 1)
    fingerprint = receipt_hash(receipt.receipt)
    asked = {
        "run": manifest.run, "study": "Triage", "manifest_hash": manifest.hash, "state": "waiting",
        "rule": manifest.release.rule,
        "receipt": msgspec.to_builtins(receipt), "found": 0, "needed": 2, "signed": False, "kept": False,
        "statement": None, "evidence": None,
    }  # fmt: skip
    rest = hospital.server.answer

    def answer(request: Asked) -> Reply:
        if request.method == "GET" and request.path in ("approvals", "releases"):
            return Reply(body=[asked] if request.path == "releases" else [])
        return rest(request)

    hospital.server.answer = answer
    status, reported = hospital.types("approve", "--export", str(request))
    assert status == 0, reported
    status, said = officer.signs(hospital, request, "--yes", "--hash", fingerprint)
    assert status == 0 and reported[: reported.index("Written to")].rstrip() in said, said
    status, said = hospital.types("approve", "--import", str(signed))
    assert status == 0, said
    order = hospital.server.requests[-1].json
    assert (order["run"], order["receipt"]) == (manifest.run, fingerprint)
    given = msgspec.convert(order["approval"], ReleaseApproval)
    verify_release_approval(manifest, fingerprint, "site-1", given)
    spoilt = json.loads(signed.read_bytes())
    spoilt["release_approval"]["hpke_key"] = HpkeKey.generate().public
    signed.write_text(json.dumps(spoilt))
    assert "[release.bad_approval]" in hospital.types("approve", "--import", str(signed))[1]
