"""Serving: what a session answers, to whom, how much, and what its host can do to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pytest
import torch

from contracts.kept_keys import signing_key
from contracts.manifest import (
    Aggregation,
    DatasetRef,
    Manifest,
    ModelSpec,
    Release,
    Site,
    Spf,
    Split,
    Training,
)
from contracts.policy import Policy, SgxReference
from contracts.refusal import Refusal
from contracts.releases import SERVE, approve_release
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.session import ClientHello, SessionChannel, decode, encode
from contracts.serving_calls import ServeArguments, StepArguments, Stepped
from contracts.signing import SigningKey
from enclave.programs.clock import Clock
from enclave.programs.identity import Identity
from enclave.programs.serving import Serving, SessionLimits
from enclave.slicing.questions import (
    MAX_TEXTS,
    Drawing,
    TailAnswers,
    ask_about,
    ask_for_next,
    read_probabilities,
    read_token,
)
from enclave.slicing.split import Front, Session, Tail
from tests.slicing import small
from tests.support.approvals import approvals, release_approval
from tests.support.keys import approval_key

KEYS = {"anna": signing_key(b"\1" * 32), "berta": signing_key(b"\2" * 32)}
RECEIPT = "7" * 64
TEXTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [6, 6]]


def manifest(**changes: Any) -> Manifest:
    made = Manifest(
        version=1,
        run="run-1",
        study="Triage",
        purpose="",
        method="method-2",
        placement="all_in_tee",
        runtime="development",
        model=ModelSpec("tiny", "sequence-classification", {"config.json": "c" * 64}, ("a", "b", "c"), 16),
        adapter=Spf(25.0, 25.0),
        training=Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7),
        sites=tuple(
            Site(name, name.title(), key.public, approval_key(key).public, DatasetRef("notes", "0" * 64, 20))
            for name, key in KEYS.items()
        ),
        aggregation=Aggregation("fedavg", quorum=1, deadline_seconds=60),
        policy=Policy("development", "0" * 64, (SgxReference("split_server", mrenclave="1" * 64),)),
        release=Release("serve-only", 1),
        minimum_time=0,
        split=Split(1),
    )
    return msgspec.structs.replace(made, **changes)


CAUSAL = manifest(model=ModelSpec("tiny", "causal-lm", {"config.json": "c" * 64}, (), 16))


@dataclass
class House:
    """An enclave's serving part with real keys, and the site's front. No process: the relay is this test."""

    name: str = "bert"
    reported: Manifest = field(default_factory=manifest)
    limits: SessionLimits = field(default_factory=SessionLimits)
    now: float = 0.0
    signers: tuple[str, ...] = ("anna",)

    def __post_init__(self) -> None:
        head = "lm" if self.reported.model.task == "causal-lm" else "classifier"
        keys = HpkeKey.generate(), SigningKey.generate()
        # The source gives evidence, and nothing here asks for any.
        source: Any = None
        self.identity = Identity(
            "split_server", source, self.reported, self.reported.hash, Clock(0), *keys, "0" * 64,
            approvals(self.reported, KEYS),
        )  # fmt: skip
        self.whole = small.model(self.name, head)
        self.front = Front(small.model(self.name, head), 1)
        self.tail = Tail(small.model(self.name, head), 1)
        answers = TailAnswers(
            self.tail, self.reported.model, RECEIPT, several=self.reported.coded is not None
        )
        self.serving = Serving(self.identity, lambda: answers, self.limits, lambda: self.now)
        if self.signers:
            self.serving.begin(self.signatures(*self.signers))

    def signatures(self, *signers: str, receipt: str = RECEIPT, rule: str = SERVE) -> ServeArguments:
        """The orders of these hospitals, as their approval keys sign them."""
        given = {
            site: release_approval(self.reported, receipt, site, KEYS[site], rule=rule) for site in signers
        }
        return ServeArguments(receipt, given)

    def hello(self, site: str = "anna", key: SigningKey | None = None, receipt: str = RECEIPT) -> ClientHello:
        keys = {"hpke_key": self.identity.hpke.public, "signing_key": self.identity.signing.public}
        return ClientHello(self.reported.hash, site, key or KEYS[site], **keys, receipt=receipt)

    def enter(self, site: str = "anna") -> SessionChannel:
        asked = self.hello(site)
        reported = self.serving.open(asked.opening)
        return asked.finish(reported.session, decode(reported.proof))

    def ask(self, channel: SessionChannel, question: bytes, part: int = 1 << 19) -> bytes:
        """Send a question in parts; the opened answer."""
        for start in range(0, len(question), part):
            more = start + part < len(question)
            reply = self.send(channel, question[start : start + part], more)
        return channel.open(decode(reply.sealed))

    def send(self, channel: SessionChannel, content: bytes, more: bool = False) -> Stepped:
        return self.serving.step(self.message(channel, content, more))

    @staticmethod
    def message(channel: SessionChannel, content: bytes, more: bool = False) -> StepArguments:
        number = channel.sent
        return StepArguments(channel.name, number, encode(channel.seal(content, more=more)), more)


def code_of(act: Callable[[], Any]) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code


def question(house: House, texts: list[list[int]] = TEXTS) -> bytes:
    return ask_about(house.front, texts, 0)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_the_sealed_answer_is_the_whole_models_within_bf16(name: str) -> None:
    house = House(name)
    found = read_probabilities(house.ask(house.enter(), question(house)), len(TEXTS), 3)
    for text, row in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            logits = house.whole(torch.tensor([text]), attention_mask=torch.ones(1, len(text))).logits[0]
        assert sum(row) == pytest.approx(1, abs=2e-3)
        assert row == pytest.approx(logits.softmax(-1).tolist(), abs=0.06)
        assert all(chance * 1000 == pytest.approx(round(chance * 1000), abs=1e-4) for chance in row)


def test_where_a_text_may_have_several_labels_each_is_likely_for_itself() -> None:
    reported = manifest()
    kind = DatasetRef("notes", "0" * 64, 20, kind="text-labels")
    sites = tuple(msgspec.structs.replace(site, dataset=kind) for site in reported.sites)
    house = House(reported=msgspec.structs.replace(reported, sites=sites))
    found = read_probabilities(house.ask(house.enter(), question(house)), len(TEXTS), 3)
    for text, row in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            logits = house.whole(torch.tensor([text]), attention_mask=torch.ones(1, len(text))).logits[0]
        assert row == pytest.approx(logits.sigmoid().tolist(), abs=0.06)
        assert sum(row) != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "glm4"])
def test_a_decoder_streams_the_tokens_of_the_whole_model_fed_with_the_same_features(name: str) -> None:
    house = House(name, CAUSAL)
    channel, front = house.enter(), Session(house.front)
    tail, text = Session(Tail(small.model(name, "lm"), 1)), [5, 6, 7, 8]
    tokens, following = [], torch.tensor([text])
    for _ in range(6):
        features = front.step(following)[0].to(torch.bfloat16)
        token = read_token(house.ask(channel, ask_for_next(features, Drawing())), small.VOCABULARY)
        assert token == int(tail.step(features.float().unsqueeze(0))[0].argmax())
        tokens.append(token)
        following = torch.tensor([[token]])
    assert house.serving.meters().sites["anna"].tokens == len(text) + 5


@pytest.mark.parametrize("drawing", [Drawing(), Drawing("2.5", "7")])
def test_replaying_all_features_at_once_in_a_new_session_goes_on_with_the_same_tokens(
    drawing: Drawing,
) -> None:
    house = House("llama", CAUSAL)
    front, channel, fed, tokens = Session(house.front), house.enter(), [], []
    following = torch.tensor([[5, 6, 7]])
    for _ in range(6):
        fed.append(front.step(following)[0])
        tokens.append(read_token(house.ask(channel, ask_for_next(fed[-1], drawing)), small.VOCABULARY))
        following = torch.tensor([[tokens[-1]]])
    for lost_after in range(1, 6):
        again = house.enter()
        features = torch.cat(fed[:lost_after])
        token = read_token(house.ask(again, ask_for_next(features, drawing)), small.VOCABULARY)
        assert token == tokens[lost_after - 1]
        house.serving.close(again.name)


def test_a_drawn_token_depends_on_the_seed_alone() -> None:
    house = House("gpt2", CAUSAL)
    features = Session(house.front).step(torch.tensor([[5, 6, 7]]))[0]

    def draw(seed: int) -> int:
        channel = house.enter()
        answer = house.ask(channel, ask_for_next(features, Drawing("3.0", str(seed))))
        house.serving.close(channel.name)
        return read_token(answer, small.VOCABULARY)

    assert [draw(seed) for seed in range(5)] == [draw(seed) for seed in range(5)]
    assert len({draw(seed) for seed in range(20)}) > 1


def test_a_token_is_drawn_from_the_likeliest_that_have_so_much_of_the_probability() -> None:
    house = House("gpt2", CAUSAL)
    features = Session(house.front).step(torch.tensor([[5, 6, 7]]))[0]
    tail = Session(house.tail).step(features.to(torch.bfloat16).float().unsqueeze(0))[0]
    likely = (tail / 3).softmax(-1).sort(descending=True)
    few = int((likely.values.cumsum(-1) < 0.25).sum()) + 1

    def drawn(top_p: str, temperature: str = "3.0") -> set[int]:
        found = set()
        for seed in range(40):
            channel = house.enter()
            asked = ask_for_next(features, Drawing(temperature, str(seed), top_p))
            found.add(read_token(house.ask(channel, asked), small.VOCABULARY))
            house.serving.close(channel.name)
        return found

    assert drawn("0.000000") == {int(tail.argmax())}
    assert len(drawn("0.25")) > 1 and drawn("0.25") <= set(likely.indices[:few].tolist())
    assert len(drawn("1")) > few
    assert code_of(lambda: drawn("1.5")) == "serving.bad_question"


def test_a_question_comes_in_parts_and_only_the_last_is_answered() -> None:
    house = House()
    channel, asked = house.enter(), question(house)
    assert house.send(channel, asked[:100], more=True).sealed is None
    reply = house.send(channel, asked[100:])
    assert (reply.texts, reply.tokens) == (4, 11)
    whole = house.ask(house.enter(), asked)
    assert channel.open(decode(reply.sealed)) == whole


def test_a_repeated_message_gets_the_same_sealed_answer_and_is_answered_once() -> None:
    house = House()
    channel = house.enter()
    message = house.message(channel, question(house))
    first = house.serving.step(message)
    assert house.serving.step(message) == first
    assert house.serving.meters().sites["anna"].questions == 1


def test_an_older_or_later_message_is_refused_by_its_number_and_a_changed_one_by_its_tag() -> None:
    house = House()
    channel = house.enter()
    messages = [house.message(channel, question(house)) for _ in range(3)]
    step = house.serving.step
    assert code_of(lambda: step(messages[1])) == "serving.out_of_order"
    step(messages[0])
    step(messages[1])
    assert code_of(lambda: step(messages[0])) == "serving.out_of_order"
    renumbered = msgspec.structs.replace(messages[0], number=2)
    cut = msgspec.structs.replace(messages[2], sealed=encode(decode(messages[2].sealed)[:-3]))
    joined = msgspec.structs.replace(messages[2], more=True)
    garbled = msgspec.structs.replace(messages[2], sealed="%%")
    for wrong in (renumbered, cut, joined, garbled):
        assert code_of(lambda wrong=wrong: step(wrong)) == "serving.bad_message"
    assert step(messages[2]).sealed


def test_a_message_for_one_session_is_refused_in_another() -> None:
    house = House()
    one, other = house.enter("anna"), house.enter("berta")
    message = house.message(one, question(house))
    moved = msgspec.structs.replace(message, session=other.name)
    assert code_of(lambda: house.serving.step(moved)) == "serving.bad_message"


def test_only_a_site_of_the_manifest_with_its_own_key_opens_a_session() -> None:
    house = House()
    stranger = SigningKey.generate()
    assert (
        code_of(lambda: house.serving.open(house.hello("carol", stranger).opening)) == "manifest.unknown_site"
    )
    assert code_of(lambda: house.serving.open(house.hello("anna", stranger).opening)) == "serving.bad_opening"
    assert (
        code_of(lambda: house.serving.open(house.hello("anna", KEYS["berta"]).opening))
        == "serving.bad_opening"
    )


def test_the_release_rule_nothing_serves_nobody() -> None:
    for rule, allowed in (
        ("nothing", False),
        ("serve-only", True),
        ("sealed-to-sites", True),
        ("export", True),
    ):
        signers = ("anna",) if allowed else ()
        house = House(reported=manifest(release=Release(rule, 1)), signers=signers)  # type: ignore[arg-type]
        if allowed:
            house.enter()
        else:
            assert code_of(house.enter) == "serving.not_signed"
            begin = partial(house.serving.begin, ServeArguments(RECEIPT, {}))
            assert code_of(begin) == "serving.not_allowed"


def test_nothing_is_answered_before_as_many_hospitals_have_signed_as_the_manifest_says() -> None:
    house = House(reported=manifest(release=Release("serve-only", 2)), signers=())
    assert code_of(house.enter) == "serving.not_signed"
    assert code_of(lambda: house.serving.begin(house.signatures("anna"))) == "release.too_few"
    assert code_of(house.enter) == "serving.not_signed"
    house.serving.begin(house.signatures("anna", "berta"))
    house.enter()


def test_an_order_for_other_parameters_another_study_or_another_use_is_not_counted() -> None:
    house = House(reported=manifest(release=Release("export", 1)), signers=())
    begin = house.serving.begin
    assert code_of(lambda: begin(house.signatures("anna", receipt="8" * 64))) == "release.wrong_receipt"
    # The same hospital's order to export these parameters lets nobody ask them.
    assert code_of(lambda: begin(house.signatures("anna", rule="export"))) == "release.bad_approval"
    other = House(reported=manifest(study="Another", release=Release("export", 1)), signers=())
    assert code_of(lambda: begin(other.signatures("anna"))) == "release.bad_approval"
    # What its agent signs is no person's word, and a stranger has none.
    known = ("anna", "berta")
    forged = approve_release(house.reported, RECEIPT, "anna", KEYS["anna"], known, rule=SERVE)
    assert code_of(lambda: begin(ServeArguments(RECEIPT, {"anna": forged}))) == "approval.online_key"
    given = house.signatures("anna").release_approvals["anna"]
    assert code_of(lambda: begin(ServeArguments(RECEIPT, {"carol": given}))) == "manifest.unknown_site"
    assert code_of(house.enter) == "serving.not_signed"


def test_a_site_gets_so_many_answers_as_the_manifest_says_over_all_its_sessions() -> None:
    house = House(reported=manifest(release=Release("serve-only", 1, answers=6)))
    first = house.enter()
    house.ask(first, question(house))
    house.serving.close(first.name)
    again = house.enter()
    assert code_of(lambda: house.ask(again, question(house))) == "serving.quota"
    assert house.serving.meters().sites["anna"].texts == len(TEXTS) == 4, "what is refused is not counted"
    house.ask(house.enter(), question(house, TEXTS[:2]))
    last = house.enter()
    assert code_of(lambda: house.ask(last, question(house, TEXTS[:1]))) == "serving.quota"
    house.ask(house.enter("berta"), question(house))


def test_each_token_that_is_written_is_an_answer() -> None:
    reported = msgspec.structs.replace(CAUSAL, release=Release("serve-only", 1, answers=2))
    house = House("llama", reported)
    features = Session(house.front).step(torch.tensor([[5, 6, 7]]))[0]
    for _ in range(2):
        house.ask(house.enter(), ask_for_next(features, Drawing()))
    third = house.enter()
    assert code_of(lambda: house.ask(third, ask_for_next(features, Drawing()))) == "serving.quota"


def test_a_revoked_site_loses_its_sessions_and_others_keep_theirs() -> None:
    house = House()
    anna, berta = house.enter("anna"), house.enter("berta")
    house.serving.revoke(["anna"])
    assert code_of(lambda: house.ask(anna, question(house))) == "serving.unknown_session"
    assert code_of(lambda: house.enter("anna")) == "serving.revoked"
    house.ask(berta, question(house))
    house.serving.revoke([])
    house.ask(house.enter("anna"), question(house))


def test_sessions_messages_and_bytes_of_a_site_are_limited_and_idle_sessions_end() -> None:
    house = House(limits=SessionLimits(sessions=2, messages=2, bytes=50_000, idle=60.0))
    first, second = house.enter(), house.enter()
    assert code_of(house.enter) == "serving.too_many_sessions"
    house.enter("berta")
    house.ask(first, question(house))
    house.ask(first, question(house))
    assert code_of(lambda: house.ask(first, question(house))) == "serving.limit"
    assert code_of(lambda: house.send(second, b"0" * 60_000)) == "serving.limit"
    house.now = 61.0
    assert code_of(lambda: house.ask(second, question(house))) == "serving.unknown_session"
    house.enter()


BAD: dict[str, Callable[[torch.Tensor], dict[str, torch.Tensor]]] = {
    "other width": lambda f: {"features": f[:, :-1].contiguous(), "lengths": torch.tensor([len(f)])},
    "other type": lambda f: {"features": f.float(), "lengths": torch.tensor([len(f)])},
    "no number": lambda f: {"features": f * float("nan"), "lengths": torch.tensor([len(f)])},
    "lengths too long": lambda f: {"features": f, "lengths": torch.tensor([len(f) + 1])},
    "lengths too short": lambda f: {"features": f, "lengths": torch.tensor([1])},
    "a length of nothing": lambda f: {"features": f, "lengths": torch.tensor([0, len(f)])},
    "a negative length": lambda f: {"features": f, "lengths": torch.tensor([-1, len(f) + 1])},
    "no lengths": lambda f: {"features": f},
    "one more part": lambda f: {"features": f, "lengths": torch.tensor([len(f)]), "labels": f.clone()},
    "too many texts": lambda f: {
        "features": f[:1].repeat(MAX_TEXTS + 1, 1),
        "lengths": torch.ones(MAX_TEXTS + 1),
    },
    "longer than the model reads": lambda f: {
        "features": f[:1].repeat(17, 1),
        "lengths": torch.tensor([17]),
    },
}


@pytest.mark.parametrize("fault", BAD)
def test_a_forged_question_is_refused_by_its_code_and_the_session_goes_on(fault: str) -> None:
    from safetensors.torch import save

    house = House()
    channel = house.enter()
    features = torch.randn(5, 24).to(torch.bfloat16)
    tensors = BAD[fault](features)
    if "lengths" in tensors:
        tensors["lengths"] = tensors["lengths"].to(torch.int32)
    code = code_of(lambda: house.ask(channel, save(tensors)))
    assert code == ("serving.limit" if fault == "too many texts" else "serving.bad_question")
    assert code_of(lambda: house.ask(channel, b"\xff" * 50)) == "serving.bad_question"
    house.ask(channel, question(house))


def test_a_text_longer_than_the_decoder_reads_is_refused_and_the_session_goes_on() -> None:
    house = House("gpt2", CAUSAL)
    channel, features = house.enter(), torch.randn(40, 24)
    house.ask(channel, ask_for_next(features, Drawing()))
    assert code_of(lambda: house.ask(channel, ask_for_next(features, Drawing()))) == "split.too_long"
    house.ask(channel, ask_for_next(features[:3], Drawing()))


def test_the_host_is_told_counts_and_nothing_else() -> None:
    house = House()
    channel = house.enter()
    reply = house.send(channel, question(house))
    assert set(msgspec.to_builtins(reply)) == {"number", "sealed", "texts", "tokens"}
    meter = house.serving.meters()
    assert meter.open == 1
    counted = msgspec.to_builtins(meter.sites["anna"])
    assert counted.keys() == {"sessions", "questions", "texts", "tokens", "bytes"}
    assert len(decode(reply.sealed)) == 4 * 3 * len(TEXTS) + 16
