"""The study wizard: drafts are saved as they go, nothing typed is lost, and its figures are real ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse

from contracts.canonical import canonical
from contracts.manifest import PublicFront, ServerOptimizer
from contracts.model_proof import WAYS, Verdict
from contracts.refusal import Refusal
from enclave_host.proving.registration import SHAPE
from enclave_jobs.base_models import model_jobs
from enclave_jobs.runs.models import Run
from federation.people.models import User
from federation.studies import services
from federation.studies.freezing import build_manifest
from federation.studies.models import BaseModel, Study, StudyState
from federation.studies.plan import Plan
from frontend.overlap import overlap
from frontend.wizard import NAMES
from tests.federation.cast import MODEL, Hospital, make_dataset
from tests.slicing.small import config
from tests.support.proofs import freeze as freeze_tried
from tests.support.proofs import made_proof


@pytest.fixture
def lead(lena: User) -> Client:
    client = Client()
    client.force_login(lena)
    return client


@pytest.fixture
def shaped(draft: Study) -> Study:
    """A draft whose model's shape is on record."""
    shape = {name: getattr(config("bert"), name, None) for name in SHAPE}
    kept = {name: value for name, value in shape.items() if value is not None}
    BaseModel.objects.update(config=kept, parameters=100_000)
    return draft


def at(study: Study, step: str) -> str:
    return reverse("study-step", args=[study.pk, step])


def text(response: Any) -> str:
    return response.content.decode()


def test_a_name_is_enough_for_a_draft(lead: Client, base_model: None) -> None:
    response = lead.post(reverse("study-new"), {"name": "Triage", "purpose": ""})
    study = Study.objects.get()
    assert response.headers["Location"] == at(study, "model")
    assert study.state == StudyState.DRAFT and study.settings["model"] == MODEL


def test_without_a_model_the_wizard_says_who_has_to_do_what(lead: Client) -> None:
    page = lead.get(reverse("study-new"))
    assert "study.no_model" in text(page) and "register_model" in text(page)
    assert "study.no_model" in text(lead.post(reverse("study-new"), {"name": "Kept"}))
    assert 'value="Kept"' in text(lead.post(reverse("study-new"), {"name": "Kept"}))


@pytest.mark.parametrize("step", NAMES)
def test_every_step_opens_and_names_the_one_before(step: str, lead: Client, shaped: Study) -> None:
    page = lead.get(at(shaped, step))
    assert page.status_code == 200 and 'aria-current="step"' in text(page)
    if step != "purpose":
        assert NAMES[NAMES.index(step) - 1] in text(page)


def test_each_step_saves_its_part_and_leaves_the_rest(lead: Client, shaped: Study) -> None:
    lead.post(at(shaped, "model"), {"model": f"{MODEL}|sequence-classification", "max_tokens": 48,
                                    "precision": "fp32"})  # fmt: skip
    lead.post(at(shaped, "method"), {"choice": "split"})
    lead.post(at(shaped, "tuning"), {"cut": 2, "attention_ratio": "62.5", "dense_ratio": "12.5", "rank": 4,
                                     "alpha": 8, "select": "random", "batches": "pooled",
                                     "tuned_rows": ["dense"]})  # fmt: skip
    shaped.refresh_from_db()
    plan = shaped.settings
    assert (plan["max_tokens"], plan["method"], plan["cut"]) == (48, "method-2", 2)
    assert (plan["attention_ratio"], plan["tuned_lora"], plan["select"]) == (62.5, [], "random")
    assert plan["rounds"] == Plan(model=MODEL).rounds and shaped.datasets.count() == 2


def test_what_is_wrong_is_said_and_what_was_typed_stays(lead: Client, shaped: Study) -> None:
    page = lead.post(at(shaped, "purpose"), {"name": "", "purpose": "Kept words"})
    assert page.status_code == 422 and "Kept words" in text(page) and 'aria-invalid="true"' in text(page)
    page = lead.post(at(shaped, "training"), {"rounds": "-3", "learning_rate": "0.01"})
    assert page.status_code == 422 and 'value="-3"' in text(page)


def test_going_back_with_something_wrong_loses_nothing(lead: Client, shaped: Study) -> None:
    response = lead.post(at(shaped, "training"), {"rounds": "-3", "go": "method"})
    assert response.headers["Location"] == at(shaped, "method")
    assert "to fix" in text(lead.get(at(shaped, "method")))
    assert 'value="-3"' in text(lead.get(at(shaped, "training")))
    shaped.refresh_from_db()
    assert shaped.settings["rounds"] == Plan(model=MODEL).rounds


def test_a_cut_behind_the_last_layer_is_refused_at_its_field(lead: Client, shaped: Study) -> None:
    lead.post(at(shaped, "method"), {"choice": "split"})
    page = lead.post(at(shaped, "tuning"), {"cut": 3})
    assert page.status_code == 422 and "cut after layer 2 at most" in text(page)


