"""Tuned parameters leave a server enclave when the sites have signed for it, and load without FedSlice."""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
import torch

from contracts.manifest import Aggregation, Lora, Prefix, PublicFront, Release, Training
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from contracts.refusal import Refusal
from contracts.release_check import check_release, parse_release
from contracts.releases import KIND
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.package import ADAPTER, HEAD, README, ROWS, unpack
from contracts.sealed.stream import Binding, unseal
from enclave.slicing.halves import open_front
from tests.programs.conftest import DATASET_KEY
from tests.programs.own_slices import OwnSlices
from tests.programs.split_house import SPF, SplitRun, split_manifest
from tests.support.approvals import approvals, release_approval

pytestmark = pytest.mark.enosys

SITES = ("anna", "berta")
TRAINING = Training(rounds=1, local_epochs=2, batch_size=4, learning_rate=0.01, seed=7)


class Finished:
    """A run that is over, and its aggregator."""

    def __init__(self, world) -> None:
        self.world, self.manifest = world, world.manifest
        self.aggregator = world.aggregator()
        if world.manifest.front is None:
            self.results = OwnSlices(world, self.aggregator).whole_run()
        else:  # what a slice commits to, and looks at, is its own affair
            clients = {site: world.client(site, self.aggregator) for site in SITES}
            self.results = world.whole_run(self.aggregator, clients)
        self.receipt = receipt_hash(parse_receipt(self.results[-1]["receipt"]).receipt)
        self.state = world.parameters(self.aggregator, self.results[-1]["state"]["sha256"])
        self.keys = {site: HpkeKey.generate() for site in SITES}

    def release_approvals(self, *sites, receipt=None, **signers):
        """Orders of these sites; a name given as a keyword signs in place of a site."""
        made = {}
        for site in sites:
            key = self.world.house.site_keys[signers.get(site, site)]
            made[site] = release_approval(
                self.manifest, receipt or self.receipt, site, key, self.keys[site].public
            )
        return made

    def ask(self, release_approvals, receipt=None, enclave=None):
        return (enclave or self.aggregator).call(
            "release",
            receipt=receipt or self.receipt,
            release_approvals=msgspec.to_builtins(release_approvals),
            model=str(self.world.house.model),
        )

    def opened(self, answer, site) -> bytes:
        signed = parse_release(answer["release"])
        plain, round = BytesIO(), self.manifest.last_round
        with self.aggregator.mailbox.collect(answer["output"]["sha256"]).open("rb") as file:
            unseal(file, plain, binding=Binding(self.manifest.hash, round, KIND, "aggregator"),
                   recipient=site, key=self.keys[site], sender_key=signed.signing_key)  # fmt: skip
        return plain.getvalue()


@pytest.fixture(scope="module")
def sealed(house, tmp_path_factory, consortium_class):
    manifest = house.manifest(release=Release("sealed-to-sites", 2), training=TRAINING)
    world = consortium_class(house, tmp_path_factory.mktemp("sealed") / "run", manifest)
    yield Finished(world)
    world.close()


def loaded(files, base, folder):
    """The model that the package's own README says how to load."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    recipe = re.search(r"```python\n(.*?)```", files[README].decode(), re.S)[1]
    names = {"base": str(base)}
    before = Path.cwd()
    os.chdir(folder)
    try:
        torch.manual_seed(99)  # a head that the package does not bring would be drawn, and seen
        exec(recipe, names)
    finally:
        os.chdir(before)
    return names["model"].eval()


def texts(house):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(house.model)
    return dict(
        tokenizer(["patient with chest pain", "a travel letter of today"], padding=True, return_tensors="pt")
    )


def answers(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def of_the_enclave(finished, inputs):
    """What the run's own model answers with its last parameters."""
    from enclave.programs.learner import load_learner

    world, house, front = finished.world, finished.world.house, finished.manifest.front
    features = None if front is None else world.features("anna")
    learner = load_learner(
        finished.manifest, "anna", house.model, house.rows["anna"], DATASET_KEY, features=features
    )
    learner.start_from(finished.state)
    if front is not None:
        below, _ = open_front(house.model, finished.manifest.model, front.first)
        mask = inputs["attention_mask"]
        inputs = {"features": below(inputs["input_ids"], mask), "attention_mask": mask}
    return answers(learner.model, inputs)


