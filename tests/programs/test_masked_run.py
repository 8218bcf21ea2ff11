"""Method 1 through real processes: two client slices, each with an accelerator that it does not believe."""

import hashlib
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
from contracts.manifest import Lora, Masking, Prefix, PublicFront
from enclave.masking import native
from enclave.programs.learner import load_learner
from enclave.programs.mailbox import PADS, PREPARED
from enclave.slicing import placement
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.training.loop import train
from enclave_host.unmasked import UnmaskedEngine, prepare_and_open
from tests.programs.conftest import DATASET_KEY

pytestmark = pytest.mark.enosys

SITES = ("anna", "berta")
ADAPTERS = {"lora": Lora(4, 8, ("query", "value")), "prefix": Prefix(4)}
FRONT = PublicFront(1, sample=4)
# Room for the pads of some batches of a round only, so that the others make theirs inline.
MASKING = Masking(repetitions=1, vault_bytes=150_000, accelerator="site")


class MaskedRun:
    """A finished run of one adapter with what its files were when it ended."""

    def __init__(self, consortium) -> None:
        self.consortium = consortium
        self.aggregator = consortium.aggregator()
        self.clients = {site: consortium.client(site, self.aggregator) for site in SITES}
        self.reported = {site: [] for site in SITES}
        self.measures = {site: [] for site in SITES}
        self.results, previous = [], None
        for number in (1, 2, 3, consortium.manifest.last_round):
            op = "train" if number < 3 else "evaluate"
            blobs = {}
            for site, client in self.clients.items():
                made = client.call(op, self.reported[site].append, round=number, previous=previous)
                self.measures[site].append(made["measures"])
                blobs[site] = consortium.move(made["update"]["sha256"], client, self.aggregator)
            last = self.aggregator.call("status")["receipt"]
            roster = consortium.roster(number, blobs, last)
            self.results.append(self.aggregator.call("aggregate", round=number, **roster))
            if number <= 3:
                previous = consortium.publish(self.results[-1], self.aggregator, self.clients)


def native_or_skip() -> Masking:
    """Masks are put on by the library that is pinned, where it is installed."""
    library = native.installed()
    if library is None or hashlib.sha256(library.read_bytes()).hexdigest() != placement.PASSES:
        pytest.skip(
            "the locked wheel of kernels is not installed: `make setup`, with the compiler that it names"
        )
    return msgspec.structs.replace(MASKING, passes="native")


@pytest.fixture(
    scope="module", params=["lora", "native", "front", pytest.param("prefix", marks=pytest.mark.long)]
)
def run(request, house, tmp_path_factory, consortium_class):
    training = house.manifest().training
    manifest = house.manifest(
        placement="masked",
        masking=native_or_skip() if request.param == "native" else MASKING,
        adapter=ADAPTERS["prefix" if request.param == "prefix" else "lora"],
        front=FRONT if request.param == "front" else None,
        training=type(training)(rounds=2, local_epochs=2, batch_size=4, learning_rate=0.01, seed=7),
    )
    consortium = consortium_class(house, tmp_path_factory.mktemp("masked") / "run", manifest)
    try:
        yield MaskedRun(consortium)
    finally:
        consortium.close()


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def unmasked(run, house, folder):
    """The states after each round, by plain averaging over quantised models that nobody masks."""
    manifest = run.consortium.manifest
    learners = []
    for site in SITES:
        first = 0 if manifest.front is None else manifest.front.first
        opened = prepare_and_open(
            house.model, manifest.model, manifest.adapter, manifest.training.seed, folder / site, first
        )
        opened.cut.attach(UnmaskedEngine(opened.cut.store))
        features = None if manifest.front is None else run.consortium.features(site)
        inside = load_learner(
            house.manifest(adapter=manifest.adapter, front=manifest.front),
            site, house.model, house.rows[site], DATASET_KEY, features=features,
        )  # fmt: skip
        rows = inside.training if inside.front is None else inside.front.training
        named = opened.cut.model if inside.front is None else opened.cut.model.model
        learners.append((site, opened.cut.model, named, rows))
    state = tuned_state(learners[0][2])
    for number in range(1, manifest.training.rounds + 1):
        updates = []
        for site, model, named, rows in learners:
            load_tuned_state(named, state)
            outcome = train(model, rows, manifest.training, round=number, site=site)
            updates.append((outcome.samples, tuned_state(named)))
        state = fedavg(updates)
        yield state


