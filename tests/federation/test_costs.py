"""The costs that a lead is shown before anything runs are those of what the enclaves will build."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contracts.architecture.layers import linears_of
from contracts.architecture.rows import row_of
from contracts.manifest import Lora, Prefix, Spf
from contracts.refusal import Refusal
from enclave.slicing.adapters import adapt, tuned_parameters
from enclave.slicing.prefix import tune_prefix
from enclave.slicing.spf import tune
from enclave.slicing.split import Tail
from enclave_host.proving.registration import SHAPE
from enclave_jobs.base_models.registering import register
from enclave_jobs.runs.costs import Workload, advise_cut, counted, estimate, trained_parameters
from enclave_jobs.runs.models import Run, RunState
from enclave_jobs.runs.services import launch
from federation.people.models import User
from federation.studies.models import BaseModel, Study
from federation.studies.passes import ScoringWork, examples_of
from federation.studies.workload import feature_bytes, layer_weights
from tests.slicing.small import LABELS, LAYERS, MODELS, config, model

WORK = Workload(
    method="method-1", placement="all_in_tee", runtime="development", adapter=Lora(4, 8, ("query", "value")),
    cut=0, checkpointing=False, labels=LABELS, tokens=16, batch=4, rounds=2, epochs=1, rows=(40, 60),
)  # fmt: skip


def built(made: Any) -> tuple[int, int]:
    tuned = tuned_parameters(made)
    return sum(parameter.numel() for parameter in tuned.values()), len(tuned)


def base(name: str = "bert", parameters: int = 100_000) -> BaseModel:
    whole = config(name)
    shape = {key: getattr(whole, key, None) for key in SHAPE}
    kept = {key: value for key, value in shape.items() if value is not None}
    return BaseModel(source=name, task="sequence-classification", config=kept, parameters=parameters)


def takes_prefix(name: str) -> bool:
    return row_of(config(name)).prefix


def targets(name: str) -> tuple[str, ...]:
    """The first linear of a layer and the last, by the names that peft matches at the end of a path."""
    paths = [linear.path.rpartition(".")[2] for linear in linears_of(config(name))]
    return paths[0], paths[-1]


@pytest.mark.parametrize(("name", "head"), MODELS)
def test_what_lora_trains_is_counted_exactly(name: str, head: str) -> None:
    adapter = Lora(4, 8, targets(name))
    work = replace(WORK, adapter=adapter, labels=LABELS if head == "classifier" else 0)
    assert trained_parameters(config(name), work) == built(adapt(model(name, head), adapter, 1))


@pytest.mark.parametrize(("name", "head"), [pair for pair in MODELS if takes_prefix(pair.values[0])])
def test_what_a_prefix_trains_is_counted_exactly(name: str, head: str) -> None:
    adapter = Prefix(5)
    work = replace(WORK, adapter=adapter, labels=LABELS if head == "classifier" else 0)
    assert trained_parameters(config(name), work) == built(tune_prefix(model(name, head), adapter, 1))


@pytest.mark.parametrize("ratio", (12.5, 100.0))
def test_what_spf_trains_behind_the_cut_is_counted_exactly(ratio: float) -> None:
    adapter = Spf(ratio, ratio)
    tail = Tail(model("bert"), 1)
    tune(tail, adapter, 1)
    work = replace(WORK, method="method-2", adapter=adapter, cut=1)
    assert trained_parameters(config("bert"), work) == built(tail)


@pytest.mark.django_db
def test_a_later_cut_takes_less_of_the_tee_and_more_of_the_site() -> None:
    work = replace(WORK, method="method-2", adapter=Spf(25.0, 25.0), cut=1)
    early, late = estimate(work, base()), estimate(replace(work, cut=2), base())
    assert early is not None and late is not None
    assert late.tee < early.tee and late.host > early.host and late.trained < early.trained
    # Features cross once, whatever the cut: 60 rows of at most 16 tokens, 24 numbers of two bytes each.
    assert early.up == late.up == 60 * 16 * 24 * 2


@pytest.mark.django_db
def test_masking_moves_the_linears_out_of_the_enclave() -> None:
    large = base(parameters=50_000_000)  # the program itself takes more where it masks
    inside, masked = estimate(WORK, large), estimate(replace(WORK, placement="masked"), large)
    assert inside is not None and masked is not None
    assert masked.tee < inside.tee and masked.trained == inside.trained and masked.up == inside.up


@pytest.mark.django_db
def test_pads_are_told_in_tokens_and_tokens_per_core_hour_before_a_masked_study_starts() -> None:
    work = replace(WORK, placement="masked")
    assert (found := estimate(work, base())) is not None and (pads := found.pads) is not None
    assert pads.tokens == 2 * 60 * 16  # rounds, rows of the larger site, longest text
    assert pads.core_seconds == pytest.approx(3600 * pads.tokens / pads.tokens_per_core_hour)
    behind = estimate(replace(work, cut=2), base())
    assert behind is not None and behind.pads is not None  # a public front leaves pads for the layers behind
    faster = LAYERS / (LAYERS - 2)
    assert behind.pads.tokens_per_core_hour == pytest.approx(faster * pads.tokens_per_core_hour)
    inside = estimate(WORK, base())
    assert inside is not None and inside.pads is None


@pytest.mark.django_db
def test_the_pace_of_pads_of_a_model_that_was_measured_is_the_measured_one() -> None:
    """The benchmark's step of 256 tokens through four layers of 1024: 0.451 s of one core."""
    shape = {"model_type": "bert", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 16,
             "intermediate_size": 4096, "vocab_size": 1000}  # fmt: skip
    model = BaseModel(source="a", task="sequence-classification", config=base().config | shape, parameters=1)
    found = estimate(replace(WORK, placement="masked"), model)
    assert found is not None and found.pads is not None
    assert found.pads.tokens_per_core_hour == pytest.approx(3600 * 256 / 0.451, rel=0.03)


