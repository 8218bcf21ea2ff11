"""Rows that may have several labels: what is learnt, counted, believed of others, and told."""

import itertools
import math

import pytest
import torch
from sklearn import metrics
from tokenizers import Tokenizer, models
from torch import nn
from transformers import PreTrainedTokenizerFast

from contracts.kinds import SEVERAL
from contracts.manifest import ModelSpec, Publication
from contracts.refusal import Refusal
from contracts.rows import TextLabels
from enclave.programs.publication import grain, pool
from enclave.programs.several import check_several, f1
from enclave.training.data import Examples, collate
from enclave.training.features import Shard as Packed
from enclave.training.features import from_bytes, layout_of, to_bytes
from enclave.training.loop import batch_loss
from enclave.training.metrics import Scores
from enclave.training.several import bits_of, encode_several, evaluate_several
from tests.programs.test_publication import publish
from tests.programs.test_tables import Told

LABELS = 3
SETS = [(0,), (), (0, 2), (1,), (2,), (1, 2)]


def target(has):
    return ~sum(1 << label for label in has)


def world(seed, rows=120):
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 2, (rows, LABELS), generator=draw)
    logits = 2 * torch.randn(rows, LABELS, generator=draw) + 2 * truth - 1
    targets = [target(row.nonzero()[:, 0].tolist()) for row in truth]
    return truth, logits, Examples([[row] for row in range(rows)], targets, 0)


def scored(seed, rows=120, tables=True):
    truth, logits, examples = world(seed, rows)
    return evaluate_several(Told(logits), examples, labels=LABELS, tables=tables), truth, logits


def test_a_target_holds_its_labels_and_is_no_labels_id():
    numbers = torch.tensor([target(has) for has in SETS])
    assert (numbers < 0).all()
    assert [tuple(row.nonzero()[:, 0].tolist()) for row in bits_of(numbers, LABELS)] == SETS
    most = tuple(range(31))
    assert target(most) == -(2**31) and bits_of(torch.tensor([target(most)]), 31).all()


def test_the_loss_is_the_binary_cross_entropy_of_each_label():
    truth, logits, examples = world(5, rows=7)
    batch = collate(examples, range(7))
    mean, said, flat = batch_loss(logits, batch)
    assert float(mean) == pytest.approx(float(nn.BCEWithLogitsLoss()(logits, truth.float())))
    assert torch.equal(flat.view(7, LABELS), truth) and torch.equal(said.view(7, LABELS), (logits > 0).long())


def test_scores_agree_with_scikit_learn():
    found, truth, logits = scored(1, rows=300)
    said = (logits > 0).long()
    assert found.exact / found.rows == pytest.approx(metrics.accuracy_score(truth, said))
    columns = [sum(column) for column in zip(*found.confusion, strict=True)]
    assert f1(columns) == pytest.approx(metrics.f1_score(truth, said, average="micro"))
    macro = math.fsum(map(f1, found.confusion)) / LABELS
    assert macro == pytest.approx(metrics.f1_score(truth, said, average="macro"))
    numbers = publish(Publication(3, 20, 5), dict.fromkeys("abc", found), (), coded=SEVERAL).numbers
    exact = metrics.roc_auc_score(truth, torch.sigmoid(logits), average="macro")
    assert numbers["auroc"] == pytest.approx(exact, abs=grain(300) / 2 + 0.01)
    assert found.loss_sum / found.predictions == pytest.approx(
        float(nn.BCEWithLogitsLoss()(logits, truth.float())), rel=1e-5
    )


def test_the_pooled_scores_are_those_of_all_rows_and_are_told_coarsely():
    reported = {site: scored(seed)[0] for seed, site in enumerate("abc")}
    numbers = publish(Publication(3, 20, 5), reported, (), coded=SEVERAL).numbers
    whole = pool(list(reported.values()))
    assert (numbers["rows"], numbers["labels"], numbers["cell"]) == (360, 3, 10)
    counts = [*itertools.chain(*numbers["decisions"], *numbers["reliability"])]
    assert all(count % 10 == 0 for count in counts) and sum(counts) > 0
    for shown, quad in zip(numbers["decisions"], whole.confusion, strict=True):
        assert all(abs(a - b) <= 5 for a, b in zip(shown, quad, strict=True))
    for name in ("accuracy", "micro_f1", "loss", "calibration_error"):
        times = numbers[name] / grain(360)
        assert times == pytest.approx(round(times)), name