def test_datasets_that_the_models_task_cannot_use_are_named_and_not_offered(
    lead: Client, shaped: Study, anna: Hospital
) -> None:
    chats = make_dataset(anna.site, "chats", kind="messages")
    pairs = make_dataset(anna.site, "pairs", kind="pair-label")
    page = text(lead.get(at(shaped, "data")))
    assert f'value="{chats.pk}"' not in page and f'value="{pairs.pk}"' in page
    assert "1 dataset cannot be used here" in page and "chats (conversations)" in page
    assert lead.post(at(shaped, "data"), {"datasets": [chats.pk]}).status_code == 422
    mixed = [pairs.pk, *shaped.datasets.exclude(site=anna.site).values_list("pk", flat=True)]
    refused = lead.post(at(shaped, "data"), {"datasets": mixed})
    assert refused.status_code == 422 and "datasets of one kind: single texts, pairs" in text(refused)


def test_a_study_of_a_model_that_writes_asks_for_no_labels(
    lead: Client, shaped: Study, anna: Hospital
) -> None:
    BaseModel.objects.update(task="causal-lm")
    shaped.settings |= {"task": "causal-lm"}
    shaped.save()
    chats = make_dataset(anna.site, "chats", kind="messages")
    page = text(lead.get(at(shaped, "data")))
    assert f'value="{chats.pk}"' in page and "How alike they are" not in page
    assert "60 rows · conversations" in page and "0 labels" not in page
    assert lead.post(at(shaped, "data"), {"datasets": [chats.pk]}).status_code == 302
    assert [dataset.pk for dataset in shaped.datasets.all()] == [chats.pk]


def test_answers_are_written_where_an_enclave_has_all_of_a_model_that_writes(
    lead: Client, shaped: Study
) -> None:
    assert 'name="written_rows"' not in text(lead.get(at(shaped, "training")))
    BaseModel.objects.update(task="causal-lm")
    shaped.settings |= {"task": "causal-lm"}
    shaped.save()
    asked = {**TRAINING, "written_rows": 32, "written_tokens": 64}
    assert 'name="written_rows"' in text(lead.get(at(shaped, "training")))
    assert lead.post(at(shaped, "training"), {**asked, "written_tokens": 63}).status_code == 422
    assert lead.post(at(shaped, "training"), asked).status_code == 302
    shaped.refresh_from_db()
    assert (shaped.settings["written_rows"], shaped.settings["written_tokens"]) == (32, 64)
    # What the plan asks for stays to be seen where it goes with nothing any more, and is refused there.
    lead.post(at(shaped, "method"), {"choice": "masked"})
    page = lead.post(at(shaped, "training"), asked)
    assert page.status_code == 422 and set(page.context["form"].errors) == {"written_rows"}
    assert lead.post(at(shaped, "training"), {**asked, "written_rows": 0}).status_code == 302
    assert 'name="written_rows"' not in text(lead.get(at(shaped, "training")))


def test_two_datasets_of_one_hospital_are_refused_at_their_field(
    lead: Client, shaped: Study, anna: Hospital
) -> None:
    both = [make_dataset(anna.site, name).pk for name in ("one", "two")]
    page = lead.post(at(shaped, "data"), {"datasets": both})
    assert page.status_code == 422 and "St. Anna gives two datasets" in text(page)


def test_the_costs_follow_the_sliders_and_nothing_is_saved(lead: Client, shaped: Study) -> None:
    lead.post(at(shaped, "method"), {"choice": "split"})
    address = reverse("study-costs", args=[shaped.pk, "tuning"])
    asked = {"cut": 1, "dense_ratio": "12.5", "rank": 4, "alpha": 8, "select": "largest", "batches": "pooled",
             "tuned_rows": "dense"}  # fmt: skip
    trained = [
        lead.get(address, {**asked, "attention_ratio": ratio}).context["costs"].trained
        for ratio in (12.5, 100)
    ]
    assert trained[0] < trained[1]
    shaped.refresh_from_db()
    assert shaped.settings["attention_ratio"] == Plan(model=MODEL).attention_ratio


def test_costs_of_a_half_typed_form_are_those_of_what_is_saved(lead: Client, shaped: Study) -> None:
    address = reverse("study-costs", args=[shaped.pk, "training"])
    page = lead.get(address, {"rounds": ""})
    assert page.context["costs"] is not None and "costs of what is saved" in text(page)


def test_the_advice_names_a_cut_that_fits_or_says_what_does_not(lead: Client, shaped: Study) -> None:
    lead.post(at(shaped, "method"), {"choice": "split"})
    address = reverse("study-advice", args=[shaped.pk])
    assert "Cut after layer 1." in text(lead.get(address, {"tee": "64", "site": "8"}))
    assert "No tail fits the TEE" in text(lead.get(address, {"tee": "0.00001", "site": "8"}))
    assert "Give both memories" in text(lead.get(address, {"tee": "many", "site": "8"}))


