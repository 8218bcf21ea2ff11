"""Whole runs under Gramine itself: every program, both methods, what they promise natively, bit for bit.

No SGX: `gramine-direct` brings Gramine's system calls, file rules and C library, and no protection. Figures
of a start are printed (`-s`), because how fast it is depends on the machine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from benchmarks.fedavg import fedavg
from contracts.manifest import Lora, Masking, Prefix, Release, Training
from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import receipt_hash
from contracts.release_check import parse_release
from contracts.sealed.hpke import HpkeKey
from enclave.programs.learner import load_learner
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.training.loop import train
from enclave_host.unmasked import UnmaskedEngine, prepare_and_open
from site_agent.methods.method_1.accelerator import NAME
from tests.programs.conftest import DATASET_KEY, Consortium
from tests.programs.split_house import SplitRun, split_manifest
from tests.programs.test_split_server import last_parameters
from tests.programs.test_split_serving import ask, enter, question
from tests.support.approvals import release_approval
from tests.support.on_disk import contents

pytestmark = [pytest.mark.gramine, pytest.mark.long, pytest.mark.timeout(1800)]

SITES = ("anna", "berta")
TWO_ROUNDS = Training(rounds=2, local_epochs=2, batch_size=4, learning_rate=0.01, seed=7)
GREETING = 25.0
"""Seconds of processor until a program greets: on a quiet machine it greets no later."""
RESIDENT = {"aggregator": 150 << 20, "client_slice": 300 << 20, "split_server": 300 << 20}


@pytest.fixture(autouse=True)
def one_thread():
    """The sums of this process are those of the programs, which compute with one thread (OMP_NUM_THREADS)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def resident(process) -> int:
    """Bytes of the program and of Gramine around it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[1]) << 10


def plain(run, learners):
    """The state after each training round, by plain averaging in this process."""
    state = None
    for number in range(1, run.manifest.training.rounds + 1):
        updates = []
        for learner in learners:
            learner.start_from(state)
            outcome, update = learner.train(number, lambda _progress: None)
            updates.append((outcome.samples, update))
        state = fedavg(updates)
        yield state


def seconds_of_processor(process) -> float:
    """What it has computed so far, user and system (proc(5)), whatever else the machine does."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("program", RESIDENT)
def test_it_greets_and_is_small_at_its_start(world, program):
    began = time.monotonic()
    process = world.start(program, "coordinator")
    seconds, size, computed = time.monotonic() - began, resident(process), seconds_of_processor(process)
    print(
        f"\n{program}: greets after {seconds:.1f} s, {computed:.1f} s of processor, {size >> 20} MiB resident"
    )
    assert Path(f"/proc/{process.pid}/exe").resolve().name == "libpal.so"
    assert size <= RESIDENT[program] and computed <= GREETING


class Run:
    """A finished run of Method 1, its processes still there. Of a masked one the first site's accelerator was
    killed after the first round, and replaced."""

    def __init__(self, world: Consortium) -> None:
        self.world, self.manifest = world, world.manifest
        self.aggregator = world.aggregator()
        self.clients = {site: world.client(site, self.aggregator) for site in SITES}
        self.results, self.channels, previous = [], [], None
        for number in (1, 2, 3, self.manifest.last_round):
            op = "train" if number < 3 else "evaluate"
            self.results.append(world.round(number, self.aggregator, self.clients, previous, op))
            if number <= 3:
                previous = world.publish(self.results[-1], self.aggregator, self.clients)
            if number == 1 and world.accelerators:
                self.channels = [each.channel for each in world.accelerators.values()]
                os.kill(world.accelerators["anna"].pid, signal.SIGKILL)
                world.accelerate("anna", self.clients["anna"])
                self.channels.append(world.accelerators["anna"].channel)


def finished(house, folder, **changes):
    world = Consortium(house, folder, house.manifest(**{"training": TWO_ROUNDS, **changes}))
    try:
        yield Run(world)
    finally:
        world.close()


