"""A site's host computes its own features in clear, and hands its client slice others: before it commits to
them, after, in a later instance; or its slice tunes what lies below.

In one process, and how often a sample finds the wrong ones: tests/slicing/test_public_front.py.
"""

import numpy as np
import pytest

from contracts.canonical import canonical
from contracts.commitment import COMMITTED_DOMAIN
from contracts.manifest import Aggregation, Masking, PublicFront, parse
from contracts.receipts import InstanceCount
from contracts.signing import SigningKey
from enclave.programs.contributions import Enclosed
from enclave.programs.peer import Peer
from enclave.programs.slice_instances import SliceInstances
from enclave.training.metrics import Scores
from site_agent.methods.method_1.accelerator import OWNER, PROGRAM, require_own
from tests.programs.conftest import Consortium, House, code_of, house, refusal_of

__all__ = ["code_of", "house", "refusal_of"]

SITES = ("anna", "berta")
SAMPLE = 6
WIDTH = 32


@pytest.fixture(scope="module")
def world(house: House, tmp_path_factory):
    """Before the first round: an aggregator, and both sites' slices, which have loaded nothing."""
    manifest = house.manifest(
        front=PublicFront(1, sample=SAMPLE),
        aggregation=Aggregation("fedavg", quorum=2, deadline_seconds=60, instances=3),
    )
    world = Consortium(house, tmp_path_factory.mktemp("front") / "run", manifest)
    world.agg = world.aggregator()
    world.slices = {site: world.client(site, load=False) for site in SITES}
    yield world
    world.close()


def spoilt(world, site, change):
    """The site's features with other numbers, (tokens, WIDTH) 16-bit words, in a file of its own."""
    words = np.fromfile(world.features(site), dtype="<u2").reshape(-1, WIDTH)
    file = world.folder / f"{site}-spoilt.bf16"
    change(words)
    words.tofile(file)
    return str(file)


def one(value):
    """Sets one number, by its bits."""

    def change(words):
        words[1, 3] = value

    return change


@pytest.mark.parametrize(
    ("bits", "code"),
    [(0x7FC0, "front.not_finite"), (0xFF80, "front.not_finite"), (0x7149, "front.beyond_bound")],
    ids=["nan", "minus infinity", "1e30"],
)
def test_features_that_are_no_numbers_or_far_from_any_text_are_not_loaded(world, code_of, bits, code):
    given = {"features": spoilt(world, "anna", one(bits))}
    assert code_of(world.load, world.slices["anna"], "anna", **given) == code


def test_a_slice_is_not_loaded_without_features(world, code_of):
    assert code_of(world.load, world.slices["anna"], "anna", features=None) == "front.no_features"


@pytest.fixture(scope="module")
def anna(world):
    """Loaded with the true features, in a file that its host can write to, and not yet admitted."""
    slice, file = world.slices["anna"], world.features("anna")
    world.committed = world.load(slice, "anna")
    world.admit(slice, world.evidence(world.agg, slice.call("challenge")["nonce"]))
    world.anna_file = file
    return slice


def test_a_slice_is_not_admitted_without_a_commitment_of_its_own(world, anna, code_of):
    stranger = SigningKey.generate()
    forged = {"features": "0" * 64, "signature": world.committed["signature"]}
    signed = stranger.sign(COMMITTED_DOMAIN, {"features": "0" * 64})
    for committed in (None, forged, {"features": "0" * 64, "signature": signed}):
        assert code_of(world.admitted, world.agg, anna, "anna", committed) == "front.not_committed"


def test_nothing_is_sampled_or_trained_before_the_aggregator_holds_the_site_to_it(world, anna, code_of):
    """A host that learns what a sample found before anybody counts could exchange features and try again."""
    assert code_of(anna.call, "train", round=1, previous=None) == "front.not_held"
    world.held = world.admitted(world.agg, anna, "anna", world.committed)
    for forged in (
        {**world.held, "begun": 2},
        {**world.held, "signature": "0" * 128},
        {"begun": 1, "signature": world.committed["signature"]},
    ):
        assert code_of(anna.call, "held", **forged) == "front.not_held"
    assert code_of(anna.call, "train", round=1, previous=None) == "front.not_held"
    anna.call("held", **world.held)
    assert anna.call("train", round=1, previous=None)["samples"] == 12


def test_features_are_not_exchanged_after_the_commitment(world, anna, code_of):
    before = world.anna_file.read_bytes()
    changed = bytearray(before)
    changed[0] ^= 1  # the last bit of one number of the first row: within every tolerance
    world.anna_file.write_bytes(changed)
    assert code_of(anna.call, "train", round=2, previous=None) == "front.changed"
    world.anna_file.write_bytes(before)
    assert anna.call("train", round=2, previous=None)["samples"] == 12


