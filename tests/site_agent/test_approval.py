"""Approval at the hospital: what was changed on its way, or is not this site's, is never signed."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attestation.measurement import measure
from contracts.approvals import approval_payload
from contracts.canonical import canonical
from contracts.manifest import (
    APPROVAL_DOMAIN,
    Aggregation,
    DatasetRef,
    Manifest,
    Masking,
    Privacy,
    Site,
    Spf,
    Split,
)
from contracts.refusal import Refusal
from contracts.signing import SigningKey, verify
from privacy_accounting.epsilon import epsilon, planned
from site_agent import cli
from site_agent.approval_key import ApprovalKey
from site_agent.approvals import WaitingManifest, approve, approved_hashes, approved_manifest, judge
from site_agent.datasets.catalogue import Catalogue, Dataset
from site_agent.manifest_text import describe
from site_agent.members import confirm
from site_agent.state import State
from tests.site_agent.conftest import SITE, Line, Reply, Request, Server
from tests.site_agent.coordinator_log import Log
from tests.site_agent.factories import add_dataset, make_manifest


def logged(state: State, server: Server, manifest: Manifest) -> Log:
    """A coordinator whose log holds the manifest; its members are confirmed here."""
    confirm(state, manifest.sites)
    log = Log()
    log.freeze(manifest)
    rest = server.answer
    server.answer = lambda asked: log(asked) if asked.path.startswith("log/") else rest(asked)
    return log


def key_of(state: State) -> ApprovalKey:
    return ApprovalKey(state.approval_file)


def offer(manifest: Manifest, **changes: Any) -> WaitingManifest:
    fields = {"study": "Triage", "hash": manifest.hash, "text": canonical(manifest).decode(), "signed": False}
    return WaitingManifest(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def dataset(state: State, tmp_path: Path) -> Dataset:
    return add_dataset(state, tmp_path)


def own_site(state: State, dataset: Dataset, /, **changes: Any) -> Site:
    ref = DatasetRef(dataset.id, dataset.digest, dataset.card.rows)
    fields: dict[str, Any] = {
        "id": SITE,
        "name": "St. Anna",
        "public_key": state.key.public,
        "approval_key": state.config.approval_key,
        "dataset": ref,
    }
    return Site(**{**fields, **changes})


def test_a_sound_manifest_is_signed_kept_and_posted(
    state: State, dataset: Dataset, line: Line, server: Server
) -> None:
    manifest = make_manifest(state, dataset)
    logged(state, server, manifest)
    approved = approve(state, line.coordinator, offer(manifest), key_of(state), ["unbounded"])
    posted = server.requests[-1]
    assert (posted.method, posted.path) == ("POST", "approvals")
    assert posted.json == {
        "manifest_hash": manifest.hash,
        "confirmed": ["site-1", "site-2"],
        "signature": approved.signature,
    }
    payload = approval_payload(manifest.hash, SITE, ["site-1", "site-2"])
    verify(state.config.approval_key, APPROVAL_DOMAIN, payload, approved.signature)
    assert approved_manifest(state, manifest.hash) == manifest
    assert approved_hashes(state) == [manifest.hash]


def altered(manifest: Manifest) -> dict[str, str]:
    """Ways in which a coordinator could change what is signed, with the code that each ends in."""
    text = canonical(manifest).decode()
    return {
        text.replace('"rounds":3', '"rounds":9'): "approval.altered",
        text.replace('"rule":"nothing"', '"rule":"export"'): "approval.altered",
        text.replace('"rounds":3', '"rounds": 3'): "manifest.not_canonical",
        text.replace('"rounds":3', '"rounds":9,"rounds":3'): "manifest.not_canonical",
        text[:-1] + ',"zzz":1}': "manifest.invalid",
        text.replace('"quorum":2', '"quorum":3'): "manifest.invalid",
        text + " ": "manifest.not_canonical",
        "{}": "manifest.invalid",
        "": "manifest.invalid",
    }


def test_an_altered_manifest_is_refused(state: State, dataset: Dataset, line: Line, server: Server) -> None:
    manifest = make_manifest(state, dataset)
    for text, code in altered(manifest).items():
        with pytest.raises(Refusal) as caught:
            approve(state, line.coordinator, offer(manifest, text=text), key_of(state))
        assert caught.value.code == code
    assert server.requests == []
    assert approved_hashes(state) == []


def test_what_is_not_this_sites_is_refused(state: State, dataset: Dataset) -> None:
    other = make_manifest(state, dataset).sites[1]
    stranger = SigningKey.generate().public
    short = DatasetRef(dataset.id, dataset.digest, dataset.card.rows - 1)
    forged = DatasetRef(dataset.id, "0" * 64, dataset.card.rows)
    otherwise = msgspec.structs.replace(short, rows=dataset.card.rows, kind="pair-label")
    elsewhere = DatasetRef("ds-9", dataset.digest, dataset.card.rows)
    cases: dict[str, dict[str, Any]] = {
        "manifest.unknown_site": {"sites": (other,), "aggregation": None, "release": None},
        "approval.key_mismatch": {"sites": (own_site(state, dataset, public_key=stranger), other)},
        "approval.key_mismatch ": {"sites": (own_site(state, dataset, approval_key=stranger), other)},
        "approval.no_dataset": {"sites": (own_site(state, dataset, dataset=elsewhere), other)},
        "approval.dataset_mismatch": {"sites": (own_site(state, dataset, dataset=forged), other)},
    }
    base = make_manifest(state, dataset)
    one = {
        "aggregation": msgspec.structs.replace(base.aggregation, quorum=1),
        "release": msgspec.structs.replace(base.release, approvals=1),
    }
    for code, changes in cases.items():
        changes = {name: one[name] if value is None else value for name, value in changes.items()}
        with pytest.raises(Refusal) as caught:
            judge(state, offer(make_manifest(state, dataset, **changes)))
        assert caught.value.code == code.strip()
    for wrong in (short, otherwise):
        alike = msgspec.structs.replace(other.dataset, kind=wrong.kind)  # or the manifest itself is invalid
        sites = (own_site(state, dataset, dataset=wrong), msgspec.structs.replace(other, dataset=alike))
        with pytest.raises(Refusal) as caught:
            judge(state, offer(make_manifest(state, dataset, sites=sites)))
        assert caught.value.code == "approval.dataset_mismatch"


def test_a_dataset_that_changed_on_the_disk_is_noticed(state: State, dataset: Dataset) -> None:
    manifest = make_manifest(state, dataset)
    judge(state, offer(manifest))
    path = Catalogue(state).path(dataset)
    path.write_bytes(path.read_bytes().replace(b"note 1 ", b"note 2 ", 1))
    with pytest.raises(Refusal) as caught:
        judge(state, offer(manifest))
    assert caught.value.code == "dataset.changed"


def test_another_runtime_than_the_agents_is_refused(state: State, dataset: Dataset) -> None:
    manifest = make_manifest(state, dataset)
    state.save(msgspec.structs.replace(state.config, runtime="sgx"))
    with pytest.raises(Refusal) as caught:
        judge(state, offer(manifest))
    assert caught.value.code == "approval.other_runtime"


def test_two_manifests_of_one_run_are_not_both_approved(
    state: State, dataset: Dataset, line: Line, server: Server
) -> None:
    """Whoever asks for a run's model or its release by the run's id would get what the coordinator likes."""
    first = make_manifest(state, dataset)
    logged(state, server, first)
    for _ in range(2):
        approve(state, line.coordinator, offer(first), key_of(state), ["unbounded"])
    twin = make_manifest(state, dataset, study="Triage, better")
    with pytest.raises(Refusal) as caught:
        judge(state, offer(twin))
    assert caught.value.code == "approval.run_taken"
    judge(state, offer(make_manifest(state, dataset, study="Triage, better", run="run-2")))


def test_only_what_was_signed_here_counts_as_approved(
    state: State, dataset: Dataset, line: Line, server: Server, tmp_path: Path
) -> None:
    manifest = make_manifest(state, dataset)
    logged(state, server, manifest)
    approve(state, line.coordinator, offer(manifest), key_of(state), ["unbounded"])
    stranger = State.open(tmp_path / "stranger")
    stranger.save(msgspec.structs.replace(state.config, approval_key=SigningKey.generate().public))
    copy = stranger.approved / f"{manifest.hash}.json"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((state.approved / f"{manifest.hash}.json").read_bytes())
    with pytest.raises(Refusal) as caught:
        approved_manifest(stranger, manifest.hash)
    assert caught.value.code == "agent.state_damaged"
    for unknown in ("f" * 64, "../../config", "", manifest.hash.upper()):
        with pytest.raises(Refusal) as caught:
            approved_manifest(state, unknown)
        assert caught.value.code == "run.not_approved_here"


def test_all_that_decides_is_shown(state: State, dataset: Dataset) -> None:
    manifest = make_manifest(state, dataset)
    text = describe(manifest, dataset, SITE)
    wanted = [
        manifest.hash,
        manifest.run,
        manifest.study,
        "without reading them",
        "embedded:all-MiniLM-L6-v2",
        "LoRA rank and alpha: 8",
        "query, value",
        "Rounds: 3",
        "Batch size: 16",
        "0.001",
        "Seed: 7",
        '"notes" (40 rows',
        "green, red",
        f"Name: St. Anna ({SITE}), one of 2",
        "St. Barbara: ",
        "Never: rows",
        "DEVELOPMENT ONLY",
        measure("aggregator"),
        measure("client_slice"),
        manifest.policy.root_sha256,
        "A round needs: 2 of 2 hospitals",
        "10 min",
        "nothing: the result stays sealed",
        "UpToDate",
        "c" * 64,
        "2023-11-14 22:13 UTC",
        "Witnesses: none",
    ]
    assert [piece for piece in wanted if piece not in text] == []


def test_who_approves_reads_how_updates_are_averaged_and_what_epsilon_means(
    state: State, dataset: Dataset
) -> None:
    # How 40 rows fall into splits is drawn with the site's key, and small counts are not on the card.
    card = msgspec.structs.replace(dataset.card, splits={"train": 30, "test": 10})
    dataset = msgspec.structs.replace(dataset, card=card)

    def text(**rules: Any) -> str:
        aggregation = Aggregation("fedavg", 2, 600, **rules)
        return describe(make_manifest(state, dataset, aggregation=aggregation), dataset, SITE)

    assert "Noise: none" in text()
    bounded = text(clip=1.5, max_samples=500)
    assert "is clipped to (L2 norm): 1.5" in bounded
    assert "counts for at most (rows): 500" in bounded
    site = text(clip=1.5, privacy=Privacy("site", 2.0, 1e-5))
    training = make_manifest(state, dataset).training
    spent = epsilon(planned(Privacy("site", 2.0, 1e-5), training, 1), 1e-5)
    assert f"Epsilon after the last round, at most: {spent:.3g}" in site and "at delta 1e-05" in site
    record = text(privacy=Privacy("record", 2.0, 1e-5, gradient_clip=0.7))
    spent = epsilon(planned(Privacy("record", 2.0, 1e-5, 0.7), training, 30), 1e-5)
    assert f"at most: {spent:.3g}" in record
    assert "clipped to 0.7" in record
    assert "a patient with several rows is hidden less" in " ".join(record.split())


def test_who_approves_a_split_run_reads_that_features_leave_and_what_the_server_tunes(
    state: State, dataset: Dataset
) -> None:
    changes = {"method": "method-2", "adapter": Spf(25.0, 12.5), "split": Split(2)}
    text = describe(make_manifest(state, dataset, **changes), dataset, SITE)
    assert "the features of its rows (what the base model makes of them up to layer 2)" in text
    assert "In every round: nothing of its rows" in text and "sealed to the attested aggregator" not in text
    assert "Tuned attention heads: 25 %" in text and "Tuned dense rows: 12.5 %" in text
    assert "Method 2: split, in the server's enclave" in text and "stay at the hospital: 2" in text
    assert "each is drawn from the features of all hospitals" in text and "Averaging" not in text


def test_who_approves_reads_the_course_of_the_run_and_what_a_masked_one_keeps_on_the_disk(
    state: State, dataset: Dataset
) -> None:
    plain = make_manifest(state, dataset)
    training = msgspec.structs.replace(plain.training, schedule="cosine", warmup=0.1)
    text = describe(msgspec.structs.replace(plain, training=training), dataset, SITE)
    assert "0.001, falling in a cosine to 0, after a warm-up over 10 % of the steps" in text
    assert "Placement: all in the enclave" in text and "Runtime: development" in text
    masking = Masking(repetitions=3, vault_bytes=5 << 30)
    masked = describe(make_manifest(state, dataset, placement="masked", masking=masking), dataset, SITE)
    assert "disk, at most: 5.0 GiB" in masked and "product of the accelerator: 3" in masked
    split = msgspec.structs.replace(plain.training, patience=4)
    changes = {"method": "method-2", "adapter": Spf(25.0, 25.0), "split": Split(1, "per-site")}
    early = describe(make_manifest(state, dataset, training=split, **changes), dataset, SITE)
    assert "4 rounds without a lower loss" in early and "one tail for each hospital" in early


def test_plaintext_is_for_what_the_site_itself_has_declared_public(state: State, tmp_path: Path) -> None:
    def judged(public: bool, name: str) -> str:
        dataset = add_dataset(state, tmp_path, name, f"ds-{name}", public=public)
        other = make_manifest(state, dataset).sites[1]
        own = DatasetRef(dataset.id, dataset.digest, dataset.card.rows, public=True)
        theirs = DatasetRef("ds-2", "d" * 64, 50, public=True)
        sites = (own_site(state, dataset, dataset=own), msgspec.structs.replace(other, dataset=theirs))
        manifest = make_manifest(state, dataset, placement="plaintext", sites=sites)
        return describe(*judge(state, offer(manifest)), SITE)

    shown = judged(True, "open")
    assert shown.startswith("PLAINTEXT: a baseline")
    assert "UNPROTECTED, for the coordinator" in shown and "sealed to the attested" not in shown
    with pytest.raises(Refusal) as caught:
        judged(False, "closed")
    assert caught.value.code == "approval.not_public"


def test_a_lead_cannot_repaint_the_screen(state: State, dataset: Dataset) -> None:
    study = "Triage\x1b[2J\x1b[H\u202eevil\u200b"
    text = describe(make_manifest(state, dataset, study=study, purpose="a\rb\x1b]0;x\x07"), dataset, SITE)
    assert not {"\x1b", "\u202e", "\u200b", "\r", "\x07"} & set(text)
    assert "<U+001B>" in text


class Terminal:
    """A person at a terminal, who types one line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, typed: str | None) -> None:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: typed is not None, raising=False)
        monkeypatch.setattr(builtins, "input", lambda prompt="": typed)


