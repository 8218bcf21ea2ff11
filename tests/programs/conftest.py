"""A small consortium of real processes: a development root, platforms, a tiny random BERT, a few rows a site.

`house` makes the parts that never change once a session; `Consortium` is one run with its enclaves.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import time
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

import enclave_host.process
from attestation.development import (
    collateral,
    create_platform,
    create_root,
    install_platform,
    issue_platform,
    root_sha256,
)
from attestation.measurement import measure
from attestation.sources import open_source
from contracts.canonical import canonical
from contracts.commitment import commit
from contracts.endorsement import endorse
from contracts.evidence import Claims
from contracts.kept_keys import signing_key
from contracts.manifest import (
    Aggregation,
    DatasetRef,
    Lora,
    Manifest,
    ModelSpec,
    Release,
    Site,
    Training,
    TransparencyLog,
)
from contracts.policy import Policy, SgxReference
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.refusal import Refusal
from contracts.roster import Roster, RosterEntry, countersign
from contracts.row_writing import write_row
from contracts.rows import TextLabel
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.state import unseal_state
from contracts.signing import SigningKey
from enclave.programs.clock import Clock
from enclave.programs.identity import Identity
from enclave.programs.mailbox import PREPARED
from enclave.programs.peer import Peer
from enclave.programs.sealing import seal_contribution
from enclave.programs.statekeys import label
from enclave_host.mailbox import HostMailbox
from site_agent.datasets.card import content_digest
from site_agent.methods.method_1.accelerator import AcceleratorProcess
from site_agent.methods.method_1.features import RowFeatures
from tests.support import as_gramine
from tests.support.approvals import approvals
from tests.support.keys import approval_key
from tests.support.loose_host import LooseHost
from tests.support.made_log import VKEY, MadeLog

SITES = ("anna", "berta")
DATASET_KEY = bytes(range(32))
LABELS = ("routine", "urgent")
WORDS = {
    "routine": ["checkup", "renewal", "letter", "vaccine", "travel"],
    "urgent": ["chest", "pain", "bleeding", "seizure", "stroke"],
}
COMMON = ["patient", "with", "asks", "about", "since", "the", "morning", "a", "of", "today"]

os.environ.setdefault("OMP_NUM_THREADS", "1")


def make_model(folder: Path) -> None:
    """A BERT of two layers with random weights and a word-level vocabulary."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *COMMON, *WORDS["routine"], *WORDS["urgent"]]
    folder.mkdir(parents=True)
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(1)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, initializer_range=0.2, **size)
    BertModel(config).save_pretrained(folder)


def make_rows(file: Path, site: str, train: int = 16, test: int = 8) -> None:
    """`test` rows for the test, and as many for validation."""
    draw = random.Random(site)
    with file.open("wb") as out:
        for split in ("train",) * train + ("validation",) * test + ("test",) * test:
            label = draw.choice(LABELS)
            words = draw.choices(COMMON, k=4) + draw.choices(WORDS[label], k=2)
            draw.shuffle(words)
            out.write(write_row(TextLabel(" ".join(words), label, split)))


class House:
    """What does not change between runs. `runtime` is how its enclave programs are started."""

    runtime = "development"

    def __init__(self, folder: Path, sites=SITES) -> None:
        from enclave_host.pinning import pin

        self.root = folder / "root"
        create_root(self.root)
        self.platforms = {}
        for host in ("coordinator", *sites):
            self.platforms[host] = folder / "platforms" / host
            request = create_platform(self.platforms[host])
            install_platform(self.platforms[host], issue_platform(self.root, request))
        self.model = folder / "model"
        make_model(self.model)
        self.files = pin(self.model)
        self._prepared = {}
        self.rows = {}
        for number, site in enumerate(sites):
            self.rows[site] = folder / f"{site}.jsonl"
            make_rows(self.rows[site], site, train=12 + 8 * (number % 8))
        self.site_keys = {site: signing_key(number.to_bytes(2) * 16) for number, site in enumerate(sites)}

    def manifest(self, **changes) -> Manifest:
        manifest = Manifest(
            version=1,
            run="run-1",
            study="Triage",
            purpose="Test",
            method="method-1",
            placement="all_in_tee",
            runtime=self.runtime,
            model=ModelSpec("tiny", "sequence-classification", self.files, LABELS, 16),
            adapter=Lora(4, 8, ("query", "value")),
            training=Training(rounds=3, local_epochs=2, batch_size=4, learning_rate=0.01, seed=7),
            sites=tuple(
                Site(site, site.title(), key.public, approval_key(key).public, self.reference(site))
                for site, key in self.site_keys.items()
            ),
            aggregation=Aggregation("fedavg", quorum=2, deadline_seconds=60),
            policy=self.policy(),
            release=Release("nothing", 2),
            minimum_time=int(time.time()) - 86400,
            log=TransparencyLog(VKEY),
        )
        manifest = msgspec.structs.replace(manifest, **changes)
        masking = manifest.masking
        if masking is not None and not masking.prepared:
            pinned = msgspec.structs.replace(masking, prepared=self.prepared(manifest.model.task)[0])
            manifest = msgspec.structs.replace(manifest, masking=pinned)
        return manifest

    def prepared(self, task) -> tuple[str, Path]:
        """The hash and the folder of the model as each site's agent prepares it, once."""
        from enclave_host.preparing.preparation import prepare

        if task not in self._prepared:
            folder = self.model.parent / f"prepared-{task}"
            self._prepared[task] = prepare(self.model, self.files, task, folder), folder
        return self._prepared[task]

    def reference(self, site) -> DatasetRef:
        """What a manifest says of a site's rows."""
        rows = len(self.rows[site].read_text().splitlines())
        return DatasetRef(f"{site}-notes", content_digest(self.rows[site], DATASET_KEY), rows)

    def policy(self) -> Policy:
        references = tuple(
            SgxReference(program, mrenclave=measure(program)) for program in ("aggregator", "client_slice")
        )
        return Policy("development", root_sha256(self.root), references)