def test_a_masked_run_is_the_unmasked_quantised_run_bit_for_bit(run, house, tmp_path, one_thread):
    states = list(unmasked(run, house, tmp_path))
    for state, result in zip(states, run.results, strict=False):
        sealed = run.consortium.parameters(run.aggregator, result["state"]["sha256"])
        assert state.keys() == sealed.keys()
        assert all(np.array_equal(state[name], sealed[name]) for name in state)
    assert any(not np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_its_programs_had_only_the_system_calls_that_gramine_has(run):
    for client in (run.aggregator, *run.clients.values()):
        status = Path(f"/proc/{client.pid}/status").read_text()
        assert re.search(r"^Seccomp:\s*2$", status, re.MULTILINE)  # a filter, proc(5)


def test_the_estimate_of_disk_is_told_before_the_first_pad_is_made(run):
    for reported in run.reported.values():
        pads = [news for news in reported if news.stage == "making pads"]
        assert pads[0].done == 0
        assert 0 < pads[0].bytes <= MASKING.vault_bytes
        assert 0 < pads[0].batches < pads[0].of_batches
        assert any(news.done == news.of for news in pads)
        # in tokens, and in a second of one core
        assert pads[-1].of >= pads[-1].batches and (pads[-1].rows_per_second or 0) > 0


def test_measures_tell_what_a_round_has_cost_in_numbers_alone(run):
    for measures in run.measures.values():
        training, again, evaluation, _test = measures
        assert all(type(value) in (int, float) for value in training.values())
        assert training["checks"] == training["products"] > evaluation["products"] > 0
        assert training["pads_used"] > 0 and training["pads_inline"] > 0
        assert training["bytes_out"] > 0 and training["bytes_back"] > 0
        assert training["offline_seconds"] > 0 and training["online_seconds"] > 0
        in_c = run.consortium.manifest.masking.passes == "native"  # there the check is in the passes
        assert not in_c or training["integrity_seconds"] == 0
        for stage in ("mask", "wait", "inline", *(() if in_c else ("integrity",))):
            assert 0 < training[f"{stage}_seconds"] < training["online_seconds"]
        # Counted by the round, not since the start: the same rows cost the same again.
        assert again["products"] == training["products"] and again["rows"] == training["rows"]
        assert training["model_bytes"] == sum(
            file.stat().st_size for file in run.consortium.house.model.glob("*.safetensors")
        )
        assert training["peak_memory"] > training["model_bytes"]


def test_nothing_plain_lies_in_channel_store_or_vault(run, house):
    """Tuned parameters, rows and embedding vectors are looked for in all that the host can read."""
    from safetensors.torch import load_file

    row = json.loads(house.rows["anna"].read_text().splitlines()[0])["text"].encode()
    table = next(
        value
        for name, value in load_file(house.model / "model.safetensors").items()
        if name.endswith("word_embeddings.weight")
    )
    final = run.consortium.parameters(run.aggregator, run.results[1]["state"]["sha256"])
    needles = [row, *(vector.numpy().tobytes() for vector in table[5:])]
    needles += [value.flatten()[:8].tobytes() for value in final.values() if value.std() > 0]
    seen = set()
    for site, client in run.clients.items():
        folder = client.mailbox.folder
        for file in (run.consortium.accelerators[site].channel, *(folder / PADS).iterdir()):
            content = file.read_bytes()
            assert not any(needle in content for needle in needles), file
            seen.add(file.name.split("-")[0])
        for file in house.prepared("sequence-classification")[
            1
        ].iterdir():  # public; nothing was written there
            assert (folder / PREPARED / file.name).read_bytes() == file.read_bytes()
    assert "fedslice" in seen and len(seen) > 1


@pytest.fixture(scope="module")
def anna(house, tmp_path_factory, consortium_class):
    """One site's client slice of a masked run, admitted and loaded; each test gives it an accelerator."""
    manifest = house.manifest(placement="masked", masking=Masking(vault_bytes=1 << 26))
    made = consortium_class(house, tmp_path_factory.mktemp("anna") / "run", manifest)
    try:
        client = made.client("anna", made.aggregator(), load=False)
        client.call("load", model=str(house.model), **made.rows_of("anna"))
        yield made, client
    finally:
        made.close()


def test_a_client_slice_without_an_accelerator_says_so(anna, code_of):
    _, client = anna
    assert code_of(client.call, "accelerate", channel="/dev/shm/none", room=0) == "accelerator.bad_channel"
    assert code_of(client.call, "train", round=1, previous=None) == "slice.not_accelerated"


def test_pads_of_an_earlier_life_are_thrown_away(anna):
    made, client = anna
    pads = client.mailbox.folder / PADS
    pads.mkdir(exist_ok=True)
    (pads / "0000000001.pads").write_bytes(b"of an earlier key")
    made.accelerate("anna", client)
    assert list(pads.iterdir()) == []
    measures = client.call("train", round=1, previous=None)["measures"]
    assert measures["pads_used"] > 0 and measures["pads_inline"] == measures["pads_left"] == 0


def test_pads_made_in_idle_time_are_there_when_the_round_comes(anna, code_of):
    made, client = anna
    made.accelerate("anna", client)
    heard = []
    assert client.call("prepare", heard.append, round=2) == {}
    assert heard[-1].done == heard[-1].of
    assert code_of(client.call, "prepare", round=9) == "round.finished"
    # Round 2 begins again, as after one that was given up: all its pads are there.
    reported = []
    ahead = client.call("train", reported.append, round=2, previous=None)["measures"]
    assert not [news for news in reported if news.stage == "making pads"]
    assert ahead["pads_inline"] == ahead["pads_left"] == 0
    assert ahead["offline_seconds"] > 0 and ahead["pads_used"] > 0


@pytest.mark.slow  # the enclave waits ten seconds before it calls the accelerator dead
def test_a_killed_accelerator_ends_the_contribution_and_a_new_one_takes_it_up(anna, refusal_of):
    made, client = anna
    made.accelerate("anna", client)
    victim = made.accelerators["anna"]

    def kill(news):
        if news.stage == "training":
            os.kill(victim.pid, signal.SIGKILL)

    started = time.monotonic()
    assert refusal_of(client.call, "train", kill, round=3, previous=None).code == "accelerator.dead"
    assert time.monotonic() - started < 60
    assert refusal_of(client.call, "train", round=3, previous=None).code == "masking.ended"
    made.accelerate("anna", client)
    again = client.call("train", round=3, previous=None)
    assert again["samples"] == 12 and again["measures"]["checks"] > 0


def test_a_host_without_room_for_pads_keeps_none_and_the_round_is_done_all_the_same(anna):
    made, client = anna
    made.accelerate("anna", client, room=0)
    measures = client.call("evaluate", round=4, previous=None)["measures"]
    assert list((client.mailbox.folder / PADS).iterdir()) == []
    assert measures["pads_inline"] > 0 and measures["pads_used"] == measures["pads_left"] == 0
