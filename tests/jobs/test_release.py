"""A release from end to end: signed with the hospitals' own command, let out by a real enclave, opened at the
hospital or downloaded by the lead, and found again in the log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch

from contracts.kept_keys import signing_secret
from contracts.log.note import parse_vkey
from contracts.manifest import parse
from contracts.sealed.package import ADAPTER, ADAPTER_CONFIG, README, unpack
from site_agent.approvals import Approved
from site_agent.files import create_private, private_folder
from site_agent.members import confirm
from site_agent.state import Config, State
from site_agent.witness import log_key_fingerprint
from tests.jobs.conftest import NAMES, Consortium, ask
from tests.support.approvals import approve, members
from tests.support.installation import wait_for
from tests.support.instances import AS_HERE
from tests.support.keys import keep_approval_key
from tests.support.on_disk import contents
from transparency_log.bundle import read_header, verify_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Terminal:
    """A hospital's terminal: the state folder that its agent would have, with the approved runs."""

    def __init__(self, consortium: Consortium, site: str, folder: Path) -> None:
        self.site, self.key = site, consortium.hospitals[site].api.key
        self.state = State(private_folder(folder))
        create_private(self.state.folder / "site.key", signing_secret(self.key).hex().encode())
        own = keep_approval_key(self.state.folder, self.key)
        self.state.save(Config(consortium.installation.url, site, site.title(), own, insecure_http=True))

    def has_approved(self, run: dict[str, Any]) -> None:
        digest = run["manifest_hash"]
        manifest = parse(run["manifest"].encode())
        assert manifest.log is not None
        reported = {"log_key": log_key_fingerprint(manifest.log.key)}
        self.state.save(msgspec.structs.replace(self.state.config, **reported))
        given = approve(digest, self.site, self.key, members(manifest))
        confirm(self.state, manifest.sites)
        approved = Approved(run["manifest"], digest, given.confirmed, given.signature, int(time.time()))
        create_private(private_folder(self.state.approved) / f"{digest}.json", msgspec.json.encode(approved))

    def __call__(self, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-c", AS_HERE, "--state", str(self.state.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr


class World:
    """A coordinator with two finished runs: one sealed to its sites, one for export."""

    def __init__(self, consortium: Consortium, folder: Path) -> None:
        self.consortium = consortium
        self.terminals = {site: Terminal(consortium, site, folder / site) for site in consortium.hospitals}
        plan = {"rounds": 1, "release_approvals": 2}
        self.sealed = self.finished(**plan, release="sealed-to-sites")
        prefix = {"adapter": "prefix", "prefix_length": 4}
        self.export = self.finished(("anna", "clara"), **plan, release="export", **prefix)

    def finished(self, members: tuple[str, ...] = NAMES, **plan: Any) -> str:
        run = self.consortium.launch(members, **plan)
        self.consortium.start()
        ended = self.consortium.finished(run)
        self.consortium.stop()
        assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
        for name in members:
            self.terminals[name].has_approved(ended)
        return run

    def do(self, verb: str, run: str) -> Any:
        return ask(self.consortium.installation, verb=verb, run=run)

    def release(self, run: str) -> dict[str, Any]:
        return self.consortium.rows("select * from releases_release where run_id = ?", run)[0]

    def until(self, run: str, state: str) -> dict[str, Any]:
        def there() -> bool:
            row = self.release(run)
            assert row["state"] != "failed", row["error_code"]
            return row["state"] == state and (state != "released" or bool(row["output"]))

        wait_for(there, 120, f"the release is {state}")
        return self.release(run)

    def fingerprint(self, run: str) -> str:
        return self.release(run)["receipt"]

    def approve(self, site: str, run: str) -> tuple[int, str]:
        return self.terminals[site]("approve", "--yes", "--hash", self.fingerprint(run))

    def holders(self, secret: bytes) -> list[str]:
        """Files of the coordinator that hold these bytes, once no enclave is at work any more."""
        wait_for(lambda: not self.consortium.pids("enclave.programs."), 60, "the enclaves have ended")
        folder = self.consortium.installation.folder
        seen = [(str(file.relative_to(folder)), secret in content) for file, content in contents(folder)]
        assert len(seen) > 10
        return [name for name, found in seen if found]


@pytest.fixture(scope="module")
def world(coordinator: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield World(coordinator, tmp_path_factory.mktemp("terminals"))


def secret_of(tensors: dict[str, Any], part: str) -> bytes:
    """Some bytes of a tuned tensor, which random data do not hold by chance."""
    tensor = next(tensor for name, tensor in tensors.items() if part in name)
    return bytes(tensor.numpy().tobytes()[:48])


def test_parameters_sealed_to_sites_open_where_somebody_has_signed_and_nowhere_else(
    world: World, tmp_path: Path
) -> None:
    anna, berta, clara = (world.terminals[name] for name in ("anna", "berta", "clara"))
    early = anna("release", "--run", world.sealed, "--out", str(tmp_path / "early"))
    assert early[0] == 1 and "release.not_asked" in early[1]
    world.do("release", world.sealed)
    fingerprint = world.fingerprint(world.sealed)
    status, shown = anna("approve", "--hash", fingerprint)
    assert status == 1 and "needs_terminal" in shown
    assert "every hospital that signs" in shown and fingerprint in shown and "0 of 2" in shown

    assert world.approve("anna", world.sealed)[0] == 0
    assert world.release(world.sealed)["state"] == "waiting"
    status, shown = anna("release", "--run", world.sealed, "--out", str(tmp_path / "early"))
    assert status == 1 and "release.waiting" in shown
    assert world.approve("berta", world.sealed)[0] == 0
    world.until(world.sealed, "released")

    opened = {}
    for terminal in (anna, berta):
        folder = tmp_path / terminal.site
        status, shown = terminal("release", "--run", world.sealed, "--out", str(folder))
        assert status == 0, shown
        opened[terminal.site] = (folder / ADAPTER).read_bytes()
        assert json.loads((folder / ADAPTER_CONFIG).read_bytes())["peft_type"] == "LORA"
        assert (folder / README).stat().st_mode & 0o077 == 0
    assert opened["anna"] == opened["berta"]
    again = anna("release", "--run", world.sealed, "--out", str(tmp_path / "anna"))
    assert again[0] == 1 and "release.folder_in_use" in again[1]
    status, shown = clara("release", "--run", world.sealed, "--out", str(tmp_path / "clara"))
    assert status == 1 and "release.not_for_us" in shown and not (tmp_path / "clara").exists()

    tensors = safetensors.torch.load(opened["anna"])
    assert world.holders(secret_of(tensors, "lora_B")) == []
    assert world.holders(secret_of(tensors, "classifier.weight")) == []

    before = world.release(world.sealed)["output"]
    assert world.approve("clara", world.sealed)[0] == 0
    wait_for(lambda: world.until(world.sealed, "released")["output"] != before, 120, "clara's copy")
    status, shown = clara("release", "--run", world.sealed, "--out", str(tmp_path / "clara"))
    assert status == 0, shown
    assert (tmp_path / "clara" / ADAPTER).read_bytes() == opened["anna"]


def test_an_export_lies_in_one_blob_and_goes_to_the_lead_alone(world: World) -> None:
    world.do("release", world.export)
    assert world.do("download", world.export)["code"] == "release.waiting"
    for site in ("anna", "clara"):
        assert world.approve(site, world.export)[0] == 0
    row = world.until(world.export, "released")
    package = bytes.fromhex(world.do("download", world.export)["content"])
    files = unpack(package)
    tensors = safetensors.torch.load(files[ADAPTER])
    place = f"blobs/{row['output'][:2]}/{row['output']}"
    assert world.holders(secret_of(tensors, "prompt_embeddings")) == [place]
    trail = world.consortium.rows("select * from audit_auditentry where action like 'release.%' order by id")
    mine = [json.loads(one["facts"]) for one in trail if one["target"] == f"run:{world.export}"]
    assert sum(facts.get("sha256") == row["output"] for facts in mine) == 2, "released, and downloaded"
    hospital = world.consortium.hospitals["anna"]
    with pytest.raises(Exception, match=r"blob\.unknown"):
        hospital.api.download(row["output"])
    status, shown = world.terminals["anna"]("release", "--run", world.export, "--out", "/nowhere")
    assert status == 1 and "release.for_the_lead" in shown

    world.do("outdate", world.export)
    assert world.do("download", world.export)["code"] == "release.gone"
    assert world.holders(secret_of(tensors, "prompt_embeddings")) == []


def test_an_auditor_finds_every_release_again_with_nothing_but_the_bundle(
    world: World, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.zip"
    world.consortium.installation.manage("export_bundle", str(bundle))
    report = verify_bundle(bundle, log_key=parse_vkey(read_header(bundle).log_key))
    assert report.words("failed") == [] and report.words("missing") == []
    assert report.verdict == "verified" and set(report.verdicts().values()) == {"verified"}
    found = [line for line in report.words("established") if "Releases of parameters" in line]
    assert found and found[0].endswith(": 3."), report.words("established")


def test_a_run_whose_rule_says_nothing_is_never_released(world: World) -> None:
    assert world.do("release_by_another", world.sealed) == "auth.forbidden"