@pytest.fixture(scope="module", params=["lora", "prefix"])
def inside(request, two_house, tmp_path_factory):
    """All in one TEE."""
    adapter = {"lora": Lora(4, 8, ("query", "value")), "prefix": Prefix(4)}[request.param]
    folder = tmp_path_factory.mktemp("inside") / "run"
    yield from finished(two_house, folder, adapter=adapter, release=Release("sealed-to-sites", 2))


def test_all_in_one_tee_is_the_native_run_bit_for_bit(inside, two_house):
    learners = [
        load_learner(inside.manifest, site, two_house.model, two_house.rows[site], DATASET_KEY)
        for site in SITES
    ]
    for state, result in zip(plain(inside, learners), inside.results, strict=False):
        assert same(state, inside.world.parameters(inside.aggregator, result["state"]["sha256"]))


def test_its_receipts_are_one_chain_of_an_attested_key(inside):
    key = inside.aggregator.call("evidence", nonce="00" * 32)["claims"]["signing_key"]
    receipts = [parse_receipt(result["receipt"]) for result in inside.results]
    assert verify_chain(receipts, manifest=inside.manifest.hash, attested={key})


def test_rows_and_parameters_lie_nowhere_in_the_mailboxes(inside, two_house):
    last = inside.world.parameters(inside.aggregator, inside.results[-1]["state"]["sha256"])
    needles = [value.tobytes()[:64] for value in last.values() if value.std() > 0]
    own = {site: json.loads(two_house.rows[site].read_text().splitlines()[0])["text"] for site in SITES}
    for site, client in {**inside.clients, "coordinator": inside.aggregator}.items():
        # A hospital's rows are given to its own slice as a file, and lie nowhere else.
        given = own.keys() - {site}
        for file, content in contents(client.mailbox.folder):
            assert not any(needle in content for needle in needles), file
            assert not any(own[other].encode() in content for other in given), file


def test_it_is_released_to_the_sites_that_signed(inside):
    world, receipt = inside.world, receipt_hash(parse_receipt(inside.results[-1]["receipt"]).receipt)
    keys = {site: HpkeKey.generate().public for site in SITES}
    release_approvals = {
        site: release_approval(inside.manifest, receipt, site, world.house.site_keys[site], keys[site])
        for site in SITES
    }
    model = world.given(inside.aggregator, world.house.model)
    answer = inside.aggregator.call(
        "release", receipt=receipt, release_approvals=msgspec.to_builtins(release_approvals), model=model
    )
    assert parse_release(answer["release"]).released.output == answer["output"]["sha256"]


def test_a_successor_restores_the_run_from_its_sealed_state(inside):
    state = inside.results[-1]["state"]["sha256"]
    os.kill(inside.aggregator.pid, signal.SIGKILL)
    successor = inside.world.aggregator()
    inside.world.move(state, inside.aggregator, successor)
    assert successor.call("restore", state=state)["round"] == inside.manifest.last_round


@pytest.fixture(scope="module", params=["lora", "prefix"])
def masked(request, two_house, tmp_path_factory):
    """Two hospitals on one host, each with an accelerator of its own at the same time."""
    adapter = {"lora": Lora(4, 8, ("query", "value")), "prefix": Prefix(4)}[request.param]
    masking = Masking(repetitions=1, vault_bytes=150_000, accelerator="site")
    folder = tmp_path_factory.mktemp("masked") / "run"
    yield from finished(two_house, folder, placement="masked", masking=masking, adapter=adapter)


def test_two_masked_sites_on_one_host_are_the_unmasked_run_bit_for_bit(masked, two_house, tmp_path):
    learners = []
    for site in SITES:
        opened = prepare_and_open(
            two_house.model, masked.manifest.model, masked.manifest.adapter, 7, tmp_path / site, 0
        )
        opened.cut.attach(UnmaskedEngine(opened.cut.store))
        rows = load_learner(
            two_house.manifest(adapter=masked.manifest.adapter), site, two_house.model,
            two_house.rows[site], DATASET_KEY,
        ).training  # fmt: skip
        learners.append((site, opened.cut.model, rows))
    state = tuned_state(learners[0][1])
    for number in (1, 2):
        updates = []
        for site, model, rows in learners:
            load_tuned_state(model, state)
            updates.append(
                (train(model, rows, TWO_ROUNDS, round=number, site=site).samples, tuned_state(model))
            )
        state = fedavg(updates)
        sealed = masked.world.parameters(masked.aggregator, masked.results[number - 1]["state"]["sha256"])
        assert same(state, sealed)


