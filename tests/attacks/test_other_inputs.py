"""Siblings of the named attacks: other inputs that a host can swap or repeat, tried on real enclaves.

In training: the tokenizer, the site's name, weights and pads beside the accelerator. At a release: the base
model, the key that a copy is sealed to, an order for another round, and asking twice.
And what nobody asked: the size of a sealed answer, and numbers beside the scores.
"""

import json
import shutil

import msgspec
import numpy as np
import pytest

from contracts.manifest import Aggregation, Release, Training
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from contracts.sealed.hpke import HpkeKey
from enclave.programs.averaging import Averager
from enclave.programs.contributions import Enclosed
from enclave.programs.mailbox import PADS, PREPARED
from enclave.programs.sealing import padded
from enclave.training.metrics import Scores
from enclave.training.tensors import to_bytes
from tests.programs.conftest import Consortium, House
from tests.programs.own_slices import OwnSlices
from tests.support.approvals import release_approval

SITES = ("anna", "berta")


def test_a_tokenizer_in_which_two_words_have_changed_places_is_refused(masked, code_of):
    """Chosen token ids are chosen inputs: every vector would be one of the table's, at the host's choice."""
    file = masked.model / "tokenizer.json"
    before = file.read_bytes()
    said = json.loads(before)
    words = said["model"]["vocab"]
    words["pain"], words["letter"] = words["letter"], words["pain"]
    file.write_text(json.dumps(said))
    asked = {"model": str(masked.model), **masked.rows_of("anna")}
    assert code_of(masked.anna.call, "load", **asked) == "model.file_changed"
    file.write_bytes(before)


def test_a_slice_that_poses_as_another_hospitals_gets_past_neither_rows_nor_endorsement(masked, code_of):
    """Its host names the site: with another's name it could answer twice a round."""
    asked = {"model": str(masked.model), **masked.rows_of("anna"), "site": "berta"}
    assert code_of(masked.anna.call, "load", **asked) == "rows.wrong_count"
    asked |= masked.rows_of("berta") | {"key": "11" * 32}
    assert code_of(masked.anna.call, "load", **asked) == "rows.changed"


def test_public_weights_that_were_exchanged_are_refused_before_the_first_product(masked, code_of):
    """Every answer of the accelerator would be right for other weights: the slice reads them again itself."""
    masked.anna.call("load", model=str(masked.model), **masked.rows_of("anna"))
    store = masked.anna.mailbox.folder / PREPARED
    weights = max(
        (file for file in store.iterdir() if file.suffix != ".json"), key=lambda file: file.stat().st_size
    )
    before = weights.read_bytes()
    weights.write_bytes(bytes(reversed(before)))
    assert code_of(masked.accelerate, "anna", masked.anna) == "masking.weights_changed"
    weights.write_bytes(before)
    masked.accelerate("anna", masked.anna)


def test_pads_of_another_step_are_refused_in_a_steps_place(masked, code_of):
    """A pad that is used twice would give the difference of two features."""
    masked.anna.call("prepare", round=1)
    pads = sorted((masked.anna.mailbox.folder / PADS).rglob("*.pads"))
    assert len(pads) > 2
    first, second = pads[0].read_bytes(), pads[1].read_bytes()
    pads[0].write_bytes(second)
    pads[1].write_bytes(first)
    asked = {"round": 1, "previous": None}
    assert code_of(masked.anna.call, "train", **asked) in ("masking.vault_damaged", "masking.ended")


def test_the_size_of_a_sealed_answer_tells_nothing_of_the_scores_in_it():
    """Digits of a loss and of counts moved it in steps of eight bytes: a host could ask a round and look."""
    few = Scores(8, 8, 8, 0.5, ((4, 0), (0, 4)))
    many = Scores(8, 8, 5, 5.545177444479562, ((123456, 1), (99, 7)))
    plain = [Enclosed("0" * 64, 12, scores) for scores in (few, many)]
    naked, filled = (
        {len(to_bytes({}, msgspec.to_builtins(each))) for each in made}
        for made in (plain, [padded(each) for each in plain])
    )
    assert len(naked) == 2, "without padding the two would differ"
    assert len(filled) == 1