def test_a_later_life_takes_no_other_features(world, anna, code_of):
    """Rounded the other way in one place: no sample would find it."""
    second = world.client("anna", load=False)
    file = spoilt(world, "anna", lambda words: words.__setitem__((0, 0), words[0, 0] ^ 1))
    committed = world.load(second, "anna", features=file)
    assert committed["features"] != world.committed["features"]
    assert code_of(world.introduce, world.agg, second, "anna", committed) == "front.another_commitment"
    second.stop()


def test_features_of_other_texts_are_found_by_the_sample_and_end_the_contribution(world, code_of):
    """All of them are 1.1 times as large: also to be trained with. Asking again draws nothing again."""
    berta = world.slices["berta"]

    def stretch(words):
        numbers = (words.astype(np.uint32) << 16).view(np.float32)
        words[:] = ((numbers * np.float32(1.1)).view(np.uint32) >> 16).astype("<u2")

    committed = world.load(berta, "berta", features=spoilt(world, "berta", stretch))
    world.admit(berta, world.evidence(world.agg, berta.call("challenge")["nonce"]))
    held = world.admitted(world.agg, berta, "berta", committed)
    for _ in range(2):
        assert code_of(berta.call, "held", **held) == "front.wrong_features"
        assert code_of(berta.call, "train", round=1, previous=None) == "front.wrong_features"


def test_an_update_of_layers_below_the_front_is_refused(world, anna, refusal_of):
    """By keys that this test holds, admitted as the site's slice."""
    rogue = world.rogue(world.agg, "anna", features=world.committed["features"])
    place = "base_model.model.bert.encoder.layer.{}.attention.self.query.lora_{}.weight"
    pair = {"A": np.zeros((4, WIDTH), np.float32), "B": np.zeros((WIDTH, 4), np.float32)}
    head = {"base_model.model.classifier.weight": np.zeros((2, WIDTH), np.float32)}
    scores = Scores(8, 8, 4, 1.0, ((2, 2), (2, 2)))
    for number, cause in ((0, "front.tuned_below"), (1, None)):
        state = head | {place.format(number, side): tensor for side, tensor in pair.items()}
        sha256 = world.contribute(world.agg, rogue, "anna", 1, Enclosed("0" * 64, 12, scores), state)
        asked = {"round": 1, "site": "anna", "sha256": sha256}
        if cause is None:
            assert world.agg.call("inspect", **asked)["samples"] == 12
        else:
            refused = refusal_of(world.agg.call, "inspect", **asked)
            assert (refused.code, refused.facts["cause"]) == ("round.bad_contribution", cause)


def test_an_accelerator_of_somebody_else_sees_no_features_in_clear(house, monkeypatch, refusal_of):
    def offered(accelerator):
        masking = Masking(accelerator=accelerator)
        return house.manifest(placement="masked", masking=masking, front=PublicFront(1))

    own = parse(canonical(offered("site")))
    refused = refusal_of(parse, canonical(offered("other")))
    assert refused.facts["fault"] == "a public front is for accelerators that are the sites' own"
    require_own(own)
    monkeypatch.setenv(PROGRAM, "python -m somebody_elses")
    assert refusal_of(require_own, own).code == "front.not_own_accelerator"
    monkeypatch.setenv(OWNER, "cloud")
    assert refusal_of(require_own, own).code == "front.not_own_accelerator"
    monkeypatch.setenv(OWNER, "site")
    require_own(own)


def test_a_life_that_was_admitted_before_an_old_state_came_has_no_features_of_its_own(code_of):
    """The host shows a fresh aggregator other features, then gives it the state in which the site is held to
    what it began with."""
    first, second = Peer("a", "1" * 64), Peer("b", "2" * 64)
    instances = SliceInstances(3)
    instances.count("anna", first.signing_key, "f" * 64)
    receipt = type("Receipt", (), {"instances": instances.published({"anna": first})})
    assert receipt.instances == (InstanceCount("anna", 1, first.signing_key, "f" * 64),)
    restored = SliceInstances(3)
    restored.count("anna", second.signing_key, "e" * 64)
    restored.restore(receipt)
    assert restored.recipients({"anna": second}) == restored.heirs({"anna": second}) == {}
    assert code_of(restored.may_contribute, "anna", (second,)) == "front.another_commitment"
    assert code_of(restored.require, "anna", "3" * 64, "e" * 64) == "front.another_commitment"
    restored.require("anna", "3" * 64, "f" * 64)
    assert restored.count("anna", "3" * 64, "f" * 64) == 3