def test_without_tables_only_shares_are_told():
    reported = {site: scored(seed, tables=False)[0] for seed, site in enumerate("abc")}
    numbers = publish(Publication(3, 20), reported, (), coded=SEVERAL).numbers
    assert set(numbers) == {"rows", "labels", "loss", "accuracy", "micro_f1", "macro_f1"}


def test_a_mean_over_labels_is_withheld_where_one_is_rare():
    rare = Scores(30, 60, 60, 1.0, ((15, 0, 0, 15), (3, 0, 0, 27)), 30)
    assert (
        "macro_f1" not in publish(Publication(3, 20), dict.fromkeys("abc", rare), (), coded=SEVERAL).numbers
    )
    common = Scores(30, 60, 60, 1.0, ((15, 0, 0, 15), (13, 0, 0, 17)), 30)
    assert "macro_f1" in publish(Publication(3, 20), dict.fromkeys("abc", common), (), coded=SEVERAL).numbers


GOOD = scored(1)[0]


def _but(**changes):
    return Scores(**{**{name: getattr(GOOD, name) for name in GOOD.__struct_fields__}, **changes})


def _moved(name, place, index, by):
    rows = [list(row) for row in getattr(GOOD, name)]
    rows[place][index] += by
    return _but(**{name: tuple(map(tuple, rows))})


@pytest.mark.parametrize(
    "forged",
    [
        _but(exact=121),
        _but(ended=1),
        _but(predictions=GOOD.rows),
        _but(correct=GOOD.correct + 1),
        _but(loss_sum=math.nan),
        _but(confusion=GOOD.confusion[:2]),
        _but(confusion=tuple(quad[:3] for quad in GOOD.confusion)),
        _moved("confusion", 0, 0, 1),
        _but(bins=()),
        _but(bins=GOOD.bins[:-1]),
        _moved("bins", 0, 0, 1),
        _moved("bins", 1, 5, 1),
        _moved("bins", 2, 0, 10**6),
        _moved("bins", 4, 0, 1),
    ],
)
def test_scores_that_contradict_themselves_are_refused(forged):
    check_several(GOOD, LABELS, tables=True)
    with pytest.raises(Refusal, match=r"metrics\.mismatch"):
        check_several(forged, LABELS, tables=True)


@pytest.fixture
def tokenizer():
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "one": 2, "two": 3}, "[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")


def test_rows_become_targets_by_the_manifests_labels_and_spellings(tokenizer):
    spec = ModelSpec(
        "tiny", "sequence-classification", {"config.json": "c" * 64}, ("a", "b", "c"), 16, {"B": "b"}
    )
    rows = [TextLabels("one", ("B", "b", "c"), "train"), TextLabels("two", (), "train")]
    assert encode_several(rows, tokenizer, spec).targets == [target((1, 2)), target(())]


def test_a_shard_holds_sets_of_labels_and_no_number_beyond_them():
    spec = ModelSpec("tiny", "sequence-classification", {"config.json": "c" * 64}, ("a", "b", "c"), 16)
    config = type("C", (), {"hidden_size": 4})
    layout = layout_of(spec, config, 1, "d" * 64, coded="text-labels")

    def shard(labels):
        features = torch.zeros(len(labels), 4, dtype=torch.bfloat16)
        lengths = torch.ones(len(labels), dtype=torch.int32)
        return Packed(features, lengths, torch.tensor(labels, dtype=torch.int32))

    sets = shard([target(has) for has in SETS])
    assert torch.equal(from_bytes(to_bytes(sets, layout), layout).labels, sets.labels)
    for odd in (0, 2, target((3,))):
        with pytest.raises(Refusal, match=r"features\.labels"):
            from_bytes(to_bytes(shard([odd, -1]), layout), layout)
