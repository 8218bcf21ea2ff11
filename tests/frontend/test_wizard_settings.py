"""The wizard's settings of training, method and release come into the manifest as typed, or are refused at
their own field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse
from msgspec import UNSET

from contracts.canonical import canonical
from contracts.manifest import PublicFront, ServerOptimizer
from enclave_jobs.runs.models import Run
from federation.studies import services
from federation.studies.freezing import build_manifest
from federation.studies.models import BaseModel, Study
from federation.studies.searched import SEARCHED, Searched, following
from tests.federation.cast import Hospital
from tests.frontend.wizard_pages import TRAINING, at, text
from tests.support.proofs import made_proof


def test_schedule_warm_up_and_what_a_platform_may_say_come_into_the_manifest(
    lead: Client, shaped: Study
) -> None:
    asked = {
        **TRAINING, "schedule": "cosine", "warmup": "7.5", "release_approvals": 1,
        "accepted_statuses": ["UpToDate", "SWHardeningNeeded"],
        "accepted_advisories": "intel-sa-00615, INTEL-SA-00657",
    }  # fmt: skip
    assert lead.post(at(shaped, "training"), asked).status_code == 302
    manifest = lead.get(at(shaped, "review")).context["manifest"]
    assert (manifest.training.schedule, manifest.training.warmup) == ("cosine", 0.075)
    assert manifest.policy.accepted_statuses == ("UpToDate", "SWHardeningNeeded")
    assert manifest.policy.accepted_advisories == ("INTEL-SA-00615", "INTEL-SA-00657")
    assert manifest.release.approvals == 1
    page = text(lead.get(at(shaped, "review")))
    assert "falling in a cosine to 0, after a warm-up over 7.5 % of the steps" in page
    form = text(lead.get(at(shaped, "training")))
    assert 'value="7.5"' in form and "INTEL-SA-00615 INTEL-SA-00657" in form


def test_before_freezing_the_lead_reads_which_results_could_be_subtracted(
    lead: Client, shaped: Study, anna: Hospital, barbara: Hospital
) -> None:
    both = build_manifest(shaped)
    rules = msgspec.structs.replace(both.aggregation, quorum=1)
    release = msgspec.structs.replace(both.release, approvals=1)
    alone = [site for site in both.sites if site.id == anna.site.pk]
    earlier = msgspec.structs.replace(both, sites=tuple(alone), aggregation=rules, release=release, run="r-0")
    assert "Results could be subtracted" not in text(lead.get(at(shaped, "review")))
    said = canonical(earlier).decode()
    Run.objects.create(pk="r-0", study=shaped, manifest=said, manifest_hash=earlier.hash)
    page = text(lead.get(at(shaped, "review")))
    assert "Results could be subtracted" in page
    assert f"{shaped.name}</a>: {barbara.site.name}" in page


def test_a_runtime_in_which_nothing_measures_the_program_is_not_offered(
    lead: Client, shaped: Study, settings: Any
) -> None:
    settings.ENCLAVE_RUNTIMES = ["development", "sgx", "tdx"]
    page = text(lead.get(at(shaped, "training")))
    assert 'value="sgx"' in page and 'value="tdx"' not in page
    assert lead.post(at(shaped, "training"), {**TRAINING, "runtime": "tdx"}).status_code == 422


def test_how_coarse_the_tables_of_the_test_are_is_chosen_and_read(lead: Client, shaped: Study) -> None:
    assert lead.post(at(shaped, "training"), {**TRAINING, "cells": 20}).status_code == 302
    review = lead.get(at(shaped, "review"))
    assert review.context["manifest"].publication.cells == 20
    assert "in multiples of at least 20 rows" in text(review)
    assert lead.post(at(shaped, "training"), {**TRAINING, "cells": 0}).status_code == 302
    assert "Tables of the test" not in text(lead.get(at(shaped, "review")))
    assert lead.post(at(shaped, "training"), {**TRAINING, "cells": 1}).status_code == 422


def test_what_saves_memory_is_chosen_and_read(lead: Client, shaped: Study) -> None:
    saving = {**TRAINING, "at_once": 2, "checkpointing": "on"}
    assert lead.post(at(shaped, "training"), saving).status_code == 302
    review = lead.get(at(shaped, "review"))
    training = review.context["manifest"].training
    assert (training.at_once, training.activations) == (2, "again")
    assert "2 of a batch, whose gradients are added up" in text(review)
    assert "activations are computed again" in text(review)
    lead.post(at(shaped, "method"), {"choice": "masked"})  # masked products go out once
    assert 'name="checkpointing"' not in text(lead.get(at(shaped, "training")))
    training = lead.get(at(shaped, "review")).context["manifest"].training
    assert (training.at_once, training.activations) == (2, UNSET)
    assert lead.post(at(shaped, "training"), TRAINING).status_code == 302
    assert lead.get(at(shaped, "review")).context["manifest"].training.at_once is UNSET


def test_a_model_that_tags_words_is_refused_to_be_served_where_it_is_chosen(
    lead: Client, shaped: Study
) -> None:
    shaped.settings |= {"task": "token-classification"}
    shaped.save()
    page = lead.post(at(shaped, "training"), {**TRAINING, "release": "serve-only"})
    assert page.status_code == 422 and "A model that tags words is not served" in text(page)


def test_serving_is_offered_where_something_serves_and_explained_where_it_was_chosen_before(
    lead: Client, shaped: Study, reference_values: None
) -> None:
    from contracts.policy import SgxReference
    from federation.attestation import references
    from federation.attestation.models import Root

    value = SgxReference(program="split_server", mrenclave="9" * 64)
    references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")

    def offered() -> bool:
        return 'value="serve-only"' in text(lead.get(at(shaped, "training")))

    assert not offered(), "a model of Method 1 is not served"
    lead.post(at(shaped, "method"), {"choice": "split"})
    assert offered()
    served = {**TRAINING, "release": "serve-only", "answers": 5000}
    assert lead.post(at(shaped, "training"), served).status_code == 302
    review = lead.get(at(shaped, "review"))
    assert review.context["manifest"].release.answers == 5000
    assert "at most 5,000 answers" in text(review)
    lead.post(at(shaped, "method"), {"choice": "all_in_tee"})
    assert 'name="answers"' not in text(lead.get(at(shaped, "training")))
    assert offered(), "what is chosen is seen"
    page = lead.post(at(shaped, "training"), {**TRAINING, "release": "serve-only"})
    assert page.status_code == 422 and "A model of Method 1 is not served" in text(page)
    assert "study.method_not_served" in text(lead.get(at(shaped, "review")))


@pytest.mark.parametrize("choice", ["split", "all_in_tee"])
def test_training_may_end_early_in_both_methods(choice: str, lead: Client, shaped: Study) -> None:
    lead.post(at(shaped, "method"), {"choice": choice})
    assert lead.post(at(shaped, "training"), {**TRAINING, "patience": 3}).status_code == 302
    shaped.refresh_from_db()
    assert shaped.settings["patience"] == 3


@pytest.mark.parametrize(
    ("field", "typed"),
    [("warmup", "101"), ("accepted_advisories", "SA 615; drop"), ("release_approvals", "3"), ("seed", "-1")],
)
def test_a_fault_among_the_rare_settings_opens_them_and_keeps_what_was_typed(
    field: str, typed: str, lead: Client, shaped: Study
) -> None:
    assert "<details open>" not in text(lead.get(at(shaped, "training")))
    page = lead.post(at(shaped, "training"), {**TRAINING, field: typed})
    assert page.status_code == 422 and set(page.context["form"].errors) == {field}
    assert "<details open>" in text(page) and f'value="{typed}"' in text(page)


def test_noise_per_row_wants_a_learning_rate_that_stays(lead: Client, shaped: Study) -> None:
    for change, field in (({"schedule": "linear"}, "schedule"), ({"warmup": "5"}, "warmup")):
        page = lead.post(at(shaped, "training"), {**TRAINING, "privacy": "record", **change})
        assert page.status_code == 422 and set(page.context["form"].errors) == {field}


def test_what_lora_is_put_on_can_be_chosen_and_goes_with_the_model(lead: Client, shaped: Study) -> None:
    BaseModel.objects.update(targets=["query", "value"])
    page = lead.get(at(shaped, "tuning"))
    boxes = dict(page.context["form"].fields["targets"].choices)
    assert "attention.self.key" in boxes and boxes["output.dense"].endswith("(and attention.output.dense)")
    asked = {"adapter": "lora", "rank": 4, "alpha": 8, "prefix_length": 4}
    trained = []
    for targets in (["attention.self.key"], ["attention.self.key", "intermediate.dense"]):
        costs = lead.get(reverse("study-costs", args=[shaped.pk, "tuning"]), {**asked, "targets": targets})
        trained.append(costs.context["costs"].trained)
    assert trained[0] < trained[1]
    lead.post(at(shaped, "tuning"), {**asked, "targets": ["attention.self.key"]})
    assert lead.get(at(shaped, "review")).context["manifest"].adapter.targets == ("attention.self.key",)
    page = lead.post(at(shaped, "tuning"), {**asked, "lora_dropout": "1"})
    assert page.status_code == 422 and set(page.context["form"].errors) == {"lora_dropout"}
    lead.post(at(shaped, "tuning"), {**asked, "lora_dropout": "0.1", "rslora": "on"})
    page = lead.get(at(shaped, "review"))
    adapter = page.context["manifest"].adapter
    assert (adapter.dropout, adapter.rslora) == (0.1, True)
    assert "alpha / √rank (rsLoRA)" in text(page) and "10 %" in text(page)
    lead.post(at(shaped, "tuning"), {**asked, "targets": ["value", "query"]})
    shaped.refresh_from_db()
    assert shaped.settings["targets"] == []  # the usual ones
    lead.post(at(shaped, "tuning"), {**asked, "targets": ["attention.self.key"]})
    services.register_base_model("other", made_proof(targets=("q_proj",)))
    lead.post(at(shaped, "model"), {"model": "other|sequence-classification", "max_tokens": 48,
                                    "precision": "fp32"})  # fmt: skip
    shaped.refresh_from_db()
    assert shaped.settings["targets"] == []


def test_how_many_layers_a_hospitals_own_machine_computes_comes_into_the_manifest(
    lead: Client, shaped: Study
) -> None:
    asked = {"adapter": "lora", "rank": 4, "alpha": 8, "prefix_length": 4, "front_sample": 40}
    costs = [
        lead.get(reverse("study-costs", args=[shaped.pk, "tuning"]), {**asked, "front": front}).context[
            "costs"
        ]
        for front in (0, 1, 2)
    ]
    assert costs[0].kept == 0 < costs[1].kept == costs[2].kept
    assert costs[0].trained > costs[1].trained > costs[2].trained and costs[0].tee > costs[2].tee
    deepest = lead.get(at(shaped, "tuning")).context["form"].deepest
    page = lead.post(at(shaped, "tuning"), {**asked, "front": deepest + 1})
    assert page.status_code == 422 and set(page.context["form"].errors) == {"front"}
    assert lead.post(at(shaped, "tuning"), {**asked, "front": 2}).status_code == 302
    review = lead.get(at(shaped, "review"))
    assert review.context["manifest"].front == PublicFront(2, 40)
    assert "what the base model makes of its texts up to layer 2" in text(review)
    page = lead.post(at(shaped, "training"), {**TRAINING, "privacy": "record"})
    assert page.status_code == 422 and set(page.context["form"].errors) == {"privacy"}
    # A prefix stands before every layer, and Method 2 has a cut of its own.
    lead.post(at(shaped, "tuning"), {**asked, "front": 2, "adapter": "prefix"})
    shaped.refresh_from_db()
    assert shaped.settings["front"] == 0


def test_a_public_front_is_not_for_somebody_elses_accelerators(lead: Client, shaped: Study) -> None:
    lead.post(at(shaped, "method"), {"choice": "masked"})
    asked = {"adapter": "lora", "rank": 4, "alpha": 8, "prefix_length": 4, "repetitions": 1, "vault_bytes": 1}
    page = lead.post(at(shaped, "tuning"), {**asked, "front": 1, "accelerator": "other"})
    assert page.status_code == 422 and set(page.context["form"].errors) == {"front"}
    assert lead.post(at(shaped, "tuning"), {**asked, "front": 1, "accelerator": "site"}).status_code == 302
    assert lead.get(at(shaped, "review")).context["manifest"].masking.accelerator == "site"
    lead.post(at(shaped, "method"), {"choice": "split"})
    shaped.refresh_from_db()
    assert shaped.settings["front"] == 0


def test_masks_are_put_on_in_c_where_the_lead_asks_for_it(lead: Client, shaped: Study) -> None:
    lead.post(at(shaped, "method"), {"choice": "masked"})
    asked = {"adapter": "lora", "rank": 4, "alpha": 8, "prefix_length": 4, "repetitions": 1, "vault_bytes": 1}
    for extra, said in (({}, False), ({"native_passes": "on"}, True)):
        assert lead.post(at(shaped, "tuning"), {**asked, "accelerator": "site", **extra}).status_code == 302
        masking = lead.get(at(shaped, "review")).context["manifest"].masking
        assert (b'"passes":"native"' in canonical(masking)) is said


def test_a_draft_has_the_rate_and_rounds_that_were_searched_for_what_it_tunes(
    lead: Client, shaped: Study
) -> None:
    """Until the lead types others; where nothing was searched, the plan's own."""
    begun = {"learning_rate": SEARCHED["lora"].learning_rate, "rounds": SEARCHED["lora"].rounds}
    settings = {**shaped.settings, **begun}
    Study.objects.filter(pk=shaped.pk).update(settings=settings)
    prefix = {"adapter": "prefix", "rank": 4, "alpha": 8, "prefix_length": 4}
    for step, asked, kind in (
        ("tuning", prefix, "prefix"),
        ("method", {"choice": "split"}, "spf"),
        ("method", {"choice": "all_in_tee"}, "prefix"),
    ):
        assert lead.post(at(shaped, step), asked).status_code == 302
        shaped.refresh_from_db()
        now = shaped.settings
        assert (now["learning_rate"], now["rounds"]) == SEARCHED[kind]
        page = lead.get(at(shaped, "training")).context["form"]
        assert f"{SEARCHED[kind].learning_rate:g}" in page.fields["learning_rate"].help_text
    lead.post(at(shaped, "training"), {**TRAINING, "learning_rate": "0.003", "rounds": 7})
    lead.post(at(shaped, "tuning"), {**prefix, "adapter": "lora"})
    shaped.refresh_from_db()
    assert (shaped.settings["learning_rate"], shaped.settings["rounds"]) == (0.003, 7)
    assert following({**settings, "rounds": 7}, {"task": "causal-lm"}) == {"learning_rate": 0.001}


