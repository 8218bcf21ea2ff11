"""Questions whose answers are chosen: what is encoded, which choice is taken, and that both methods say the
same."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from msgspec import DecodeError, structs
from torch import Tensor

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from contracts.row_writing import write_row
from contracts.rows import MOST_CHOICES, PromptChoices, PromptResponse, Row, Split, read_row
from enclave.programs.choices import rounded_of_choices
from enclave.programs.coded_checks import check_choices
from enclave.slicing.adapters import adapt
from enclave.slicing.models import load
from enclave.slicing.split import Front, Tail
from enclave.training.choices import FIRST, Place, code_of, evaluate_choices
from enclave.training.data import IGNORED
from enclave.training.features import FeatureSet, from_bytes, layout_of, to_bytes
from enclave.training.loop import evaluate, train
from enclave.training.metrics import Scores
from enclave.training.row_reader import encode
from site_agent.methods.shard_making import compute
from tests.training.tiny import LABELS, LLAMA_ADAPTER, ROWS, causal_spec, settings

Opened = tuple[object, object, ModelSpec]


def asked(split: Split) -> list[Row]:
    return [PromptChoices(f"what is {row.text}", row.label, split, (*LABELS, "mild fever")) for row in ROWS]


@pytest.fixture
def opened(chat_folder: Path):
    spec = causal_spec(chat_folder, template="model", max_tokens=32)
    return (*load(chat_folder, spec), spec)


def likelihood(model, tokenizer, row: PromptChoices, choice: str) -> Tensor:
    """Of the choice and its end, token by token, without any of our code but the template's text."""
    text = f"<|im_start|> user {row.prompt} <|im_end|> <|im_start|> assistant"
    given = tokenizer(text)["input_ids"]
    said = tokenizer(f"{choice} <|im_end|>")["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([given + said])).logits[0].log_softmax(-1)
    return sum(logits[len(given) - 1 + place, token] for place, token in enumerate(said))


def test_the_choice_is_the_one_that_the_model_writes_the_likeliest(opened) -> None:
    model, tokenizer, spec = opened
    rows = asked("test")
    found = evaluate_choices(model, encode(rows, tokenizer, spec), precision="fp32")
    table = torch.zeros(MOST_CHOICES, MOST_CHOICES, dtype=torch.long)
    for row in rows:
        said = [likelihood(model, tokenizer, row, choice) for choice in row.choices]
        table[row.choices.index(row.response), int(torch.stack(said).argmax())] += 1
    assert torch.equal(torch.tensor(found.confusion), table)
    assert len((table.sum(0) > 0).nonzero()) > 1  # not the same one each time
    assert found.rows == len(rows)


def test_all_else_is_told_of_the_right_choices_as_of_any_responses(opened) -> None:
    model, tokenizer, spec = opened
    rows = asked("test")
    plain = [PromptResponse(row.prompt, row.response, "test") for row in rows]
    found = evaluate_choices(model, encode(rows, tokenizer, spec), precision="fp32")
    wanted = evaluate(model, encode(plain, tokenizer, spec), labels=0)
    assert found.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-5)
    assert structs.replace(found, loss_sum=0.0, confusion=()) == structs.replace(wanted, loss_sum=0.0)


def test_the_right_choice_is_learnt_as_a_response(opened) -> None:
    _, tokenizer, spec = opened
    plain = [PromptResponse(row.prompt, row.response, "train") for row in asked("train")]
    assert encode(asked("train"), tokenizer, spec) == encode(plain, tokenizer, spec)


def test_a_model_that_has_learnt_them_chooses_right(opened) -> None:
    model, tokenizer, spec = opened
    tuned = adapt(copy.deepcopy(model), LLAMA_ADAPTER, 7)
    for number in range(40):
        train(tuned, encode(asked("train"), tokenizer, spec), settings(), round=number, site="a")
    found = evaluate_choices(tuned, encode(asked("test"), tokenizer, spec), precision="fp32")
    assert sum(found.confusion[place][place] for place in range(MOST_CHOICES)) >= 10


def test_choices_of_a_row_stand_behind_the_same_tokens(opened) -> None:
    _, tokenizer, spec = opened
    row = PromptChoices("what " + "fever " * 40 + "is", "injury", "test", ("injury", "injury mild pain"))
    found = encode([row, *asked("test")[:1]], tokenizer, spec)
    first, second = found.tokens[:2]
    assert len(second) == spec.max_tokens and first[: len(first) - 2] == second[: len(first) - 2]
    assert (found.cut, found.left_out) == (1, 0)
    long = structs.replace(row, choices=("injury", "injury " * 40))
    found = encode([long, *asked("test")[:1]], tokenizer, spec)
    assert (len(found.tokens), found.left_out) == (4, 1)
    with pytest.raises(Refusal, match=r"rows\.nothing_learnt"):
        encode([long], tokenizer, spec)


def shards(opened, purpose: str):
    model, tokenizer, spec = opened
    examples = encode(asked("train" if purpose == "training" else "test"), tokenizer, spec)
    layout = layout_of(spec, model.config, 1, "d" * 64, coded="prompt-choices")
    made = [compute(Front(copy.deepcopy(model), 1), examples, part, 8)
            for part in (range(7), range(7, len(examples)))]  # fmt: skip
    return [from_bytes(to_bytes(shard, layout), layout) for shard in made], layout


