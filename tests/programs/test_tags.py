"""Words with tags: what is learnt of them, counted, believed of others, and told."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from contracts.entities import Entity, entities, labels_of, types_of
from contracts.kinds import TAGGED
from contracts.manifest import ModelSpec, Publication
from contracts.refusal import Refusal
from contracts.rows import TokensTags
from enclave.programs.publication import grain, pool
from enclave.programs.tags import check_tags, f1
from enclave.training.data import IGNORED, Examples, collate
from enclave.training.features import Shard, from_bytes, layout_of, to_bytes
from enclave.training.loop import batch_logits, batch_loss
from enclave.training.metrics import Scores
from enclave.training.tags import FIRST, encode_tags, evaluate_tags
from tests.programs.test_publication import publish

LABELS = labels_of(("DRUG", "SIGN"))
SPEC = ModelSpec("tiny", "token-classification", {"config.json": "c" * 64}, LABELS, 8)


def test_the_tags_of_two_types_and_back():
    assert LABELS == ("O", "B-DRUG", "I-DRUG", "B-SIGN", "I-SIGN")
    assert types_of(LABELS) == ("DRUG", "SIGN")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", set()),
        ("B-X", {Entity("X", 0, 0)}),
        ("B-X I-X O B-X", {Entity("X", 0, 1), Entity("X", 3, 3)}),
        ("B-X B-X I-X", {Entity("X", 0, 0), Entity("X", 1, 2)}),
        ("B-X I-Y", {Entity("X", 0, 0)}),
        ("I-X I-X O", set()),
        ("O B-X I-X I-X", {Entity("X", 1, 3)}),
    ],
)
def test_entities_are_those_that_seqeval_finds_in_its_strict_mode(tags, found):
    assert entities(tags.split()) == found


@given(st.lists(st.sampled_from(LABELS), max_size=12))
def test_entities_do_not_overlap_and_each_begins_with_its_b(tags):
    found = sorted(entities(tags), key=lambda entity: entity.first)
    assert all(tags[entity.first] == f"B-{entity.type}" for entity in found)
    assert all(tags[place] == f"I-{e.type}" for e in found for place in range(e.first + 1, e.last + 1))
    assert all(one.last < other.first for one, other in pairwise(found))
    assert len(found) == sum(tag.startswith("B-") for tag in tags)


@pytest.fixture
def tokenizer():
    """`chestpain` has two pieces."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "chest", "##pain", "of", "aspirin"]
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]")


def test_a_word_is_tagged_at_its_first_piece(tokenizer):
    row = TokensTags(("of", "chestpain", "aspirin"), ("O", "B-SIGN", "B-DRUG"), "train")
    long = TokensTags(("chestpain",) * 5, ("O",) * 5, "train")
    found = encode_tags([row, long], tokenizer, SPEC)
    assert found.tokens[0] == [6, 4, 5, 7]
    assert found.targets[0] == [-FIRST, -(FIRST + 3), IGNORED, -(FIRST + 1)]
    assert (len(found.tokens[1]), found.cut) == (8, 1)


def test_a_tokenizer_that_does_not_know_words_is_refused():
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(Refusal, match=r"rows\.no_words"):
        encode_tags([], slow, SPEC)


