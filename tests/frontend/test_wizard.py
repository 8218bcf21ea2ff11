"""The study wizard: drafts are saved as they go, nothing typed is lost, and its figures are real ones."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from contracts.model_proof import WAYS, Verdict
from contracts.refusal import Refusal
from enclave_jobs.base_models import model_jobs
from federation.datasets.models import Dataset
from federation.people.models import User
from federation.studies import services
from federation.studies.models import BaseModel, Study, StudyState
from federation.studies.plan import Plan
from federation.studies.searched import SEARCHED
from frontend.overlap import overlap
from frontend.wizard import NAMES
from tests.federation.cast import MODEL, Hospital, make_dataset
from tests.frontend.wizard_pages import TRAINING, at, text
from tests.support.proofs import freeze as freeze_tried
from tests.support.proofs import made_proof


def test_a_name_is_enough_for_a_draft(lead: Client, base_model: None) -> None:
    response = lead.post(reverse("study-new"), {"name": "Triage", "purpose": ""})
    study = Study.objects.get()
    assert response.headers["Location"] == at(study, "model")
    assert study.state == StudyState.DRAFT and study.settings["model"] == MODEL


def test_a_leads_first_draft_begins_with_all_data_where_nothing_is_to_be_chosen(
    lead: Client, lena: User, base_model: None, anna: Hospital, barbara: Hospital
) -> None:
    def drafted(**said: str) -> tuple[int, str]:
        Study.objects.all().delete()
        went = lead.post(reverse("study-new"), {"name": "Triage", **said}).headers["Location"]
        return Study.objects.get().datasets.count(), went.rsplit("/", 1)[-1]

    make_dataset(anna.site)
    assert drafted() == (0, "model")  # a study of one hospital is nobody's wish
    make_dataset(barbara.site)
    assert drafted(go="review") == (2, "review")
    assert "all are chosen: St. Anna, St. Barbara." in text(lead.get(at(Study.objects.get(), "review")))
    lead.post(reverse("study-new"), {"name": "Another"})
    assert Study.objects.get(name="Another").datasets.count() == 0
    more = make_dataset(anna.site, "more")
    assert drafted() == (0, "model")
    more.withdrawn_at = timezone.now()
    more.save()
    alike = Dataset.objects.get(site=barbara.site)
    label = next(iter(alike.card["labels"]))
    alike.card = {**alike.card, "labels": {label.upper() + " ": 9, **alike.card["labels"]}}
    alike.save()
    assert drafted() == (0, "model")  # whether two spellings are one class is a person's to say


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
    # What nobody typed follows what is tuned.
    assert plan["rounds"] == SEARCHED["spf"].rounds and shaped.datasets.count() == 2


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


def test_a_masked_study_says_before_its_launch_how_long_pads_take(lead: Client, shaped: Study) -> None:
    assert "tokens per core-hour" not in text(lead.get(at(shaped, "tuning")))
    lead.post(at(shaped, "method"), {"choice": "masked"})
    assert "tokens per core-hour" in text(lead.get(reverse("study-costs", args=[shaped.pk, "tuning"])))
    assert "tokens per core-hour" in text(lead.get(at(shaped, "method")))


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