def drawn(seed):
    """A LoRA pair that some site could have tuned."""
    numbers = np.random.default_rng(seed)
    return {
        f"layer.lora_{factor}.weight": numbers.normal(size=shape).astype(np.float32)
        for factor, shape in (("A", (2, 8)), ("B", (8, 2)))
    }


def test_of_fewer_sites_than_scores_are_pooled_over_no_number_about_their_changes_is_told(house):
    """How far two factors' mean is from their products', one of two can solve for the other's."""
    rules = Aggregation("fedavg", quorum=1, deadline_seconds=60, clip=1e-3)
    manifest = house.manifest(aggregation=rules)
    reported = {}
    for sites, count in (("ab", 2), ("abc", 3), ("abcd", 2)):
        averager = Averager(manifest, len(sites))
        for place, site in enumerate(sites):
            averager.add(site, 12, drawn(place), drawn(9))
        found = averager.average(None, count, None, {})
        reported[len(sites)] = (found.averaging.clipped, set(found.metrics))
    assert reported == {2: (None, set()), 3: (3, {"deviation"}), 4: (None, set())}, "two were made up"


class Finished:
    """A run of two rounds that is over; its parameters leave sealed to the sites that sign."""

    def __init__(self, house, folder) -> None:
        training = Training(rounds=2, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7)
        rules = Aggregation("fedavg", quorum=2, deadline_seconds=60)
        manifest = house.manifest(training=training, aggregation=rules, release=Release("sealed-to-sites", 2))
        self.world = Consortium(house, folder, manifest)
        self.aggregator = self.world.aggregator()
        self.keys = {site: HpkeKey.generate() for site in SITES}
        self.results = OwnSlices(self.world, self.aggregator).whole_run()

    def receipt(self, place: int) -> str:
        return receipt_hash(parse_receipt(self.results[place]["receipt"]).receipt)

    def signatures(self, receipt: str) -> dict:
        keys = self.world.house.site_keys
        made = {
            site: release_approval(self.world.manifest, receipt, site, keys[site], self.keys[site].public)
            for site in SITES
        }
        return msgspec.to_builtins(made)

    def ask(self, receipt: str, signatures: dict, model) -> dict:
        return self.aggregator.call(
            "release", receipt=receipt, release_approvals=signatures, model=str(model)
        )


@pytest.fixture(scope="module")
def finished(house: House, tmp_path_factory):
    made = Finished(house, tmp_path_factory.mktemp("finished") / "run")
    yield made
    made.world.close()


def test_a_copy_cannot_be_sealed_to_a_key_that_the_host_put_into_an_order(finished, code_of):
    signatures = finished.signatures(finished.receipt(-1))
    signatures["anna"]["hpke_key"] = HpkeKey.generate().public
    assert (
        code_of(finished.ask, finished.receipt(-1), signatures, finished.world.house.model)
        == "release.bad_approval"
    )


def test_orders_for_an_earlier_round_let_nothing_out(finished, code_of):
    """Two states of one run, released one after the other, would be subtracted."""
    for place in (0, 1):
        earlier = finished.receipt(place)
        asked = (finished.ask, earlier, finished.signatures(earlier), finished.world.house.model)
        assert code_of(*asked) == "release.wrong_receipt"
        asked = (finished.ask, finished.receipt(-1), finished.signatures(earlier), finished.world.house.model)
        assert code_of(*asked) == "release.bad_approval"


def test_a_release_names_no_other_base_model_than_the_pinned_one(finished, code_of, tmp_path):
    """Parameters that are merged into or described for another base would be read from what comes out."""
    model = tmp_path / "model"
    shutil.copytree(finished.world.house.model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    last = finished.receipt(-1)
    assert code_of(finished.ask, last, finished.signatures(last), model) == "release.missing_config"


def test_a_release_that_is_asked_again_says_the_same_of_the_same_parameters(finished):
    last, model = finished.receipt(-1), finished.world.house.model
    both = [finished.ask(last, finished.signatures(last), model)["release"]["released"] for _ in range(2)]
    assert both[0]["package"] == both[1]["package"] and both[0]["recipients"] == both[1][
        "recipients"
    ] == list(SITES)