class Says(nn.Module):
    """A model with the logits of each token, by its id."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids, attention_mask):
        return type("Said", (), {"logits": self.logits[input_ids]})


def coded(*tags):
    return [IGNORED if tag is None else -(FIRST + LABELS.index(tag)) for tag in tags]


EXAMPLES = Examples([[0, 1, 2, 3], [4, 5]], [coded("B-DRUG", None, "I-DRUG", "O"), coded("B-SIGN", "O")], 0)


def saying(*tags):
    logits = torch.full((len(tags), len(LABELS)), -4.0)
    for place, tag in enumerate(tags):
        logits[place, LABELS.index(tag)] = 4.0
    return Says(logits)


def test_the_loss_is_the_cross_entropy_of_words_alone():
    model = Says(torch.randn(6, len(LABELS), generator=torch.Generator().manual_seed(1)))
    batch = collate(EXAMPLES, [0, 1])
    mean, said, truth = batch_loss(batch_logits(model, batch, torch.device("cpu")), batch)
    places, wanted = torch.tensor([0, 2, 3, 4, 5]), torch.tensor([1, 2, 0, 3, 0])
    assert truth.tolist() == wanted.tolist() and said.tolist() == model.logits[places].argmax(-1).tolist()
    assert float(mean) == pytest.approx(float(nn.CrossEntropyLoss()(model.logits[places], wanted)))


def test_entities_are_right_where_both_ends_and_the_type_are():
    right = saying("B-DRUG", "O", "I-DRUG", "O", "B-SIGN", "O")
    found = evaluate_tags(right, EXAMPLES, LABELS, precision="fp32")
    assert (found.rows, found.predictions, found.correct, found.exact) == (2, 5, 5, 2)
    assert found.confusion == ((1, 0, 0), (1, 0, 0))
    short = saying("B-DRUG", "O", "O", "O", "B-DRUG", "O")
    found = evaluate_tags(short, EXAMPLES, LABELS, precision="fp32")
    assert (found.correct, found.exact) == (3, 0)
    assert found.confusion == ((0, 1, 2), (0, 1, 0)), "a shorter one, and one of another type"
    assert f1((0, 1, 2)) == 0 and f1((3, 1, 1)) == pytest.approx(0.75) and f1((0, 0, 0)) == 0
    check_tags(found, 2)


GOOD = Scores(30, 200, 190, 9.0, ((20, 2, 3), (15, 1, 0)), 25)


def test_pooled_scores_are_told_to_a_step_of_their_entities():
    numbers = publish(Publication(3, 20), dict.fromkeys("abc", GOOD), (), coded=TAGGED).numbers
    assert set(numbers) == {"rows", "loss", "accuracy", "word_accuracy", "micro_f1", "macro_f1"}
    whole = pool([GOOD] * 3)
    assert whole.confusion == ((60, 6, 9), (45, 3, 0))
    assert numbers["micro_f1"] == pytest.approx(f1((105, 9, 9)), abs=grain(114) / 2)
    times = numbers["macro_f1"] / grain(48)
    assert times == pytest.approx(round(times))


def test_rows_of_one_word_are_told_as_tags_too():
    """There are as many words as rows then, as for classes."""
    short = Scores(40, 40, 32, 20.0, ((20, 4, 4), (8, 2, 2)), exact=32)
    numbers = publish(Publication(3, 20), dict.fromkeys("abc", short), (), coded=TAGGED).numbers
    assert {"word_accuracy", "micro_f1", "macro_f1"} <= set(numbers)


def test_f1_is_withheld_where_entities_are_few():
    few = Scores(30, 200, 190, 9.0, ((20, 2, 3), (2, 1, 0)), 25)
    numbers = publish(Publication(3, 20), dict.fromkeys("abc", few), (), coded=TAGGED).numbers
    assert "micro_f1" in numbers and "macro_f1" not in numbers
    none = Scores(30, 200, 190, 9.0, ((1, 0, 0), (1, 0, 0)), 25)
    assert "micro_f1" not in publish(Publication(3, 20), dict.fromkeys("abc", none), (), coded=TAGGED).numbers


@pytest.mark.parametrize(
    "changes",
    [
        {"exact": 31},
        {"ended": 1},
        {"bins": ((1,),)},
        {"predictions": 29},
        {"correct": 201},
        {"loss_sum": math.inf},
        {"confusion": ((20, 2, 3),)},
        {"confusion": ((20, 2), (15, 1))},
        {"confusion": ((180, 2, 3), (19, 1, 0))},
    ],
)
def test_scores_that_contradict_themselves_are_refused(changes):
    check_tags(GOOD, 2)
    forged = Scores(**{**{name: getattr(GOOD, name) for name in GOOD.__struct_fields__}, **changes})
    with pytest.raises(Refusal, match=r"metrics\.mismatch"):
        check_tags(forged, 2)


def test_a_shard_holds_tags_of_the_study_and_nothing_else():
    config = type("C", (), {"hidden_size": 4, "vocab_size": 9})
    layout = layout_of(SPEC, config, 1, "d" * 64, coded="token-tags")

    def shard(targets):
        features = torch.zeros(len(targets), 4, dtype=torch.bfloat16)
        lengths = torch.tensor([len(targets)], dtype=torch.int32)
        return Shard(features, lengths, torch.tensor(targets, dtype=torch.int32))

    good = shard([IGNORED, *coded(*LABELS)])
    assert torch.equal(from_bytes(to_bytes(good, layout), layout).labels, good.labels)
    for odd in (0, 3, -99, -(FIRST + 5)):
        with pytest.raises(Refusal, match=r"features\.labels"):
            from_bytes(to_bytes(shard([IGNORED, -FIRST, odd]), layout), layout)