def test_the_advised_cut_fits_both_memories_or_there_is_none() -> None:
    work = replace(WORK, method="method-2", adapter=Spf(25.0, 25.0), cut=1)
    plenty = advise_cut(work, base(), tee=1 << 40, site=1 << 40)
    assert plenty is not None and plenty.cut == 1 and plenty.most == LAYERS - 1
    nothing = advise_cut(work, base(), tee=1, site=1 << 40)
    assert nothing is not None and nothing.cut is None and nothing.least is None


def test_settings_that_tune_nothing_are_refused() -> None:
    with pytest.raises(Refusal, match=r"spf\.nothing"):
        estimate(replace(WORK, method="method-2", adapter=Spf(0.0, 0.0, lora=()), cut=1), base())


@pytest.mark.django_db
def test_time_is_expected_from_finished_runs_of_the_same_kind_only(ready: Study, lena: User) -> None:

    work = replace(WORK, rounds=4)
    first = estimate(work, base())
    assert first is not None and first.seconds is None and first.measured_runs == 0
    BaseModel.objects.update(config=base().config)
    run = launch(lena, ready)
    Run.objects.filter(pk=run.pk).update(state=RunState.FINISHED, summary={"seconds": 20.0})
    known, other = estimate(work, base()), estimate(replace(work, placement="masked"), base())
    assert known is not None and known.measured_runs == 1 and (known.seconds or 0) > 0
    twice = estimate(replace(work, tokens=32), base())
    assert twice is not None and twice.seconds == pytest.approx(2 * (known.seconds or 0))
    assert other is not None and other.seconds is None


@pytest.mark.django_db
def test_each_choice_of_a_question_that_is_scored_is_a_pass_and_has_features() -> None:
    written = replace(WORK, labels=0, method="method-2", adapter=Spf(25.0, 25.0), cut=1)
    chosen = replace(written, passes=ScoringWork(scored=(10, 20), examples=4))
    plain = replace(written, passes=ScoringWork(scored=(10, 20)))
    before, after = counted(plain, base()), counted(chosen, base())
    assert before is not None and after is not None
    assert (feature_bytes(config("bert"), plain), feature_bytes(config("bert"), chosen)) == (
        before.kept, after.kept,
    )  # fmt: skip
    assert after.kept * 60 == before.kept * (60 + 3 * 20)
    # Both sites' held rows, three more passes each: half of them in three rounds, half once.
    weights = (config("bert").num_hidden_layers - 1) * layer_weights(config("bert"))
    assert after.operations - before.operations == 3 * 30 * 16 * 2 * weights * (WORK.rounds + 2) / 2
    assert examples_of("prompt-choices") == 4 and examples_of("prompt-response") == 1


def test_answers_that_are_written_and_packed_rows_are_counted() -> None:
    def operations(**passes: int) -> float:
        found = counted(replace(WORK, labels=0, passes=ScoringWork(scored=(10, 20), **passes)), base())
        assert found is not None
        return found.operations

    plain = operations()
    whole = config("bert").num_hidden_layers * layer_weights(config("bert"))
    written = operations(written_rows=64, written_tokens=32) - plain
    answering = config("bert").vocab_size * config("bert").hidden_size
    assert written == (WORK.rounds + 2) * 20 * (16 + 32) * 2 * (whole + answering)
    assert operations(written_rows=4, written_tokens=32) - plain == written / 5
    # A batch of 4 rows of 16 tokens fills sequences of 32; of 24 the last one is not full.
    assert operations(packing=32) == plain < operations(packing=24)


@pytest.mark.django_db
def test_registering_a_model_keeps_the_shape_that_costs_are_counted_from() -> None:
    made = register("embedded:all-MiniLM-L6-v2", "sequence-classification")
    assert made.config["num_hidden_layers"] == 6 and made.config["hidden_size"] == 384
    costs = estimate(WORK, made)
    assert costs is not None and costs.parameters == 22_713_728
