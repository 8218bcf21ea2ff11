"""An audit bundle shows what was accepted and that nothing was changed; each attack on it is caught."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import error_catalogue  # noqa: F401  (a refusal says its sentence, in whatever order tests run)
from contracts.canonical import canonical
from contracts.log import growth, merkle
from contracts.log.following import sign_checkpoint
from contracts.log.note import NoteKey
from contracts.log.note_writing import vkey_of
from contracts.receipts import ReceiptInput
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from tests.log.conftest import AT, ORIGIN, History, make_receipt, make_roster, rewrite
from tests.support.witness import cosign, witness_key
from transparency_log.bundle import verify_bundle
from transparency_log.entry import (
    APPRAISAL,
    APPROVAL,
    EARLIER,
    FORMAT,
    RECEIPT,
    ROSTER,
    encode_entry,
    parse_entry,
)
from transparency_log.report import BundleReport

Tell = Callable[[], History]


def lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def codes(report: BundleReport) -> set[str | None]:
    return {finding.code for finding in report.of("failed")}


def missing(report: BundleReport) -> set[str | None]:
    return {finding.code for finding in report.of("missing")}


def test_an_honest_complete_bundle_is_verified_and_says_what_that_means(
    history: History, tmp_path: Path
) -> None:
    path = history.write(tmp_path / "b.zip", earlier=(0, 1, 4))
    report = verify_bundle(path, log_key=history.note_key, seen=[history.checkpoint(6)])
    assert report.words("failed") == [] and report.verdict == "verified"
    assert report.every_entry and report.development and (report.entries, report.size) == (10, 10)
    reported = "\n".join(report.words("established"))
    for words in (
        "All 10 entries are in the log",
        "none was left out",
        "grew from its checkpoint at 4 entries",
        "grew from the checkpoint at 6 entries that you saw",
        "Acceptances reached again from the raw evidence, at their own time: 1.",
        "Refusals reached again from the raw evidence, with the same code: 1.",
        "Approvals signed by the sites' approval keys in the manifest: 3.",
        "Runs that every member had approved before they began: 1.",
        "Lists of contributors countersigned by every site on them: 2.",
        "Entries by or for keys of accepted evidence that stands before them: 2.",
        "Receipts with exactly the contributions that the sites countersigned: 2.",
        "Runs whose receipts form an unbroken chain: 1.",
        "Attachments that are what entries name by hash: 5.",
    ):
        assert words in reported, words
    doubts = "\n".join(report.words("not established"))
    assert "DEVELOPMENT ONLY" in doubts and "nonces were fresh" in doubts and "not judged: 1" in doubts
    assert set(report.verdicts().values()) == {"verified"} and report.missing_count == 0


def test_a_part_of_the_log_is_incomplete_and_says_what_is_not_here(history: History, tmp_path: Path) -> None:
    report = verify_bundle(history.write(tmp_path / "b.zip", indices=[3, 4, 8]), log_key=history.note_key)
    assert report.verdict == "incomplete" and not report.every_entry and report.words("failed") == []
    assert missing(report) == {"bundle.part", "bundle.no_approval", "bundle.no_entry"}
    reported = "\n".join(report.words("missing"))
    assert "7 of the log's 10 entries are not here" in reported
    assert "Entry 8: the approval of run-1 by site-b is not here." in reported
    assert "Entry 8: no countersigned list of contributors stands before it." in reported
    assert "the first receipts of run run-1 are not here." in reported


OLD = b'"version":1'


def of_another_format(history: History, *indices: int) -> None:
    """The same log, in which these entries are of an earlier format, as nobody reads it any more."""
    leaves, history.leaves, history.store = history.leaves, [], growth.MemoryStore()
    for index, leaf in enumerate(leaves):
        if index in indices:
            leaf = leaf.replace(b'"version":%d}' % EARLIER, OLD + b"}").replace(
                b'"body":{', b'"body":{"a":1,'
            )
            assert OLD in leaf
        growth.append(history.store, index, merkle.leaf_hash(leaf))
        history.leaves.append(leaf)


@pytest.mark.parametrize("indices", [[0], [3], [6, 7, 8, 9], range(10)], ids=str)
def test_entries_of_another_format_make_a_log_incomplete_and_never_verified_or_failed(
    tell: Tell, tmp_path: Path, indices: list[int]
) -> None:
    """It is no lie, and nobody knows what they say: an approval may be among them, or what contradicts."""
    history = tell()
    of_another_format(history, *indices)
    report = verify_bundle(history.write(tmp_path / "b.zip"), log_key=history.note_key)
    assert (report.verdict, report.words("failed"), report.every_entry) == ("incomplete", [], True)
    assert "bundle.other_format" in missing(report)
    reported = (
        f"{len(indices)} entries, the first at {indices[0]}, are of format 1, and this version reads format"
    )
    assert any(f"{reported} {FORMAT}:" in words for words in report.words("missing"))


def test_the_log_around_entries_of_another_format_is_still_checked(tell: Tell, tmp_path: Path) -> None:
    history = tell()
    of_another_format(history, *range(10))
    path = history.write(tmp_path / "b.zip")

    def edit(members: dict[str, bytes]) -> None:
        members["entries.jsonl"] = members["entries.jsonl"].replace(b'"a":1', b'"a":2', 1)

    report = verify_bundle(rewrite(path, edit), log_key=history.note_key)
    assert report.verdict == "failed" and codes(report) == {"log.not_included"}


def test_a_bundle_of_another_format_is_unusable_and_says_so(history: History, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["bundle.json"] = members["bundle.json"].replace(b"fedslice-bundle/1", b"fedslice-bundle/2")

    with pytest.raises(
        Refusal, match="its format is fedslice-bundle/2; this version reads fedslice-bundle/1"
    ):
        verify_bundle(rewrite(history.write(tmp_path / "b.zip"), change))


def test_without_a_key_from_elsewhere_the_bundle_is_incomplete(history: History, tmp_path: Path) -> None:
    """Anybody can sign a log of their own."""
    report = verify_bundle(history.write(tmp_path / "b.zip"))
    assert report.verdict == "incomplete" and missing(report) == {"bundle.log_key_unknown"}


def test_another_logs_bundle_is_refused(history: History, tell: Tell, tmp_path: Path) -> None:
    report = verify_bundle(history.write(tmp_path / "b.zip"), log_key=tell().note_key)
    assert report.verdict == "failed" and codes(report) == {"log.bad_checkpoint_signature"}


@pytest.mark.parametrize("indices", [None, [2, 3, 7, 8]], ids=["complete", "part"])
@pytest.mark.parametrize("attack", ["edited", "removed", "reordered", "repeated"])
def test_entries_edited_removed_reordered_or_repeated_are_caught(
    history: History, tmp_path: Path, indices: list[int] | None, attack: str
) -> None:
    path = history.write(tmp_path / "b.zip", indices=indices)

    def change(members: dict[str, bytes]) -> None:
        entries = lines(members["entries.jsonl"])
        match attack:
            case "edited":
                entries[1] = entries[1].replace(b'"at":18', b'"at":17')
            case "removed":
                del entries[1]
                places = lines(members["proofs.jsonl"])
                del places[-1]
                members["proofs.jsonl"] = b"".join(places)
            case "reordered":
                entries[1], entries[2] = entries[2], entries[1]
            case "repeated":
                entries.insert(1, entries[1])
                places = lines(members["proofs.jsonl"])
                members["proofs.jsonl"] = b"".join([*places[:2], *places[1:]])
        members["entries.jsonl"] = b"".join(entries)

    report = verify_bundle(rewrite(path, change), log_key=history.note_key)
    assert report.verdict == "failed" and not report.every_entry
    assert codes(report) & {"log.not_included", "receipt.chain_broken"}


def test_places_exchanged_together_with_their_entries_are_caught(history: History, tmp_path: Path) -> None:
    path = history.write(tmp_path / "b.zip", indices=[3, 7])

    def change(members: dict[str, bytes]) -> None:
        for name in ("entries.jsonl", "proofs.jsonl"):
            members[name] = b"".join(lines(members[name])[::-1])

    assert codes(verify_bundle(rewrite(path, change))) >= {"log.not_included"}


def test_a_silently_shortened_complete_bundle_is_caught(history: History, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        for name in ("entries.jsonl", "proofs.jsonl"):
            members[name] = b"".join(lines(members[name])[:-1])

    report = verify_bundle(rewrite(history.write(tmp_path / "b.zip"), change), log_key=history.note_key)
    assert report.verdict == "failed" and codes(report) == {"log.not_included"}


def test_a_truncated_tree_with_a_fresh_signature_is_caught_by_who_saw_more(
    history: History, tmp_path: Path
) -> None:
    seen = history.checkpoint()
    cut = History(key=history.key, things=history.things)
    for leaf in history.leaves[:-2]:
        growth.append(cut.store, len(cut.leaves), merkle.leaf_hash(leaf))
        cut.leaves.append(leaf)
    report = verify_bundle(cut.write(tmp_path / "b.zip"), log_key=history.note_key, seen=[seen])
    assert report.verdict == "failed" and codes(report) == {"log.went_back"}


def test_a_fork_with_a_fresh_signature_is_caught_by_who_saw_the_other_side(
    history: History, tmp_path: Path
) -> None:
    forked = History(key=history.key, things=history.things)
    for index, leaf in enumerate(history.leaves):
        if index == 9:
            entry = parse_entry(leaf)
            leaf = encode_entry(msgspec.structs.replace(entry, body={"measurement": "nothing happened"}))
        growth.append(forked.store, index, merkle.leaf_hash(leaf))
        forked.leaves.append(leaf)
    path = forked.write(tmp_path / "b.zip")
    assert verify_bundle(path, log_key=history.note_key, seen=[history.checkpoint(9)]).verdict == "verified"
    report = verify_bundle(path, log_key=history.note_key, seen=[history.checkpoint()])
    assert report.verdict == "failed" and codes(report) == {"log.not_consistent"}

    def include_the_other_side(members: dict[str, bytes]) -> None:
        note = sign_checkpoint(history.checkpoint(), history.key)
        members["earlier.jsonl"] = canonical({"checkpoint": note, "proof": []}) + b"\n"

    report = verify_bundle(rewrite(path, include_the_other_side), log_key=history.note_key)
    assert codes(report) == {"log.not_consistent"}


def test_a_part_cannot_show_growth_from_a_checkpoint_without_a_proof_and_says_so(
    history: History, tmp_path: Path
) -> None:
    path = history.write(tmp_path / "b.zip", indices=[3])
    report = verify_bundle(path, log_key=history.note_key, seen=[history.checkpoint(5)])
    assert report.verdict == "incomplete" and "bundle.no_proof" in missing(report)
    path = history.write(tmp_path / "b.zip", indices=[3], earlier=(5,))
    report = verify_bundle(path, log_key=history.note_key, seen=[history.checkpoint(5)])
    assert "The log grew from the checkpoint at 5 entries that you saw." in report.words("established")


def test_a_changed_attachment_is_caught_and_a_missing_one_is_said(history: History, tmp_path: Path) -> None:
    quote = parse_entry(history.leaves[3]).body["quote"]

    def change(members: dict[str, bytes]) -> None:
        data = bytearray(members[f"attachments/{quote}"])
        data[100] ^= 1
        members[f"attachments/{quote}"] = bytes(data)

    path = history.write(tmp_path / "b.zip")
    assert codes(verify_bundle(rewrite(path, change))) == {"bundle.attachment_changed"}
    del history.things[quote]
    report = verify_bundle(history.write(path), log_key=history.note_key)
    assert report.verdict == "incomplete"
    assert missing(report) == {"bundle.no_attachment", "bundle.no_evidence"}
    reported = "\n".join(report.words("missing"))
    assert f"Entry 3: the quote {quote} is not here." in reported
    assert "(entry 3) could not be judged again" in reported


def test_a_verdict_that_the_evidence_does_not_bear_out_is_caught(history: History, tmp_path: Path) -> None:
    """A coordinator that logs "accepted" for evidence that its own policy refuses."""
    refused = parse_entry(history.leaves[4]).body
    accepted = parse_entry(history.leaves[3]).body["appraisal"]
    history.append(APPRAISAL, refused | {"appraisal": accepted})
    report = verify_bundle(history.write(tmp_path / "b.zip"), log_key=history.note_key)
    assert report.verdict == "failed"
    assert [(finding.entry, finding.code) for finding in report.findings if finding.outcome == "failed"] == [
        (10, "attest.measurement")
    ]


def test_a_receipt_by_a_key_that_nobody_attested_is_caught(history: History, tmp_path: Path) -> None:
    assert history.manifest is not None
    body = make_roster(history.manifest, 3, history.last)
    history.append(ROSTER, body)
    stranger = SigningKey.generate()
    history.append(RECEIPT, make_receipt(history.manifest, body.roster, history.last, stranger, restarts=1))
    report = verify_bundle(history.write(tmp_path / "b.zip"), log_key=history.note_key)
    assert [(finding.entry, finding.code) for finding in report.findings if finding.outcome == "failed"] == [
        (11, "bundle.not_attested")
    ]


@pytest.mark.parametrize(
    "change",
    [{"inputs": (ReceiptInput("site-a", "7" * 64, 1000, 50),)}, {"round": 4}],
    ids=["inputs", "round"],
)
def test_a_receipt_that_does_not_keep_to_its_roster_is_caught(
    history: History, tmp_path: Path, change: dict[str, object]
) -> None:
    """Changed after the sites had countersigned; the signature itself is the enclave's."""
    assert history.manifest is not None
    body = make_roster(history.manifest, 3, history.last)
    history.append(ROSTER, body)
    signed = make_receipt(history.manifest, body.roster, history.last, history.enclave, **change)
    history.append(RECEIPT, signed)
    report = verify_bundle(history.write(tmp_path / "b.zip"), log_key=history.note_key)
    assert "Entry 11: it does not keep to its roster." in report.words("failed")