def test_each_site_that_signed_opens_an_adapter_that_plain_peft_loads(sealed, tmp_path):
    answer = sealed.ask(sealed.release_approvals(*SITES))
    signed = parse_release(answer["release"])
    given = approvals(sealed.manifest, sealed.world.house.site_keys)
    check_release(signed, sealed.manifest, sealed.receipt, sealed.release_approvals(*SITES), given)
    assert signed.signing_key == sealed.aggregator.call("evidence", nonce="0" * 64)["claims"]["signing_key"]
    assert signed.released.output == answer["output"]["sha256"]

    package = sealed.opened(answer, "anna")
    assert sealed.opened(answer, "berta") == package
    files, inputs = unpack(package), texts(sealed.world.house)
    wanted = of_the_enclave(sealed, inputs)
    model = loaded(files, sealed.world.house.model, tmp_path / "adapter")
    assert type(model).__module__.startswith("peft")
    torch.testing.assert_close(answers(model, inputs), wanted, rtol=0, atol=1e-6)
    base = answers(model.unload(), inputs)
    assert (base - wanted).abs().max() > 1e-3, "the adapter makes no difference"

    secret = next(t for n, t in sealed.state.items() if "lora_B" in n).tobytes()[:64]
    assert secret in package
    assert secret not in sealed.aggregator.mailbox.collect(answer["output"]["sha256"]).read_bytes()
    with pytest.raises(Refusal, match=r"sealing\.refused|open"):
        sealed.keys["anna"], kept = HpkeKey.generate(), sealed.keys["anna"]
        try:
            sealed.opened(answer, "anna")
        finally:
            sealed.keys["anna"] = kept


def test_the_host_alone_gets_nothing_out(sealed, code_of):
    both = sealed.release_approvals(*SITES)
    assert code_of(sealed.ask, {}) == "release.too_few"
    assert code_of(sealed.ask, {"anna": both["anna"]}) == "release.too_few"
    assert code_of(sealed.ask, sealed.release_approvals(*SITES, berta="anna")) == "release.bad_approval"
    swapped = {"anna": both["anna"], "berta": both["anna"]}
    assert code_of(sealed.ask, swapped) == "release.bad_approval"
    mine = msgspec.structs.replace(both["berta"], hpke_key=HpkeKey.generate().public)
    assert code_of(sealed.ask, both | {"berta": mine}) == "release.bad_approval", "a copy to the host's key"
    assert code_of(sealed.ask, both | {"clara": both["anna"]}) == "manifest.unknown_site"
    earlier = receipt_hash(parse_receipt(sealed.results[0]["receipt"]).receipt)
    assert code_of(sealed.ask, sealed.release_approvals(*SITES, receipt=earlier)) == "release.bad_approval"
    assert (
        code_of(sealed.ask, sealed.release_approvals(*SITES, receipt=earlier), earlier)
        == "release.wrong_receipt"
    )


def test_a_restarted_aggregator_releases_only_with_the_last_state(sealed, code_of):
    world, both = sealed.world, sealed.release_approvals(*SITES)
    fresh = world.aggregator()
    assert code_of(sealed.ask, both, enclave=fresh) == "release.no_state"
    for older, code in ((-3, "release.unfinished"), (-2, "release.wrong_receipt")):
        state = sealed.results[older]["state"]["sha256"]
        fresh = world.aggregator()
        world.move(state, sealed.aggregator, fresh)
        fresh.call("restore", state=state)
        assert code_of(sealed.ask, both, enclave=fresh) == code
    again = world.aggregator()
    world.move(sealed.results[-1]["state"]["sha256"], sealed.aggregator, again)
    again.call("restore", state=sealed.results[-1]["state"]["sha256"])
    answer = sealed.ask(both, enclave=again)
    first = parse_release(sealed.ask(both)["release"]).released.package
    assert parse_release(answer["release"]).released.package == first, "the package is the same to the byte"


@pytest.mark.parametrize("rule", ["nothing", "serve-only"])
def test_a_rule_that_lets_nothing_out_lets_nothing_out(consortium, rule, code_of):
    aggregator = consortium(release=Release(rule, 1)).aggregator()
    asked = {"receipt": "0" * 64, "release_approvals": {}, "model": "."}
    assert code_of(aggregator.call, "release", **asked) == "program.unknown_operation"