def test_each_had_a_channel_of_its_own_and_so_had_the_accelerator_that_replaced_a_killed_one(masked):
    assert len(masked.channels) == len(set(masked.channels)) == 3
    for site, client in masked.clients.items():
        assert Path(client.mailbox.folder, "channel", NAME).samefile(masked.world.accelerators[site].channel)


def test_nothing_plain_lies_in_channel_store_or_vault(masked, two_house):
    last = masked.world.parameters(masked.aggregator, masked.results[-1]["state"]["sha256"])
    needles = [value.tobytes()[:64] for value in last.values() if value.std() > 0]
    looked = 0
    for site, client in masked.clients.items():
        row = json.loads(two_house.rows[site].read_text().splitlines()[0])["text"].encode()
        shared = masked.world.accelerators[site].channel.read_bytes()
        assert row not in shared and not any(needle in shared for needle in needles)
        for file, content in contents(client.mailbox.folder):
            assert not any(needle in content for needle in needles), file
            looked += 1
    assert looked > 4


@pytest.fixture(scope="module")
def split(direct_house, tmp_path_factory):
    """Method 2: trained, then served."""
    folder = tmp_path_factory.mktemp("split")
    world = Consortium(
        direct_house, folder / "run", split_manifest(direct_house, release=Release("serve-only", 2))
    )
    (folder / "sites").mkdir()
    run = SplitRun(world, folder / "sites")
    try:
        run.the_server = run.trained = run.server()
        for site in direct_house.rows:
            run.join(run.the_server, site)
        run.rounds(run.the_server)
        yield run
    finally:
        world.close()


def test_a_split_run_learns_and_its_receipts_are_one_chain(split):
    losses = [result["metrics"]["pooled"]["loss"] for result in split.results[:3]]
    assert losses[-1] < losses[0]
    verify_chain([parse_receipt(result["receipt"]) for result in split.results], manifest=split.manifest.hash)


def test_it_serves_the_same_answers_after_kill_minus_nine_and_none_lies_on_the_disk(split):
    asked, targets = question(split)
    answer = ask(split.the_server, enter(split, split.the_server), asked)
    features = asked[-len(targets) * 64 :]
    for file, content in contents(split.the_server.mailbox.folder):
        assert answer not in content and features not in content, file
    state = split.results[-1]["state"]["sha256"]
    successor = split.server()
    successor.mailbox.deliver(split.the_server.mailbox.collect(state), state)
    os.kill(split.the_server.pid, signal.SIGKILL)
    successor.call("restore", state=state)
    split.name(successor)
    assert ask(successor, enter(split, successor), asked) == answer


def test_a_split_run_is_the_native_one_bit_for_bit(split, direct_house, tmp_path):
    (tmp_path / "sites").mkdir()
    direct_house.runtime = "development"
    try:
        manifest = split_manifest(direct_house, release=Release("serve-only", 2))
        native = SplitRun(Consortium(direct_house, tmp_path / "run", manifest), tmp_path / "sites")
    finally:
        del direct_house.runtime
    try:
        server = native.server()
        for site in direct_house.rows:
            native.join(server, site)
        native.rounds(server)
        for ours, theirs in zip(split.results, native.results, strict=True):
            scores = [result["metrics"] for result in (ours, theirs)]
            for reported in scores:
                reported.pop("training", None)  # how long it took
            assert scores[0] == scores[1]
        left = last_parameters(native, server, native.results[-1])
        right = last_parameters(split, split.trained, split.results[-1])
        assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    finally:
        native.consortium.close()