def test_both_methods_choose_alike(opened) -> None:
    model, tokenizer, spec = opened
    made, layout = shards(opened, "test")
    split = evaluate_choices(Tail(copy.deepcopy(model), 1), FeatureSet(made, layout), precision="fp32")
    whole = evaluate_choices(model, encode(asked("test"), tokenizer, spec), precision="fp32")
    assert split.loss_sum == pytest.approx(whole.loss_sum, rel=0.02)
    assert (split.rows, split.predictions) == (whole.rows, whole.predictions)
    agree = sum(min(a, b) for pair in zip(split.confusion, whole.confusion, strict=True)
                for a, b in zip(*pair, strict=True))  # fmt: skip
    assert agree >= whole.rows - 1  # features are bf16


@pytest.mark.parametrize("fault", ["missing", "twice", "training", "right", "other"])
def test_features_of_half_a_row_are_refused(opened, fault: str) -> None:
    (learnt, layout), scored = shards(opened, "training"), shards(opened, "test")[0]
    given = {"training": learnt, "validation": scored, "test": scored}
    questions = len(asked("test"))
    assert layout.rows_of(given.__getitem__) == len(asked("train")) + 2 * questions
    first = int(scored[0].labels[0])
    labels = scored[0].labels.clone()
    match fault:
        case "missing":
            given["validation"] = scored[1:]
        case "twice":
            given["validation"] = [*scored, scored[1]]
        case "training":
            given["training"] = scored
        case "right":
            labels[0] = first - 90
        case "other":
            labels[0] = IGNORED
    if fault in ("right", "other"):
        given["test"] = [type(scored[0])(scored[0].features, scored[0].lengths, labels), scored[1]]
    with pytest.raises(Refusal, match=r"features\.labels"):
        layout.rows_of(given.__getitem__)


def test_a_site_has_no_more_room_than_its_rows(opened) -> None:
    """A row is one example to train on, or one question: which it is takes nothing from what it may have."""
    (learnt, layout), scored = shards(opened, "training"), shards(opened, "test")[0]
    train, questions = len(asked("train")), len(asked("test"))
    given = {"training": learnt, "validation": scored, "test": []}
    assert layout.rows_of(given.__getitem__) == train + questions
    evaluated = sum(map(len, scored))
    assert evaluated == 4 * questions <= layout.most_evaluated(train, train + questions)
    assert layout.most_evaluated(train + questions + 1, train + questions) < 0


def test_a_question_with_one_choice_is_none(opened) -> None:
    """It would always be answered right."""
    made, layout = shards(opened, "test")
    (learnt, _) = shards(opened, "training")
    lengths, labels = made[0].lengths[:1], made[0].labels[: made[0].lengths[0]].clone()
    labels[0] = -(FIRST + code_of(Place(0, 1, 0, 0)))
    alone = type(made[0])(made[0].features[: lengths[0]], lengths, labels)
    with pytest.raises(Refusal, match=r"features\.labels"):
        layout.rows_of({"training": learnt, "validation": [alone], "test": []}.__getitem__)


def test_a_code_stands_at_a_first_token_alone(opened) -> None:
    made, layout = shards(opened, "test")
    labels = made[0].labels.clone()
    labels[1] = -500
    with pytest.raises(Refusal, match=r"features\.labels"):
        from_bytes(to_bytes(type(made[0])(made[0].features, made[0].lengths, labels), layout), layout)


def scores_of(right: int, rows: int, places: int = 2) -> Scores:
    table = [[0] * MOST_CHOICES for _ in range(MOST_CHOICES)]
    for row in range(rows):
        place = row % places
        table[place][place if row < right else (place + 1) % places] += 1
    return Scores(rows, 3 * rows, rows, 9.0, tuple(map(tuple, table)), rows // 2, rows // 2)


def test_shares_of_chosen_answers_are_told_coarsely_and_rare_places_not() -> None:
    numbers = rounded_of_choices(scores_of(90, 120), [scores_of(90, 120)])
    assert numbers["accuracy"] == pytest.approx(0.75) and numbers["macro_f1"] == pytest.approx(0.75, abs=0.1)
    assert {"loss", "token_accuracy", "exact_match", "stop_rate", "perplexity", "rows"} <= numbers.keys()
    assert "macro_f1" not in rounded_of_choices(scores_of(30, 40, places=8), [scores_of(30, 40, places=8)])


@pytest.mark.parametrize(
    "change",
    [{"confusion": ()}, {"rows": 41}, {"loss_sum": -1.0}, {"bins": ((1,),)}, {"ended": 41},
     {"confusion": ((40,),) * MOST_CHOICES}],
)  # fmt: skip
def test_scores_that_contradict_themselves_are_refused(change: dict) -> None:
    check_choices(scores_of(30, 40))
    with pytest.raises(Refusal, match=r"metrics\.mismatch"):
        check_choices(structs.replace(scores_of(30, 40), **change))


def test_a_row_whose_answer_is_no_choice_is_no_row() -> None:
    row = PromptChoices("why", "no", "test", ("yes", "no"))
    assert read_row(write_row(row)) == row
    for wrong in (b'"response":"maybe"', b'"response":"yes","choices":["yes"]'):
        with pytest.raises(DecodeError):
            read_row(write_row(row).replace(b'"response":"no"', wrong))