def test_an_unfinished_run_releases_nothing(consortium, code_of):
    training = msgspec.structs.replace(TRAINING, rounds=2)
    world = consortium(release=Release("export", 1), training=training)
    aggregator = world.aggregator()
    result = OwnSlices(world, aggregator).round(1)
    receipt = receipt_hash(parse_receipt(result["receipt"]).receipt)
    order = release_approval(world.manifest, receipt, "anna", world.house.site_keys["anna"])
    asked = {"receipt": receipt, "release_approvals": {"anna": msgspec.to_builtins(order)}, "model": "."}
    assert code_of(aggregator.call, "release", **asked) == "release.unfinished"


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": Prefix(4)},
        {"adapter": Lora(4, 8, ("query", "value"), dropout=0.25, rslora=True)},
        {
            "adapter": Lora(4, 8, ("query",)),
            "aggregation": Aggregation("stack-svd", 2, 60),
            "front": PublicFront(1, sample=2),
        },
    ],
    ids=["prefix", "dropout and rsLoRA", "stack-svd behind a public front"],
)
def test_an_exported_adapter_gives_the_predictions_of_the_enclaves(consortium, changes, tmp_path, code_of):
    finished = Finished(consortium(release=Release("export", 1), training=TRAINING, **changes))
    order = release_approval(
        finished.manifest, finished.receipt, "anna", finished.world.house.site_keys["anna"]
    )
    answer = finished.ask({"anna": order})
    package = finished.aggregator.mailbox.collect(answer["output"]["sha256"]).read_bytes()
    assert parse_release(answer["release"]).released.package == answer["output"]["sha256"]
    files, inputs = unpack(package), texts(finished.world.house)
    assert (HEAD in files) == isinstance(finished.manifest.adapter, Prefix) and ADAPTER in files
    model = loaded(files, finished.world.house.model, tmp_path / "adapter")
    torch.testing.assert_close(answers(model, inputs), of_the_enclave(finished, inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "spf", [SPF, msgspec.structs.replace(SPF, dropout=0.25, rslora=True)], ids=["plain", "dropout and rsLoRA"]
)
def test_rows_that_a_tail_has_tuned_merge_into_the_plain_model(house, tmp_path, consortium_class, spf):
    from enclave.slicing.models import load
    from enclave.slicing.split import Front

    manifest = split_manifest(house, release=Release("export", 2), training=TRAINING, adapter=spf)
    world = consortium_class(house, tmp_path / "run", manifest)
    try:
        run = SplitRun(world, tmp_path)
        for site in SITES:
            (tmp_path / site).mkdir(exist_ok=True)
        server = run.server()
        for site in SITES:
            run.join(server, site)
        run.rounds(server)
        receipt = receipt_hash(parse_receipt(run.results[-1]["receipt"]).receipt)
        signatures = {
            site: release_approval(manifest, receipt, site, house.site_keys[site]) for site in SITES
        }
        asked = {
            "receipt": receipt,
            "release_approvals": msgspec.to_builtins(signatures),
            "model": str(house.model),
        }
        answer = server.call("release", **asked)
        files = unpack(server.mailbox.collect(answer["output"]["sha256"]).read_bytes())
        assert ROWS in files and ADAPTER not in files
        model, inputs = loaded(files, house.model, tmp_path / "merged"), texts(house)
        found = answers(model, inputs).softmax(-1)
        plain, _ = load(house.model, manifest.model)
        features = Front(plain, 1)(inputs["input_ids"], inputs["attention_mask"])
        assert features.shape[0] == len(found)
        torch.testing.assert_close(found, served(run, server, house, inputs), rtol=0, atol=2e-3)
    finally:
        world.close()


def served(run, server, house, inputs):
    """The split server's own answers to the same texts, through a session."""
    from contracts.sealed.session import ClientHello, decode, encode
    from enclave.slicing.models import load
    from enclave.slicing.questions import ask_about, read_probabilities
    from enclave.slicing.split import Front

    run.order(server)
    claims = server.call("evidence", nonce="0" * 64)["claims"]
    keys = {"hpke_key": claims["hpke_key"], "signing_key": claims["signing_key"], "receipt": run.last}
    hello = ClientHello(run.manifest.hash, "anna", house.site_keys["anna"], **keys)
    reported = server.call("open", opening=msgspec.to_builtins(hello.opening))
    channel = hello.finish(reported["session"], decode(reported["proof"]))
    model, tokenizer = load(house.model, run.manifest.model)
    tokens = [row[mask.bool()].tolist() for row, mask in
              zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]  # fmt: skip
    asked = ask_about(Front(model, 1), tokens, tokenizer.pad_token_id)
    reply = server.call("step", session=channel.name, number=channel.sent, sealed=encode(channel.seal(asked)))
    return torch.tensor(read_probabilities(channel.open(decode(reply["sealed"])), len(tokens), 2))
