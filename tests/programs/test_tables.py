"""The tables of a test: what they are counted from, what leaves, and how fine it is."""

import itertools
import random

import pytest
import torch
from sklearn import metrics
from torch import nn

from contracts.manifest import Publication
from contracts.refusal import Refusal
from contracts.tables import ODDS, TENTHS
from enclave.programs.opening import check
from enclave.programs.publication import grain, pool
from enclave.programs.tables import area, calibration_error, cell
from enclave.training.data import Examples
from enclave.training.metrics import Scores
from enclave.training.tables import evaluate_with_bins
from tests.programs.test_publication import publish

LABELS = 3
RULES = Publication(sites=3, rows=20, cells=5)


class Told(nn.Module):
    """A model that says what it was told, by the first token of a row."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids, attention_mask):
        return type("Said", (), {"logits": self.logits[input_ids[:, 0]]})


def scored(seed, rows=60, sharpness=2.0):
    """Scores of made-up rows, and (truth, logits)."""
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, LABELS, (rows,), generator=draw)
    logits = sharpness * torch.randn(rows, LABELS, generator=draw)
    logits[torch.arange(rows), truth] += 1.0
    examples = Examples([[row] for row in range(rows)], truth.tolist(), 0)
    return evaluate_with_bins(Told(logits), examples, labels=LABELS), truth, logits


def test_bins_come_to_what_scikit_learn_makes_of_the_probabilities():
    found, truth, logits = scored(1, rows=400)
    likely = torch.softmax(logits.double(), -1).numpy()
    for label in range(LABELS):
        binned = area(*found.bins[3 + 2 * label : 5 + 2 * label])
        exact = metrics.roc_auc_score(truth.numpy() == label, likely[:, label])
        assert binned == pytest.approx(exact, abs=0.005)
    surest, right = likely.max(-1), (likely.argmax(-1) == truth.numpy())
    gaps = 0.0
    for tenth in range(TENTHS):
        inside = (surest >= tenth / 10) & (surest < (tenth + 1) / 10 + (tenth == 9))
        gaps += abs(right[inside].sum() - surest[inside].sum()) / len(surest)
    assert calibration_error(found) == pytest.approx(gaps, abs=1e-3)
    assert sum(found.bins[0]) == 400 and sum(found.bins[1]) == found.correct


def test_pooled_bins_are_those_of_all_rows():
    parts = [scored(seed) for seed in (1, 2, 3)]
    truth, logits = (torch.cat([part[place] for part in parts]) for place in (1, 2))
    examples = Examples([[row] for row in range(len(truth))], truth.tolist(), 0)
    whole = evaluate_with_bins(Told(logits), examples, labels=LABELS)
    pooled = pool([part[0] for part in parts])
    assert (pooled.bins, pooled.confusion) == (whole.bins, whole.confusion)


def test_a_model_that_is_certain_or_has_diverged_is_counted_all_the_same():
    logits = torch.tensor([[1e9, 0, 0], [0, -1e9, 0], [float("nan")] * 3])
    found = evaluate_with_bins(Told(logits), Examples([[0], [1], [2]], [0, 1, 2], 0), labels=LABELS)
    assert sum(found.bins[0]) == 3 and all(sum(row) <= 3 for row in found.bins[3:])


def test_what_leaves_is_in_multiples_of_the_cell_and_nothing_else():
    reported = {site: scored(seed)[0] for seed, site in enumerate("abc")}
    numbers = publish(RULES, reported, ()).numbers
    assert numbers["cell"] == 10, "of 180 rows: √180 / 2 = 6.7"
    counts = [*itertools.chain(*numbers["confusion"], *numbers["reliability"])]
    counts += [*numbers["truth"], *numbers["predicted"]]
    assert all(count % 10 == 0 for count in counts) and sum(counts) > 0
    exact = pool(list(reported.values()))
    assert all(
        abs(shown - count) <= 5
        for shown, count in zip(
            itertools.chain(*numbers["confusion"]), itertools.chain(*exact.confusion), strict=True
        )
    )
    for name in ("auroc", "calibration_error"):
        times = numbers[name] / grain(180 if name == "calibration_error" else 50)
        assert times == pytest.approx(round(times)), name
    assert "bins" not in numbers


def test_no_manifest_that_asks_for_none_has_tables():
    plain = {
        site: Scores(30, 30, 30, 1.0, ((10, 0, 0), (0, 10, 0), (0, 0, 10))) for site in "abc"
    }  # fmt: skip
    assert not {"confusion", "auroc", "reliability"} & set(publish(RULES, plain, ()).numbers)


def test_tables_are_withheld_with_the_scores():
    reported = {site: scored(seed)[0] for seed, site in enumerate("ab")}
    assert publish(RULES, reported, ()).numbers == {}


def test_an_area_over_a_rare_label_is_withheld():
    found = scored(1, rows=8)[0]
    numbers = publish(RULES, dict.fromkeys("abc", found), ()).numbers
    assert min(sum(row) for row in found.confusion) * 3 < 10 and "auroc" not in numbers
    assert "confusion" in numbers


@pytest.mark.parametrize(
    ("rows", "least", "size"),
    [(20, 5, 5), (100, 5, 5), (101, 5, 10), (10_000, 5, 50), (50, 7, 7), (400, 7, 10)],
)
def test_a_cell_is_no_finer_than_the_rows_support(rows, least, size):
    assert cell(rows, least) == size


def test_counts_of_two_pools_that_differ_by_one_row_are_told_alike():
    """But for the row that tips a count over: of 200 single rows, few can be seen at all."""
    reported = {site: scored(seed)[0] for seed, site in enumerate("abc")}
    before = publish(RULES, reported, ()).numbers
    drawn, seen = random.Random(5), 0
    for _ in range(200):
        truth, guess = drawn.randrange(LABELS), drawn.randrange(LABELS)
        table = [list(row) for row in reported["a"].confusion]
        table[truth][guess] += 1
        more = {
            **reported,
            "a": reported["a"].__class__(**{**_fields(reported["a"]), "confusion": tuple(map(tuple, table))}),
        }
        seen += publish(RULES, more, ()).numbers["confusion"] != before["confusion"]
    assert seen < 60


def _fields(scores):
    return {name: getattr(scores, name) for name in scores.__struct_fields__}


def forged(**changes):
    return Scores(**{**_fields(scored(1)[0]), **changes})


def moved(place, index, by):
    bins = [list(row) for row in scored(1)[0].bins]
    bins[place][index] += by
    return tuple(map(tuple, bins))


@pytest.mark.parametrize(
    "bins",
    [
        (),
        ((1,),),
        moved(0, 9, 1),
        moved(1, 9, 1),
        moved(2, 0, 1_000_000),
        moved(3, 0, 1),
        moved(4, 0, 1),
        (*scored(1)[0].bins, (0,) * ODDS),
    ],
)
def test_bins_of_another_party_that_contradict_its_scores_are_refused(bins):
    check(scored(1)[0], LABELS, tables=True)
    with pytest.raises(Refusal, match=r"metrics\.mismatch"):
        check(forged(bins=bins), LABELS, tables=True)


def test_bins_that_nobody_asked_for_are_refused():
    with pytest.raises(Refusal, match=r"metrics\.mismatch"):
        check(scored(1)[0], LABELS)