class Consortium:
    """One run: its manifest, and every enclave process started for it."""

    def __init__(self, house: House, folder: Path, manifest: Manifest | None = None) -> None:
        self.house = house
        self.folder = folder
        self.manifest = manifest or house.manifest()
        self.processes: list[LooseHost] = []
        self.accelerators: dict[str, AcceleratorProcess] = {}
        self.log = MadeLog()
        self.log.freeze(self.manifest)
        self.text = canonical(self.manifest).decode()
        self.approvals = msgspec.to_builtins(approvals(self.manifest, house.site_keys))

    def start(self, program, host) -> LooseHost:
        folder = self.folder / f"{program}-{host}-{len(self.processes)}"
        process = LooseHost.start(program, self.manifest.runtime, folder, self.house.platforms[host])
        self.processes.append(process)
        return process

    def bound(self, program, host) -> LooseHost:
        process = self.start(program, host)
        process.call("bind", manifest=self.text, approvals=self.approvals)
        return process

    def aggregator(self) -> LooseHost:
        return self.bound("aggregator", "coordinator")

    def client(self, site, aggregator=None, load=True) -> LooseHost:
        client = self.bound("client_slice", site)
        if self.manifest.masking is not None:
            self.hand_in(client)
        committed = None
        if load and self.manifest.front is not None:  # its admission carries what it commits to
            committed = self.load(client, site)
        if aggregator is not None:
            self.introduce(aggregator, client, site, committed)
        if load:
            if self.manifest.front is None:
                self.load(client, site)
            if self.manifest.masking is not None:
                self.accelerate(site, client)
        return client

    def given(self, process, path: Path) -> str:
        """How a program is told of a folder (the model) or file (rows) of its host. Under Gramine it sees
        what lies in its mailbox alone, where agents put these."""
        if self.manifest.runtime == "development":
            return str(path)
        name = "model" if path.is_dir() else f"data/{path.name}"
        target = process.mailbox.folder / name
        target.parent.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copy(path, target)
        return name

    def hand_in(self, client) -> None:
        """Put the prepared model in the mailbox."""
        _, folder = self.house.prepared(self.manifest.model.task)
        shutil.copytree(folder, client.mailbox.folder / PREPARED, dirs_exist_ok=True)

    def load(self, client, site, **changes) -> dict | None:
        """Returns the features that it commits to."""
        rows = self.rows_of(site)
        for name in ("dataset", "features"):
            if name in rows:
                rows[name] = self.given(client, Path(rows[name]))
        given = {"model": self.given(client, self.house.model), **rows, **changes}
        client.call("load", **given)
        return client.call("commit") if self.manifest.front is not None else None

    def rows_of(self, site) -> dict:
        """Arguments of `load` that say whose rows are loaded."""
        rows = {"dataset": str(self.house.rows[site]), "site": site, "key": DATASET_KEY.hex()}
        if self.manifest.front is not None:
            rows["features"] = str(self.features(site))
        return rows

    def features(self, site) -> Path:
        """The file of the site's features, as its agent computes it, once."""
        file = self.folder / f"{site}-features.bf16"
        RowFeatures(self.folder / "features", self.manifest, site).link(
            file, self.house.model, self.house.rows[site], lambda *_: None
        )
        return file

    def accelerate(self, site, client, room=1 << 40) -> dict:
        """Start the site's accelerator, as its agent does, in place of an earlier one."""
        if site in self.accelerators:
            self.accelerators[site].stop()
        weights = client.mailbox.folder / PREPARED
        started = AcceleratorProcess.start(
            weights,
            self.manifest.runtime,
            self.folder / f"{site}-accelerator.log",
            0 if self.manifest.front is None else self.manifest.front.first,
        )
        self.accelerators[site] = started
        return client.call("accelerate", channel=str(started.seen), room=room)

    def introduce(self, aggregator, client, site, committed=None) -> None:
        """Admission both ways, as supervisor and site agent do it."""
        self.admit(client, self.evidence(aggregator, client.call("challenge")["nonce"]))
        held = self.admitted(aggregator, client, site, committed)
        if held is not None:
            client.call("held", **held)

    def admitted(self, aggregator, client, site, committed=None) -> dict | None:
        """Admission by the aggregator; what it answers to features that were committed to."""
        evidence = self.evidence(client, aggregator.call("challenge", site=site)["nonce"])
        shown = {"evidence": evidence, "endorsement": self.endorsement(site, evidence)}
        return aggregator.call("admit", site=site, features=committed, **shown)["held"]

    def admit(self, client, evidence) -> dict:
        """Show a client slice an aggregator's evidence, and that all is in the log."""
        return client.call("admit", evidence=evidence, logged=self.logged(evidence))

    def logged(self, evidence) -> dict:
        """Log the acceptance of an enclave, as the coordinator does; what a client slice demands."""
        self.log.add("appraisal", {"claims": evidence["claims"], "appraisal": {"verdict": "accepted"}})
        return {kind: self.log.prove(kind) for kind in ("manifest", "appraisal")}

    def evidence(self, process, nonce) -> dict:
        return process.call("evidence", nonce=nonce) | {"collateral": self.collateral()}

    def collateral(self) -> dict:
        return collateral(self.house.root, int(time.time()))

    def endorsement(self, site, evidence) -> str:
        return endorse(msgspec.convert(evidence["claims"], Claims), self.house.site_keys[site])

    def move(self, sha256, source, target) -> str:
        """Carry a sealed file, as coordinator and agents do."""
        target.mailbox.deliver(source.mailbox.collect(sha256), sha256)
        return sha256

    def roster(self, round, blobs, previous=NO_RECEIPT, signers=None) -> dict:
        """Arguments of `aggregate`: the roster, signed by the listed sites (or by `signers`)."""
        entries = tuple(RosterEntry(site, blobs[site]) for site in sorted(blobs))
        roster = Roster(self.manifest.hash, round, entries, previous, True)
        signatures = {
            site: countersign(roster, self.house.site_keys[site]) for site in signers or sorted(blobs)
        }
        return {"roster": msgspec.to_builtins(roster), "countersignatures": signatures}

    def train(self, round, aggregator, clients, previous=None, op="train") -> dict[str, str]:
        """Let every site train; returns the names of the updates, which lie in the aggregator's mailbox."""
        blobs = {}
        for site, client in clients.items():
            result = client.call(op, round=round, previous=previous)
            blobs[site] = self.move(result["update"]["sha256"], client, aggregator)
        return blobs

    def publish(self, result, aggregator, clients) -> dict:
        """Carry the next state to all sites; returns what the next round continues."""
        for client in clients.values():
            self.move(result["next"]["sha256"], aggregator, client)
        return {"sha256": result["next"]["sha256"], "receipt": result["receipt"]}

    def round(self, round, aggregator, clients, previous=None, op="train") -> dict:
        """A whole round; returns the aggregator's result."""
        blobs = self.train(round, aggregator, clients, previous, op)
        last = NO_RECEIPT if previous is None else hash_of(previous["receipt"])
        return aggregator.call("aggregate", round=round, **self.roster(round, blobs, last))

    def whole_run(self, aggregator, clients) -> list[dict]:
        """All rounds, the closing one and the test; returns the aggregator's results."""
        results, previous, rounds = [], None, self.manifest.training.rounds
        for number in range(1, rounds + 2):
            op = "train" if number <= rounds else "evaluate"
            results.append(self.round(number, aggregator, clients, previous, op))
            previous = self.publish(results[-1], aggregator, clients)
        results.append(self.round(self.manifest.last_round, aggregator, clients, previous, "evaluate"))
        return results

    def rogue(self, aggregator, site, features=None) -> Identity:
        """Keys that this test holds, admitted as `site`'s client slice, which commits to `features`. Only
        development evidence allows it: the site owns its platform and signs for whatever it likes."""
        source = open_source("development", platform=self.house.platforms[site], program="client_slice")
        keys = HpkeKey.generate(), SigningKey.generate()
        manifest = self.manifest
        rogue = Identity("client_slice", source, manifest, manifest.hash, Clock(0), *keys, "0" * 64)
        said = None if features is None else commit(manifest.hash, site, features, rogue.signing)
        self.show(rogue, aggregator, site, said)
        return rogue

    def show(self, rogue, aggregator, site, said=None) -> None:
        """Have these keys admitted, by this aggregator as by one before it."""
        shown = rogue.evidence(aggregator.call("challenge", site=site)["nonce"])
        evidence = msgspec.to_builtins(shown) | {"collateral": self.collateral()}
        endorsement = self.endorsement(site, evidence)
        shown = {"endorsement": endorsement, "features": msgspec.to_builtins(said)}
        aggregator.call("admit", site=site, evidence=evidence, **shown)

    def contribute(self, aggregator, identity, site, round, enclosed, state) -> str:
        """Seal what this test likes; returns the file's name, which lies in the aggregator's mailbox."""
        claims = aggregator.call("evidence", nonce="00" * 32)["claims"]
        box = HostMailbox.create(self.folder / "rogue")
        receiver = Peer(claims["hpke_key"], claims["signing_key"])
        arguments = {"receiver": receiver, "enclosed": enclosed, "state": state}
        filed = seal_contribution(identity, box, site=site, round=round, **arguments)
        aggregator.mailbox.deliver(box.collect(filed.sha256), filed.sha256)
        return filed.sha256

    def parameters(self, aggregator, sha256) -> dict:
        """The parameters in a sealed state, which only a test can open: it owns the platform."""
        template, tensors = self.opened(aggregator, sha256)
        return {name: tensor for name, tensor in tensors.items() if name in template}

    def opened(self, aggregator, sha256) -> tuple[dict, dict]:
        """What its parameters look like, and all tensors of a sealed state."""
        from enclave.programs.template import BEST, has, learn
        from enclave.training.tensors import FIRST, SECOND, from_bytes

        source = open_source(
            "development", platform=self.house.platforms["coordinator"], program="aggregator"
        )
        plain = BytesIO()
        with aggregator.mailbox.collect(sha256).open("rb") as file:
            unseal_state(
                file,
                plain,
                key=source.sealing_key(label("aggregator")),
                program="aggregator",
                manifest=self.manifest.hash,
            )
        data = plain.getvalue()
        template = learn(data, self.manifest)
        marks = [mark for mark in (BEST, FIRST, SECOND) if has(data, mark)]
        marked = {mark + name: tensor for mark in marks for name, tensor in template.items()}
        return template, from_bytes(data, template | marked)[0]

    def close(self) -> None:
        for accelerator in self.accelerators.values():
            accelerator.stop()
        for process in self.processes:
            with contextlib.suppress(Refusal):
                process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def hash_of(signed) -> str:
    return receipt_hash(parse_receipt(signed).receipt)