def test_a_server_that_was_rolled_back_and_aggregated_again_is_caught(
    history: History, tmp_path: Path
) -> None:
    assert history.manifest is not None
    again = make_roster(history.manifest, 2, parse_entry(history.leaves[7]).body["roster"]["previous"])
    history.append(
        RECEIPT,
        make_receipt(history.manifest, again.roster, again.roster.previous, history.enclave, issued=AT + 9),
    )
    report = verify_bundle(history.write(tmp_path / "b.zip"), log_key=history.note_key)
    assert codes(report) == {"receipt.chain_broken", "bundle.two_receipts"}


def test_an_approval_that_the_site_did_not_sign_is_caught(history: History, tmp_path: Path) -> None:
    body = parse_entry(history.leaves[0]).body
    history.append(APPROVAL, body | {"site": "site-b"})
    report = verify_bundle(history.write(tmp_path / "b.zip"))
    assert codes(report) == {"sealing.bad_signature"}


def test_a_roster_with_a_countersignature_for_another_is_caught(history: History, tmp_path: Path) -> None:
    assert history.manifest is not None
    body, other = (
        make_roster(history.manifest, 3, history.last),
        make_roster(history.manifest, 4, history.last),
    )
    history.append(ROSTER, msgspec.structs.replace(body, countersignatures=other.countersignatures))
    report = verify_bundle(history.write(tmp_path / "b.zip"))
    assert codes(report) == {"roster.bad_countersignature"}