def test_a_masked_draft_begins_with_a_public_front_of_half_the_layers(lead: Client, shaped: Study) -> None:
    """Until the lead types another; where it was not measured, or is not possible, with none."""
    typed = {"adapter": "lora", "rank": 4, "alpha": 8, "prefix_length": 4, "repetitions": 1, "vault_bytes": 1,
             "accelerator": "site"}  # fmt: skip
    half = BaseModel.objects.get().config["num_hidden_layers"] // 2
    assert half > 0 == shaped.settings["front"]
    for step, asked, front in (
        ("method", {"choice": "masked"}, half),
        ("method", {"choice": "all_in_tee"}, 0),
        ("method", {"choice": "masked"}, half),
        ("tuning", {**typed, "adapter": "prefix", "front": half}, 0),
        ("method", {"choice": "split"}, 0),
        ("method", {"choice": "masked"}, 0),
        ("tuning", {**typed, "front": 0}, 0),
        ("method", {"choice": "masked"}, 0),  # as it was typed
    ):
        assert lead.post(at(shaped, step), asked).status_code == 302
        shaped.refresh_from_db()
        assert shaped.settings["front"] == front, (step, asked)
    writing = {"task": "causal-lm", "placement": "masked", "front": 0}
    assert "front" not in following(writing, {"batch_size": 2}, 6)