@pytest.fixture(scope="module", autouse=True)
def behind_gramines_system_calls(request):
    """Programs of a module marked `enosys` start behind a filter that answers system calls as Gramine 1.9
    would; for the rest they are what other modules start."""
    if request.node.get_closest_marker("enosys") is None:
        yield
        return
    native = enclave_host.process.command

    def filtered(*arguments):
        return [sys.executable, as_gramine.__file__, *native(*arguments)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enclave_host.process, "command", filtered)
        yield


@pytest.fixture(scope="session")
def house(tmp_path_factory) -> House:
    return House(tmp_path_factory.mktemp("house"))


@pytest.fixture
def consortium(house, tmp_path):
    made: list[Consortium] = []

    def make(**changes) -> Consortium:
        made.append(Consortium(house, tmp_path / f"run-{len(made)}", house.manifest(**changes)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def refusal_of():
    """The refusal that a call ends in."""

    def refusal_of(function, *args, **kwargs) -> Refusal:
        with pytest.raises(Refusal) as caught:
            function(*args, **kwargs)
        return caught.value

    return refusal_of


@pytest.fixture(scope="session")
def code_of(refusal_of):
    """The code of the refusal that a call ends in."""
    return lambda function, *args, **kwargs: refusal_of(function, *args, **kwargs).code


@pytest.fixture(scope="session")
def consortium_class():
    return Consortium