@pytest.fixture
def offered(state: State, dataset: Dataset, server: Server) -> Manifest:
    """The command line's coordinator offers a sound manifest."""
    state.save(msgspec.structs.replace(state.config, coordinator=server.url))
    manifest = make_manifest(state, dataset)

    def answer(request: Request) -> Reply:
        if request.path == "releases":
            return Reply(body=[])
        item = {
            "study": "s1",
            "name": "Triage",
            "manifest_hash": manifest.hash,
            "state": "waiting",
            "browser": True,
        }
        return Reply(body=[{**item, "manifest": canonical(manifest).decode()}])

    server.answer = answer
    logged(state, server, manifest)
    return manifest


def run(state: State, *arguments: str) -> int:
    """`approve`, with a yes to the run's having no noise."""
    return cli.main(["--state", str(state.folder), "approve", "--accept", "unbounded", *arguments])


@pytest.mark.parametrize(("answer", "signed"), [("yes", True), ("y", False), ("", False)])
def test_a_run_without_noise_is_signed_after_a_typed_yes_to_that(
    state: State, offered: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    answer: str, signed: bool,
) -> None:  # fmt: skip
    Terminal(monkeypatch, None)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    lines = iter([answer, offered.hash[:8]])
    monkeypatch.setattr(builtins, "input", lambda prompt="": next(lines))
    assert cli.main(["--state", str(state.folder), "approve"]) == 0
    shown = capsys.readouterr().out
    assert 'What "notes" has told, by 0 runs approved here before' in shown
    assert "unbounded    0 runs without noise → 1 with this one" in shown
    assert (approved_hashes(state) == [offered.hash]) is signed