def test_what_drafts_begin_with_is_what_the_results_say() -> None:
    """The bold rows of the table of the search, which are the best of their kind."""
    results = (Path(__file__).parents[2] / "docs/results.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in results.partition("| tuned | rate |")[2].splitlines()[2:]
    ]
    kinds = {"LoRA 8/16, all": "lora", "P-Tuning v2": "prefix", "Method 2, SPF": "spf"}
    means: dict[str, dict[Searched, float]] = {name: {} for name in SEARCHED}
    bold, kind = {}, ""
    for row in rows:
        if len(row) != 6:
            break
        if row[0]:
            kind = next((name for said, name in kinds.items() if row[0].startswith(said)), "")
        _what, rate, *_each, mean, rounds = row
        if not kind or not mean:
            continue
        one = Searched(float(rate.strip("*")), int(rounds or 0))
        means[kind][one] = float(mean.strip("*"))
        if rate.startswith("**") and mean.startswith("**"):
            bold[kind] = one
    assert bold == SEARCHED
    assert {name: max(each, key=lambda one: each[one]) for name, each in means.items()} == SEARCHED


def test_settings_that_do_not_go_together_are_refused_at_the_field_that_mends_them(
    lead: Client, shaped: Study
) -> None:
    kept = {**TRAINING, "privacy": "site"}
    page = lead.post(at(shaped, "training"), kept)
    assert page.status_code == 422 and set(page.context["form"].errors) == {"clip"}
    page = lead.post(at(shaped, "training"), {**kept, "clip": 1, "rule": "stack-svd"})
    assert set(page.context["form"].errors) == {"rule"}
    page = lead.post(at(shaped, "training"), {**TRAINING, "rule": "ffa-lora", "release": "export"})
    assert set(page.context["form"].errors) == {"release"}
    asked = {**TRAINING, "server_optimizer": "fedadam", "proximal": "0.1"}
    page = lead.post(at(shaped, "training"), {**asked, "rule": "stack-svd"})
    assert set(page.context["form"].errors) == {"server_optimizer"}
    assert lead.post(at(shaped, "training"), asked).status_code == 302
    page = lead.get(at(shaped, "review"))
    assert page.context["manifest"].aggregation.optimizer == ServerOptimizer("fedadam", 0.01, 0.9, 0.99, 1e-3)
    assert "a step of FedAdam towards the mean" in text(page) and "0.1 (FedProx)" in text(page)
    assert lead.post(at(shaped, "training"), {**kept, "clip": 1}).status_code == 302
    # Method 2 averages no updates: choosing it takes noise and clip back, so that it can be frozen.
    lead.post(at(shaped, "method"), {"choice": "split"})
    shaped.refresh_from_db()
    assert (shaped.settings["privacy"], shaped.settings["clip"]) == ("none", None)
    assert (shaped.settings["server_optimizer"], shaped.settings["proximal"]) == ("none", 0.0)
    assert 'name="noise"' not in text(lead.get(at(shaped, "training")))