def test_the_review_shows_the_manifest_as_it_will_be_and_freezes_it(lead: Client, shaped: Study) -> None:
    page = lead.get(at(shaped, "review"))
    assert "What leaves a hospital" in text(page) and page.context["manifest"].study == shaped.name
    page = lead.post(reverse("study-freeze", args=[shaped.pk]), follow=True)
    assert "The model is tried before the study is frozen" in text(page)
    job = shaped.model_jobs.get()
    model_jobs.take(job.pk)
    model_jobs.note_progress(job, {"stage": "tensors", "done": 1, "of": 4})
    check = lead.get(reverse("study-check", args=[shaped.pk]))
    assert 'value="25"' in text(check) and "HX-Refresh" not in check.headers
    model_jobs.refuse(job, Refusal("model.file_changed", file="config.json"))
    assert lead.get(reverse("study-check", args=[shaped.pk])).headers["HX-Refresh"] == "true"
    assert "model.file_changed" in text(lead.get(reverse("study", args=[shaped.pk])))
    freeze_tried(User.objects.get(email="lena@university.example"), shaped)
    assert lead.get(at(shaped, "review")).headers["Location"] == reverse("study", args=[shaped.pk])


def test_the_wizard_offers_only_what_was_proven(lead: Client, shaped: Study) -> None:
    known = {way: Verdict() for way in WAYS}
    known |= {"masked/lora": Verdict("model.pass_failed", {"way": "masked/lora", "fault": "of a kind"}),
              "masked/prefix": Verdict("model.no_gradient"), "all_in_tee/lora": Verdict("model.no_gradient"),
              "split/spf": Verdict("model.one_layer")}  # fmt: skip
    services.register_base_model(MODEL, made_proof(ways=known))
    page = text(lead.get(at(shaped, "method")))
    assert "of a kind" in page and 'value="masked" disabled' in page and 'value="split" disabled' in page
    for choice in ("masked", "split"):
        assert lead.post(at(shaped, "method"), {"choice": choice}).status_code == 422
    lead.post(at(shaped, "method"), {"choice": "all_in_tee"})
    shaped.refresh_from_db()
    assert shaped.settings["adapter"] == "prefix"  # the one that was proven
    page = lead.get(at(shaped, "tuning"))
    assert [name for name, _ in page.context["form"].fields["adapter"].choices] == ["prefix"]
    assert "What would be tuned does not change what the model answers." in text(page)  # why LoRA is not
    BaseModel.objects.update(proof={})
    page = text(lead.get(at(shaped, "model")))
    assert "is not offered" in page and 'type="radio" name="model"' not in page


def test_the_review_says_what_is_missing(lead: Client, shaped: Study) -> None:
    shaped.datasets.clear()
    page = text(lead.get(at(shaped, "review")))
    assert "study.no_datasets" in page and "Freeze and ask" not in page


def test_a_clone_is_a_draft_of_its_own_without_withdrawn_data(
    lead: Client, lena: User, ready: Study, anna: Hospital
) -> None:
    from django.utils import timezone

    ready.datasets.filter(site=anna.site).update(withdrawn_at=timezone.now())
    lead.post(reverse("study-clone", args=[ready.pk]))
    clone = Study.objects.exclude(pk=ready.pk).get()
    assert clone.state == StudyState.DRAFT and clone.settings == ready.settings
    assert clone.datasets.count() == 1 and not clone.manifest_hash


def test_nobody_clones_what_he_may_not_see(ludo: User, ready: Study) -> None:
    from contracts.refusal import Refusal

    with pytest.raises(Refusal, match=r"auth\.forbidden"):
        services.clone_study(ludo, ready, "mine")


def test_the_chart_shows_skew_and_what_is_hidden(anna: Hospital, barbara: Hospital) -> None:
    one, two = make_dataset(anna.site), make_dataset(barbara.site)
    assert overlap([one, two])["worst"] == 0
    two.card = {**two.card, "labels": {"cause": 50, "other": None, "rare": None}}
    found = overlap([one, two])
    assert found["worst"] > 0.2 and found["shared"] == 1 and found["hides"]
    assert set(found["partly"]) == {"symptom", "treatment", "other", "rare"}
    assert found["bars"][1]["hidden"] == 10


TRAINING = {
    "rounds": 2, "local_epochs": 1, "batch_size": 8, "learning_rate": "0.001", "seed": 0,
    "schedule": "constant", "warmup": "0", "patience": 0, "rule": "fedavg",
    "server_optimizer": "none", "server_beta1": "0.9", "server_beta2": "0.99", "server_tau": "0.001",
    "proximal": "0", "noise": 1, "delta": "0.00001",
    "gradient_clip": 1, "deadline_seconds": 60, "release": "nothing",
    "runtime": "development", "privacy": "none", "accepted_statuses": ["UpToDate"], "cells": 5,
}  # fmt: skip


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
    assert "base model’s first 2 layers" in text(review).replace("&#x27;", "’")
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
    assert "what the base model&#x27;s first 1 layers make of them" in page and sealed not in page


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