@pytest.mark.parametrize(
    ("typed", "signed", "status"),
    [("right", True, 0), ("deadbeef", False, 1), ("", False, 0), (None, False, 1)],
)
def test_a_person_types_the_fingerprint(
    state: State,
    offered: Manifest,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str | None,
    signed: bool,
    status: int,
) -> None:
    Terminal(monkeypatch, offered.hash[:8].upper() if typed == "right" else typed)
    assert run(state) == status
    assert offered.hash in capsys.readouterr().out
    assert any(request.method == "POST" for request in server.requests) is signed
    assert (approved_hashes(state) == [offered.hash]) is signed


def test_a_script_names_the_whole_hash(
    state: State, offered: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    Terminal(monkeypatch, None)
    assert run(state, "--yes") == 1
    assert run(state, "--yes", "--hash", offered.hash[:63]) == 1
    assert run(state, "--yes", "--hash", "f" * 64) == 1
    assert approved_hashes(state) == []
    assert run(state, "--yes", "--hash", offered.hash) == 0
    assert approved_hashes(state) == [offered.hash]


def test_a_release_that_cannot_be_signed_here_keeps_nobody_from_approving(
    state: State,
    offered: Manifest,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    approvals = server.answer
    asked = {
        "run": "run-9", "study": "Else", "manifest_hash": "e" * 64, "rule": "export", "state": "waiting",
        "receipt": {}, "found": 0, "needed": 1, "signed": False, "kept": False,
        "statement": None, "evidence": None,
    }  # fmt: skip
    server.answer = lambda reported: (
        Reply(body=[asked]) if reported.path == "releases" else approvals(reported)
    )
    Terminal(monkeypatch, offered.hash[:8])
    assert run(state) == 0
    assert approved_hashes(state) == [offered.hash]
    shown = capsys.readouterr().out
    assert "release of run run-9 cannot be signed here" in shown and "run.not_approved_here" in shown
