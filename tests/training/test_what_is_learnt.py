"""What a row teaches: pairs are read together, and of a conversation the answers alone are learnt, to their
end."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from contracts.rows import ChatMessage, Messages, PairLabel, PromptResponse, Role, WholeText
from enclave.slicing.adapters import adapt
from enclave.slicing.models import load
from enclave.slicing.split import Front
from enclave.training import rates
from enclave.training.conversations import PLAIN, Template
from enclave.training.data import IGNORED, Examples, collate
from enclave.training.loop import batch_logits, batch_loss, evaluate, train
from enclave.training.row_reader import encode
from enclave_host.base_models import EMBEDDED, resolve
from site_agent.methods.shard_making import compute
from tests.training.tiny import LLAMA_ADAPTER, PAIRS, QUESTIONS, causal_spec, classifier_spec, pin, settings

Chat = tuple[PreTrainedTokenizerBase, ModelSpec]


@pytest.fixture
def chat(chat_folder: Path) -> Chat:
    spec = causal_spec(chat_folder, template="model", max_tokens=32)
    return load(chat_folder, spec)[1], spec


def said(examples: Examples, tokenizer: PreTrainedTokenizerBase, row: int = 0) -> tuple[str, str]:
    """(all that a row gives, what is learnt of it), as words."""
    learnt = [token for token in examples.targets[row] if token != IGNORED]  # type: ignore[union-attr]
    return tokenizer.decode(examples.tokens[row]), tokenizer.decode(learnt)


def messages(*turns: tuple[Role, str]) -> Messages:
    return Messages(tuple(ChatMessage(role, content) for role, content in turns), "train")


def test_the_prompt_is_given_and_the_answer_learnt_with_its_end(chat: Chat) -> None:
    examples = encode([PromptResponse("what is fever cough", "infection", "train")], *chat)
    assert said(examples, chat[0]) == (
        "<|im_start|> user what is fever cough <|im_end|> <|im_start|> assistant infection <|im_end|>",
        "infection <|im_end|>",
    )
    batch = collate(examples, [0])
    assert torch.equal(batch.targets != IGNORED, (batch.targets == batch.input_ids))


def test_of_many_turns_what_the_assistant_says_is_learnt(chat: Chat) -> None:
    row = messages(("system", "mild"), ("user", "fever"), ("assistant", "infection"), ("user", "knee"),
                   ("assistant", "injury"), ("user", "sugar"))  # fmt: skip
    whole, learnt = said(encode([row], *chat), chat[0])
    assert learnt == "infection <|im_end|> injury <|im_end|>"
    assert whole.startswith("<|im_start|> system mild <|im_end|>")
    assert whole.endswith("injury <|im_end|>"), "what is never answered teaches nothing"


def test_a_text_is_learnt_whole_and_ends(chat: Chat) -> None:
    examples = encode([WholeText("fever cough", "train"), WholeText("fever", "train")], *chat)
    assert said(examples, chat[0]) == ("fever cough <|im_end|>",) * 2
    assert said(examples, chat[0], 1) == ("fever <|im_end|>",) * 2


def test_a_text_of_one_token_that_nothing_predicts_is_left_out(llama_folder: Path) -> None:
    spec = causal_spec(llama_folder)  # its tokenizer knows no end
    tokenizer = load(llama_folder, spec)[1]
    examples = encode([WholeText("fever", "train"), WholeText("fever cough", "train")], tokenizer, spec)
    assert (len(examples), examples.left_out) == (1, 1)
    with pytest.raises(Refusal) as caught:
        encode([WholeText("fever", "train")], tokenizer, spec)
    assert caught.value.code == "rows.nothing_learnt"


def test_a_long_question_loses_its_middle_and_the_answer_stays(chat: Chat) -> None:
    tokenizer, spec = chat
    row = PromptResponse("what " + "fever " * 40 + "is", "infection injury", "train")
    examples = encode([row, QUESTIONS[0]], tokenizer, spec)
    whole, learnt = said(examples, tokenizer)
    assert (len(examples.tokens[0]), examples.cut, examples.left_out) == (32, 1, 0)
    assert whole.startswith("<|im_start|> user what fever") and "fever is <|im_end|>" in whole
    assert learnt == "infection injury <|im_end|>"


def test_an_answer_that_is_too_long_loses_its_end_and_does_not_learn_to_stop_there(chat: Chat) -> None:
    examples = encode([PromptResponse("fever", "infection " * 50, "train")], *chat)
    assert said(examples, chat[0])[1] == " ".join(["infection"] * (32 - 6))
    assert examples.cut == 1


TURN = "{{ m.role }} {{ m.content }}\n"
ANSWER = "{{ 'assistant ' if add_generation_prompt }}"
THOUGHT = "{{ m.role }} {{ 'mild ' if loop.last and m.role == 'assistant' }}{{ m.content }}\n"


@pytest.mark.parametrize(
    ("turn", "answer", "learnt"),
    [
        (TURN, ANSWER, "rash injury <|im_end|>"),
        # As Qwen3's: what was said before is rendered otherwise once more follows.
        (THOUGHT, ANSWER, "mild injury <|im_end|>"),
        (TURN, ANSWER.replace("assistant", "user"), "unfit"),
    ],
)
def test_a_template_without_an_end_gets_one_and_one_that_changes_its_past_teaches_the_last_answer(
    chat: Chat, turn: str, answer: str, learnt: str
) -> None:
    tokenizer, spec = chat
    tokenizer.chat_template = "{% for m in messages %}" + turn + "{% endfor %}" + answer
    row = messages(("user", "fever"), ("assistant", "rash"), ("user", "knee"), ("assistant", "injury"))
    if learnt == "unfit":
        with pytest.raises(Refusal) as caught:
            encode([row], tokenizer, spec)
        assert caught.value.code == "template.unfit"
        return
    assert said(encode([row], tokenizer, spec), tokenizer)[1] == learnt


def test_the_plain_template_is_for_models_without_one(chat: Chat) -> None:
    tokenizer, _ = chat
    turns = [ChatMessage("system", "mild"), ChatMessage("user", "fever"), ChatMessage("assistant", "rash")]
    assert "".join(piece.text for piece in Template(tokenizer, "plain").pieces(turns)) == (
        "<|im_start|>### Instruction:\nmild\n\n### Question:\nfever\n\n### Answer:\nrash<|im_end|>\n\n"
    )
    tokenizer.chat_template = None
    for which in (None, "model", "other"):
        with pytest.raises(Refusal) as caught:
            Template(tokenizer, which)
        assert caught.value.code == "template.missing"
    assert PLAIN.count("endfor") == 1


def test_a_conversation_that_the_template_refuses_is_named_by_its_roles_alone(chat: Chat) -> None:
    tokenizer, spec = chat
    tokenizer.chat_template = "{{ raise_exception('no: ' ~ messages[0].content) }}"
    with pytest.raises(Refusal) as caught:
        encode([messages(("system", "canary"), ("assistant", "rash"))], tokenizer, spec)
    assert (caught.value.code, caught.value.facts) == ("template.refuses", {"roles": "system"})
    assert "canary" not in str(caught.value)


def test_every_day_renders_the_same(chat: Chat) -> None:
    tokenizer, _ = chat
    tokenizer.chat_template = (
        "{{ date_string }} {{ strftime_now('%d %b %Y') }} {% for m in messages %}{{ m.content }} {% endfor %}"
    )
    assert (
        Template(tokenizer, "model").render([ChatMessage("user", "x")], False) == "26 Jul 2024 26 Jul 2024 x "
    )


def test_a_tokenizer_without_an_end_teaches_no_answers(llama_folder: Path) -> None:
    spec = causal_spec(llama_folder, template="plain")
    with pytest.raises(Refusal) as caught:
        encode(QUESTIONS, load(llama_folder, spec)[1], spec)
    assert caught.value.code == "rows.no_end"


def test_a_decoder_that_is_tuned_on_answers_stops_where_they_end_and_has_learnt_no_prompt(
    chat_folder: Path, chat: Chat
) -> None:
    tokenizer, spec = chat
    base, _ = load(chat_folder, spec)
    model = adapt(base, LLAMA_ADAPTER, 7)
    examples = encode(QUESTIONS, tokenizer, spec)

    def answers() -> list[str]:
        found = []
        for row in QUESTIONS:
            prompt = Template(tokenizer, "model").render([ChatMessage("user", row.prompt)], answering=True)
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            for _ in range(6):
                with torch.no_grad():
                    ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] == tokenizer.eos_token_id:
                    found.append(tokenizer.decode(ids).split("assistant ")[-1])
                    break
        return found

    def of_prompts() -> float:
        given = Examples(
            examples.tokens, [ids[:4] + [IGNORED] * (len(ids) - 4) for ids in examples.tokens], 0
        )
        return rates.loss(evaluate(model, given, labels=0))

    wanted = [f"{row.response} <|im_end|>" for row in QUESTIONS]
    before, prompts = evaluate(model, examples, labels=0), of_prompts()
    assert answers() != wanted
    train(model, examples, settings(local_epochs=30, learning_rate=0.05), round=1, site="a")
    after = evaluate(model, examples, labels=0)
    assert answers() == wanted
    assert (after.rows, after.predictions) == (12, 24), "an answer is a word and its end"
    assert (after.exact, after.ended) == (12, 12) and before.exact == 0
    assert math.exp(rates.loss(after)) < 3 < math.exp(rates.loss(before))
    assert of_prompts() > 0.8 * prompts, "nothing of what was given has been learnt"


def test_a_vocabulary_is_scored_at_answers_alone_with_the_loss_of_all_places(
    chat_folder: Path, chat: Chat
) -> None:
    tokenizer, spec = chat
    base, _ = load(chat_folder, spec)
    examples = encode(QUESTIONS, tokenizer, spec)
    batch = collate(examples, [0, 5, 2])
    with torch.no_grad():
        found = batch_logits(base, batch, torch.device("cpu"))
        whole = base(**batch.inputs).logits
    learnt = (batch.targets != IGNORED).any(0)
    assert found.shape[1] == int(learnt[1:].sum()) < whole.shape[1] - 2
    expected = cross_entropy(whole[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten())
    loss, guesses, targets = batch_loss(found, batch)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert targets.tolist() == [t for row in batch.targets[:, 1:].tolist() for t in row if t != IGNORED]
    assert len(guesses) == len(targets)


def test_exact_matches_and_stops_are_those_of_writing_the_likeliest_token(
    chat_folder: Path, chat: Chat
) -> None:
    """Counted in one pass over the true answers, without writing one."""
    tokenizer, spec = chat
    base, _ = load(chat_folder, spec)
    model = adapt(base, LLAMA_ADAPTER, 7)
    rows = [
        *QUESTIONS,
        *(PromptResponse(row.prompt, f"{row.response} mild", "train") for row in QUESTIONS[:4]),
    ]
    examples = encode(rows, tokenizer, spec)

    @torch.no_grad()
    def written(ids: list[int], steps: int) -> list[int]:
        for _ in range(steps):
            ids = [*ids, int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
        return ids

    def by_writing() -> tuple[int, int]:
        exact = ended = 0
        for tokens, targets in zip(examples.tokens, examples.targets, strict=True):
            first = next(place for place, target in enumerate(targets) if target != IGNORED)
            exact += written(tokens[:first], len(tokens) - first) == tokens
            ended += written(tokens[:-1], 1) == tokens
        return exact, ended

    seen = set()
    for epochs in (0, 2, 2, 2, 10):
        if epochs:
            train(model, examples, settings(local_epochs=epochs, learning_rate=0.05), round=1, site="a")
        found = evaluate(model, examples, labels=0)
        assert (found.exact, found.ended) == by_writing()
        seen |= {found.exact, found.ended}
    assert len(seen) > 2, "some of these models write some of the answers and not all"


PAIR = PairLabel("fever", "cough", "injury", "train")


@pytest.fixture(scope="module")
def minilm() -> tuple[Any, PreTrainedTokenizerBase, ModelSpec]:
    folder = resolve(EMBEDDED)
    spec = classifier_spec(folder, source=EMBEDDED, files=pin(folder), max_tokens=12)
    return *load(folder, spec), spec


def test_a_pair_is_read_with_the_models_own_marks_and_segments_in_both_methods(minilm: tuple) -> None:
    base, tokenizer, spec = minilm
    examples = encode([PAIR, *PAIRS], tokenizer, spec)
    assert tokenizer.decode(examples.tokens[0]) == "[CLS] fever [SEP] cough [SEP]"
    given = collate(encode([PAIR], tokenizer, spec), [0]).inputs
    assert given["token_type_ids"].tolist() == [[0, 0, 0, 1, 1]]
    padded = collate(examples, [0, 1]).inputs
    assert padded["token_type_ids"].shape == padded["input_ids"].shape
    with torch.no_grad():
        marked = base.bert(**given, output_hidden_states=True).hidden_states[1][0]
        del given["token_type_ids"]
        unmarked = base.bert(**given, output_hidden_states=True).hidden_states[1][0]
    packed = compute(Front(copy.deepcopy(base), 1), examples, range(1), 1).features.float()
    assert (packed - marked).abs().max() < 0.02 < (packed - unmarked).abs().max()


def test_a_pair_for_a_decoder_is_parted_by_a_blank_line_and_has_no_segments(chat_folder: Path) -> None:
    spec = classifier_spec(chat_folder)
    _, tokenizer = load(chat_folder, spec)
    examples = encode([PAIR], tokenizer, spec)
    assert tokenizer.decode(examples.tokens[0]) == "fever cough" and examples.segments is None
    assert "token_type_ids" not in collate(examples, [0]).inputs


def test_a_pair_that_is_too_long_keeps_both_texts_and_is_counted(minilm: tuple) -> None:
    _, tokenizer, spec = minilm
    examples = encode([PairLabel("fever " * 30, "cough", "injury", "train"), PAIR], tokenizer, spec)
    assert tokenizer.decode(examples.tokens[0]).endswith("fever [SEP] cough [SEP]")
    assert (len(examples.tokens[0]), examples.cut) == (12, 1)