def test_a_witness_that_cosigned_is_named_and_an_absent_one_too(history: History, tmp_path: Path) -> None:
    witness, absent = SigningKey.generate(), SigningKey.generate()

    def change(members: dict[str, bytes]) -> None:
        members["checkpoint"] = cosign(
            members["checkpoint"],
            log=history.note_key,
            seen=None,
            proof=(),
            name="witness.example/w",
            signer=witness,
            at=AT,
        ).encode()

    keys = [witness_key("witness.example/w", witness.public), witness_key("witness.example/v", absent.public)]
    path = rewrite(history.write(tmp_path / "b.zip"), change)
    assert verify_bundle(path, log_key=history.note_key, witnesses=keys[:1]).verdict == "verified"
    report = verify_bundle(path, log_key=history.note_key, witnesses=keys)
    assert report.verdict == "incomplete" and missing(report) == {"bundle.no_cosignature"}
    assert f"Witness witness.example/w cosigned the checkpoint at Unix time {AT}." in report.words(
        "established"
    )
    assert "Witness witness.example/v has not cosigned this checkpoint." in report.words("missing")


def unusable(path: Path, code: str = "bundle.unusable") -> str:
    with pytest.raises(Refusal) as refusal:
        verify_bundle(path)
    assert refusal.value.code == code
    return str(refusal.value)


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/etc/passwd", "attachments/../../x", "attachments/" + "A" * 64, "x.txt", "attachments/",
        "bundle/bundle.json", ".DS_Store", "__MACOSX/._checkpoint", "inner.zip", "\u202egnp.zip", "b\x1b[2J",
    ],
)  # fmt: skip
def test_members_with_foreign_names_are_refused_and_named(
    history: History, tmp_path: Path, name: str
) -> None:
    path = history.write(tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as bundle:
        bundle.writestr(name, b"x")
    reported = unusable(path)
    assert f"its member {name!a} " in reported and reported.isprintable()


def test_an_encrypted_member_is_refused_and_named(history: History, tmp_path: Path) -> None:
    path = history.write(tmp_path / "b.zip")
    raw = bytearray(path.read_bytes())
    where = raw.rindex(b"PK\x01\x02")
    raw[where + 8] |= 1
    path.write_bytes(raw)
    assert "is encrypted" in unusable(path)


def test_a_symbolic_link_is_refused(history: History, tmp_path: Path) -> None:
    path = history.write(tmp_path / "b.zip")
    link = zipfile.ZipInfo("attachments/" + "0" * 64)
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "a") as bundle:
        bundle.writestr(link, b"/etc/passwd")
    unusable(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(history: History, tmp_path: Path) -> None:
    path = history.write(tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as bundle:
        bundle.writestr("checkpoint", b"x")
    assert "its member 'checkpoint' stands there twice" in unusable(path)


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle,
        bundle.open("bundle.json", "w") as member,
    ):
        for _ in range(64):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    unusable(path, "bundle.too_large")


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("bundle.json", bytes(32 << 20))
    raw = path.read_bytes()
    path.write_bytes(raw.replace((32 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    unusable(path)


@pytest.mark.parametrize(
    "name", ["bundle.json", "checkpoint", "entries.jsonl", "proofs.jsonl", "earlier.jsonl"]
)
def test_a_bundle_with_a_part_missing_is_refused(history: History, tmp_path: Path, name: str) -> None:
    path = rewrite(history.write(tmp_path / "b.zip"), lambda members: members.pop(name) and None)
    if name == "checkpoint":
        assert verify_bundle(path).verdict == "failed"
    else:
        unusable(path)


@pytest.mark.parametrize("cut", [0, 10, 500, -1, -30])
def test_a_cut_file_is_refused(history: History, tmp_path: Path, cut: int) -> None:
    path = history.write(tmp_path / "b.zip")
    path.write_bytes(path.read_bytes()[:cut])
    unusable(path)


def test_the_same_log_gives_the_same_bytes(history: History, tmp_path: Path) -> None:
    first, second = history.write(tmp_path / "1.zip"), history.write(tmp_path / "2.zip")
    assert first.read_bytes() == second.read_bytes()


def test_bundle_json_warns_of_the_ppid(history: History, tmp_path: Path) -> None:
    with zipfile.ZipFile(history.write(tmp_path / "b.zip")) as bundle:
        assert "PPID" in json.loads(bundle.read("bundle.json"))["notice"]


def test_the_log_key_in_the_bundle_is_a_vkey_of_the_origin(history: History) -> None:
    assert history.note_key == NoteKey(ORIGIN, history.key.public)
    assert vkey_of(history.note_key).startswith(f"{ORIGIN}+")