def test_the_plaintext_baseline_is_for_public_datasets(lead: Client, shaped: Study) -> None:
    page = lead.post(at(shaped, "method"), {"choice": "plaintext"})
    assert page.status_code == 422 and "declared public" in text(page)
    for dataset in shaped.datasets.all():
        dataset.card = {**dataset.card, "public": True}
        dataset.save()
    assert lead.post(at(shaped, "method"), {"choice": "plaintext"}).status_code == 302


def test_the_review_says_what_leaves_a_hospital_by_method(
    lead: Client, shaped: Study, reference_values: None
) -> None:
    from contracts.policy import SgxReference
    from federation.attestation import references
    from federation.attestation.models import Root

    value = SgxReference(program="split_server", mrenclave="9" * 64)
    references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")
    sealed = "sealed to the attested aggregator"
    assert sealed in text(lead.get(at(shaped, "review")))
    lead.post(at(shaped, "method"), {"choice": "split"})
    page = text(lead.get(at(shaped, "review")))
    assert "what the base model makes of them up to layer 1" in page and sealed not in page


def test_the_advice_starts_from_the_memory_of_the_smallest_hospital(
    lead: Client, shaped: Study, anna: Hospital, barbara: Hospital
) -> None:
    from site_agent.formatting import readable_bytes

    lead.post(at(shaped, "method"), {"choice": "split"})
    for hospital, memory in ((anna, 64 << 30), (barbara, 15 << 30)):
        found = f"{readable_bytes(memory)} in this machine"
        hospital.site.checks = [{"name": "memory", "outcome": "pass", "found": found, "hint": ""}]
        hospital.site.save()
    assert lead.get(at(shaped, "tuning")).context["smallest"] == "15.0"
    anna.site.checks = []
    anna.site.save()
    assert lead.get(at(shaped, "tuning")).context["smallest"] is None
