"""Freezing a study: what its manifest says, and what is refused before anybody signs."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import msgspec
import pytest

from attestation.development import root_sha256
from attestation.development_quoting import constants as dev
from contracts.manifest import Privacy, ServerOptimizer, parse
from contracts.refusal import Refusal
from federation.attestation.models import Reference
from federation.datasets.models import Dataset
from federation.people.models import User
from federation.sites.models import Site, SiteState
from federation.studies import queries, services
from federation.studies.freezing import build_manifest
from federation.studies.models import BaseModel, Study, StudyState
from federation.studies.noise import planned_epsilon
from federation.studies.plan import Plan, read
from privacy_accounting.epsilon import epsilon, planned
from site_agent.weaknesses.labels import of_labels
from tests.federation.acts import refused
from tests.federation.cast import MODEL, Hospital, make_dataset
from tests.support.proofs import freeze as freeze_tried
from tests.support.proofs import made_proof


def offer(kind: str) -> None:
    """One of the datasets is of another kind."""
    dataset = Dataset.objects.all()[0]
    dataset.card = {**dataset.card, "kind": kind}
    dataset.save()


def settle(**choices: Any) -> None:
    """Write a plan as nobody's form would."""
    Study.objects.update(settings={"model": MODEL, **choices})


def settle_of_six(**choices: Any) -> None:
    """The same for a model of six layers."""
    BaseModel.objects.update(config={"num_hidden_layers": 6})
    settle(**choices)


class TestFreezing:
    def test_the_manifest_says_everything(
        self, draft: Study, lena: User, anna: Hospital, barbara: Hospital, settings: Any
    ) -> None:
        freeze_tried(lena, draft)
        draft.refresh_from_db()
        assert draft.state == StudyState.APPROVING
        text = (draft.manifest or "").encode()
        manifest = parse(text)
        assert draft.manifest_hash == hashlib.sha256(text).hexdigest() == manifest.hash
        assert [site.id for site in manifest.sites] == sorted([anna.site.pk, barbara.site.pk])
        assert manifest.site(anna.site.pk).public_key == anna.key.public
        assert manifest.site(anna.site.pk).approval_key == anna.site.approval_key
        dataset = draft.datasets.get(site=anna.site)
        ref = manifest.site(anna.site.pk).dataset
        assert (ref.id, ref.digest, ref.rows) == (dataset.pk, dataset.digest, 60)
        assert manifest.model.labels == ("cause", "symptom", "treatment")
        assert manifest.model.files == {"config.json": "c" * 64}
        assert manifest.adapter.targets == ("query", "value")
        assert (manifest.aggregation.quorum, manifest.release.approvals) == (2, 2)
        assert manifest.policy.root_sha256 == root_sha256(settings.DEVELOPMENT_ROOT_DIR)
        assert [reference.program for reference in manifest.policy.references] == [
            "aggregator",
            "client_slice",
        ]
        assert abs(manifest.minimum_time - time.time()) < 10
        assert manifest.policy.minimum_tcb_evaluation == dev.TCB_EVALUATION
        (floor,) = manifest.policy.floors
        assert (floor.fmspc, floor.ca, floor.pck_crl_number) == (dev.FMSPC.hex(), "platform", 1)
        assert manifest.minimum_time - 2 * 3600 <= floor.pck_crl_issued <= manifest.minimum_time
        assert queries.waiting_for(draft) == sorted([anna.site, barbara.site], key=lambda site: site.pk)

    def test_rule_bounds_and_noise_go_into_the_manifest(self, draft: Study, lena: User) -> None:
        settle(rule="ffa-lora", clip=0.5, max_samples=40, privacy="site", noise=1.5, delta=1e-6)
        draft.refresh_from_db()
        freeze_tried(lena, draft)
        draft.refresh_from_db()
        rules = parse((draft.manifest or "").encode()).aggregation
        assert (rules.rule, rules.clip, rules.max_samples) == ("ffa-lora", 0.5, 40)
        assert rules.privacy == Privacy("site", 1.5, 1e-6)

    def test_a_servers_step_and_a_proximal_term_go_into_the_manifest(self, draft: Study) -> None:
        for chosen, expected in (
            ({"server_optimizer": "fedavgm", "server_beta1": 0.5}, ServerOptimizer("fedavgm", 1.0, 0.5)),
            (
                {"server_optimizer": "fedyogi", "server_learning_rate": 0.1, "proximal": 0.25},
                ServerOptimizer("fedyogi", 0.1, 0.9, 0.99, 1e-3),
            ),
        ):
            settle(**chosen)
            draft.refresh_from_db()
            manifest = build_manifest(draft)
            assert manifest.aggregation.optimizer == expected
            assert manifest.training.proximal == chosen.get("proximal", 0)

    def test_epsilon_of_a_frozen_study_is_that_of_its_worst_hospital(
        self, draft: Study, lena: User, anna: Hospital
    ) -> None:
        settle(privacy="record", noise=1.0, delta=1e-5, batch_size=8)
        for dataset in draft.datasets.all():
            rows = 20 if dataset.site_id == anna.site.pk else 40
            card = {**dataset.card, "splits": {"train": rows, "test": 60 - rows}}
            Dataset.objects.filter(pk=dataset.pk).update(card=card)
        draft.refresh_from_db()
        manifest = build_manifest(draft)
        privacy, training = manifest.aggregation.privacy, manifest.training
        assert planned_epsilon(manifest) == epsilon(planned(privacy, training, 20), 1e-5)
        hidden = {**draft.datasets.get(site=anna.site).card, "splits": {"train": None, "test": None}}
        Dataset.objects.filter(site=anna.site).update(card=hidden)
        assert planned_epsilon(manifest) is None

    @pytest.mark.parametrize(
        "choices",
        [
            {"privacy": "site"},  # without a clip
            {"privacy": "site", "clip": 1.0, "rule": "stack-svd"},
            {"privacy": "record", "placement": "masked"},
            {"rule": "stack-svd", "adapter": "prefix"},
            {"rule": "stack-svd", "server_optimizer": "fedadam"},
        ],
    )
    def test_rules_that_promise_what_they_cannot_keep_are_not_frozen(
        self, draft: Study, lena: User, choices: dict[str, Any]
    ) -> None:
        settle(**choices)
        draft.refresh_from_db()
        refused("manifest.invalid", services.freeze, lena, draft)

    def test_tables_of_the_test_are_frozen_unless_there_is_noise(self, draft: Study, lena: User) -> None:
        for choices, cells in (({}, 5), ({"cells": 20}, 20), ({"cells": 0}, 0), ({"privacy": "record"}, 0)):
            settle(**choices)
            draft.refresh_from_db()
            assert build_manifest(draft).publication.cells == cells

    def test_plaintext_is_frozen_only_over_public_datasets(self, draft: Study, lena: User) -> None:
        settle(placement="plaintext")
        draft.refresh_from_db()
        refused("manifest.invalid", services.freeze, lena, draft)
        first, *others = draft.datasets.all()
        for dataset in others:
            Dataset.objects.filter(pk=dataset.pk).update(card={**dataset.card, "public": True})
        refused("manifest.invalid", services.freeze, lena, draft)
        Dataset.objects.filter(pk=first.pk).update(card={**first.card, "public": True})
        freeze_tried(lena, draft)
        draft.refresh_from_db()
        manifest = parse((draft.manifest or "").encode())
        assert manifest.placement == "plaintext"
        assert all(site.dataset.public for site in manifest.sites)

    def test_the_union_of_labels_is_sorted(self, draft: Study, anna: Hospital, lena: User) -> None:
        Dataset.objects.filter(site=anna.site).update(
            card={"rows": 60, "labels": {"zeta": 30, "alpha": 30}, "splits": {"train": 60}, "text_length": {}}
        )
        manifest = freeze_tried(lena, draft)
        assert manifest.model.labels == ("alpha", "cause", "symptom", "treatment", "zeta")

    def test_labels_of_two_hospitals_that_look_alike_are_named_before_anything_is_signed(
        self, draft: Study, anna: Hospital, lena: User
    ) -> None:
        card = {"rows": 60, "splits": {"train": 60}, "text_length": {}}
        Dataset.objects.filter(site=anna.site).update(card={**card, "labels": {"Cause": 30, "symptom": 30}})
        with pytest.raises(Refusal) as caught:
            freeze_tried(lena, draft)
        assert caught.value.code == "study.look_alike_labels"
        assert "“Cause” at St. Anna" in str(caught.value.facts["labels"])
        assert "“cause” at " in str(caught.value.facts["labels"])

    @pytest.mark.parametrize(
        ("template", "special", "expected"),
        [
            ("fits", {"eos_token": "</s>"}, "model"),
            ("none", {"eos_token": "</s>"}, "plain"),
            ("unfit", {"eos_token": "</s>"}, "study.no_template"),
            ("none", {}, "study.no_end"),
        ],
    )
    def test_conversations_are_frozen_with_the_template_that_the_model_was_seen_to_have(
        self, draft: Study, lena: User, template: Any, special: dict[str, str], expected: str
    ) -> None:
        proof = made_proof(task="causal-lm", template=template, special=special)
        BaseModel.objects.update(proof=msgspec.to_builtins(proof), task="causal-lm")
        datasets = [make_dataset(one.site, "letters", kind="prompt-response") for one in draft.datasets.all()]
        plan = Plan(model=MODEL, task="causal-lm")
        study = services.create_study(lena, name="Letters", purpose="", plan=plan, datasets=datasets)
        if "." in expected:
            refused(expected, freeze_tried, lena, study)
        else:
            manifest = freeze_tried(lena, study)
            assert (manifest.model.template, manifest.model.labels) == (expected, ())
            assert manifest.sites[0].dataset.kind == "prompt-response"

    def test_questions_with_choices_are_frozen_where_all_hospitals_have_them(
        self, draft: Study, lena: User
    ) -> None:
        proof = made_proof(task="causal-lm", template="fits", special={"eos_token": "</s>"})
        BaseModel.objects.update(proof=msgspec.to_builtins(proof), task="causal-lm")
        datasets = [make_dataset(one.site, "quiz", kind="prompt-choices") for one in draft.datasets.all()]
        plan = Plan(model=MODEL, task="causal-lm")
        study = services.create_study(lena, name="Quiz", purpose="", plan=plan, datasets=datasets)
        assert freeze_tried(lena, study).coded == "prompt-choices"
        other = [make_dataset(datasets[0].site, "letters", kind="messages"), *datasets[1:]]
        mixed = services.create_study(lena, name="Mixed", purpose="", plan=plan, datasets=other)
        refused("study.mixed_kinds", services.freeze, lena, mixed)

    def test_types_of_entities_become_tags_and_such_a_model_is_not_served(
        self, draft: Study, lena: User
    ) -> None:
        proof = made_proof(task="token-classification")
        BaseModel.objects.update(proof=msgspec.to_builtins(proof), task="token-classification")
        datasets = [make_dataset(one.site, "letters", kind="token-tags") for one in draft.datasets.all()]
        for dataset, labels in zip(datasets, ({"Drug": 30, "sign": 20}, {"drug": 30}), strict=True):
            card = {**dataset.card, "labels": labels}
            Dataset.objects.filter(pk=dataset.pk).update(card=card)
        plan = Plan(model=MODEL, task="token-classification", same_labels={"Drug": "drug"})
        study = services.create_study(lena, name="Letters", purpose="", plan=plan, datasets=datasets)
        model = freeze_tried(lena, study).model
        assert model.labels == ("O", "B-drug", "I-drug", "B-sign", "I-sign")
        assert model.spellings == {"B-Drug": "B-drug", "I-Drug": "I-drug"}
        assert [one.name for one in of_labels(model, ["Drug", "drug"])] == ["merges-own-labels"]
        assert not list(of_labels(model, ["Drug", "sign"]))
        plan = msgspec.structs.replace(plan, release="serve-only")
        served = services.create_study(lena, name="Served", purpose="", plan=plan, datasets=datasets)
        refused("study.tags_not_served", services.freeze, lena, served)

    def test_a_model_of_method_1_is_not_served(self, draft: Study, lena: User) -> None:
        plan = msgspec.structs.replace(read(draft.settings), release="serve-only")
        datasets = list(draft.datasets.all())
        study = services.create_study(lena, name="Served", purpose="", plan=plan, datasets=datasets)
        refused("study.method_not_served", services.freeze, lena, study)

    def test_two_freezes_never_make_the_same_run(self, frozen: Study, lena: User) -> None:
        first = frozen.manifest_hash
        services.reopen(lena, frozen)
        assert freeze_tried(lena, frozen).hash != first

    @pytest.mark.parametrize(
        ("spoil", "code"),
        [
            (lambda study: study.datasets.clear(), "study.no_datasets"),
            (lambda study: study.datasets.add(make_dataset(study.datasets.all()[0].site, "more")),
             "study.two_datasets"),
            (lambda study: study.datasets.update(withdrawn_at="2026-01-01T00:00Z"), "card.withdrawn"),
            (lambda study: Site.objects.update(state=SiteState.SUSPENDED), "study.site_not_active"),
            (lambda study: Site.objects.update(state=SiteState.ENROLLED), "study.site_not_active"),
            (lambda study: BaseModel.objects.all().delete(), "study.unknown_model"),
            (lambda study: BaseModel.objects.update(targets=[]), "study.bad_targets"),
            (lambda study: BaseModel.objects.update(max_tokens=64), "study.invalid_plan"),
            (lambda study: Reference.objects.filter(program="client_slice").delete(), "study.no_reference"),
            (lambda study: Reference.objects.update(valid_from="2100-01-01T00:00Z"), "study.no_reference"),
            (lambda study: Reference.objects.update(root="intel"), "study.no_reference"),
            (lambda study: Dataset.objects.update(
                card={"rows": 60, "labels": {}, "splits": {}, "text_length": {}}), "study.no_labels"),
            (lambda study: offer("messages"), "study.wrong_kind"),
            (lambda study: offer("pair-label"), "study.mixed_kinds"),
            (lambda study: offer("text-labels"), "study.mixed_kinds"),
            (lambda study: Dataset.objects.update(card={
                "rows": 60, "kind": "text-labels", "splits": {}, "text_length": {},
                "labels": dict.fromkeys(map(str, range(32)), 10)}), "study.too_many_labels"),
            (lambda study: settle(rounds=0), "study.invalid_plan"),
            (lambda study: settle(adapter="prefix", prefix_length=400), "slicing.too_short"),
            (lambda study: settle(extra=1), "study.invalid_plan"),
            (lambda study: settle_of_six(front=6), "front.no_layer"),
            (lambda study: settle_of_six(front=1, adapter="prefix", prefix_length=4), "manifest.invalid"),
            (lambda study: settle_of_six(front=1, placement="masked", accelerator="other"),
             "manifest.invalid"),
            (lambda study: settle(quorum=3), "manifest.invalid"),
            (lambda study: settle(runtime="sgx"), "study.runtime"),
            (lambda study: settle(runtime="tdx"), "runtime.unmeasured"),
        ],
    )  # fmt: skip
    def test_what_is_missing_is_said_by_its_code(
        self, draft: Study, lena: User, spoil: Any, code: str
    ) -> None:
        spoil(draft)
        refused(code, services.freeze, lena, draft)

    def test_a_frozen_study_is_not_edited(self, frozen: Study, lena: User) -> None:
        def edit() -> None:
            services.update_study(
                lena, frozen, name="New", purpose="", plan=Plan(model=MODEL), datasets=frozen.datasets.all()
            )

        refused("study.wrong_state", edit)

    def test_a_lead_takes_no_dataset_that_he_cannot_see(self, draft: Study, ludo: User) -> None:
        Dataset.objects.update(withdrawn_at="2026-01-01T00:00Z")

        def create() -> None:
            services.create_study(
                ludo, name="Mine", purpose="", plan=Plan(model=MODEL), datasets=list(Dataset.objects.all())
            )

        refused("auth.forbidden", create)

    def test_the_plan_is_read_back_as_it_was_written(self, draft: Study) -> None:
        draft.refresh_from_db()
        assert read(draft.settings) == Plan(model=MODEL)
