"""Freeze a study: turn plan, datasets, sites, model and reference values into the one run manifest."""

from __future__ import annotations

import time
from typing import Literal

from django.conf import settings
from msgspec import UNSET, UnsetType

from contracts.canonical import canonical
from contracts.entities import labels_of
from contracts.kinds import CHOSEN, CONVERSATIONS, KINDS, SEVERAL
from contracts.manifest import (
    Aggregation,
    DatasetRef,
    Manifest,
    Masking,
    ModelSpec,
    Privacy,
    Publication,
    Release,
    ServerOptimizer,
    Site,
    Training,
    TransparencyLog,
    parse,
    require_measured,
)
from contracts.manifest_options import MOST_LABELS, MOST_SEVERAL
from contracts.model_proof import read_proof, way_of
from contracts.refusal import Refusal
from federation.attestation.log import verifier_key
from federation.attestation.references import policy_for
from federation.datasets.models import Dataset
from federation.datasets.queries import all_labels, is_public
from federation.ids import new_id
from federation.sites.models import SiteState
from federation.studies import methods
from federation.studies.base_models import base_model_of
from federation.studies.labels import decided
from federation.studies.models import BaseModel, Study
from federation.studies.noise import planned_epsilon
from federation.studies.plan import Plan, read
from federation.studies.starting import with_start


def build_manifest(study: Study) -> Manifest:
    """The manifest of this study as it stands now, for a new run. Writes nothing.

    Raises: a `study.*` code that names what is missing or does not fit, `card.withdrawn`,
    `runtime.unmeasured`, `privacy.no_account` or `manifest.invalid`.
    """
    plan = read(study.settings)
    method = methods.named(plan.method)
    require_measured(plan.runtime)
    if plan.runtime not in settings.ENCLAVE_RUNTIMES:
        accepted = ", ".join(settings.ENCLAVE_RUNTIMES)
        raise Refusal("study.runtime", runtime=plan.runtime, accepted=accepted)
    datasets = _one_dataset_a_site(study, plan)
    if plan.release == "serve-only":
        if plan.task == "token-classification":
            raise Refusal("study.tags_not_served")
        if not method.serves:
            raise Refusal("study.method_not_served")
    adapter, kinds = method.adapter(plan), {dataset.kind for dataset in datasets}
    manifest = Manifest(
        version=1,
        run=new_id(),
        study=study.name,
        purpose=study.purpose,
        method=plan.method,
        placement=plan.placement,
        runtime=plan.runtime,
        model=with_start(_model(plan, datasets), study, plan, adapter, kinds),
        adapter=adapter,
        training=Training(
            rounds=plan.rounds,
            local_epochs=plan.local_epochs,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            seed=plan.seed,
            precision=plan.precision,
            schedule=plan.schedule,
            warmup=plan.warmup,
            patience=plan.patience,
            proximal=plan.proximal,
            packing=plan.packing or UNSET,
            at_once=plan.at_once or UNSET,
            activations="again" if method.computes_again(plan) else UNSET,
        ),
        sites=tuple(_site(dataset) for dataset in datasets),
        aggregation=Aggregation(
            rule=plan.rule,
            quorum=plan.quorum or len(datasets),
            deadline_seconds=plan.deadline_seconds,
            clip=plan.clip,
            max_samples=plan.max_samples,
            privacy=_privacy(plan),
            optimizer=_optimizer(plan),
        ),
        policy=policy_for(
            plan.runtime,
            programs=method.programs,
            statuses=plan.accepted_statuses,
            advisories=plan.accepted_advisories,
        ),
        release=_release(plan, len(datasets)),
        minimum_time=int(time.time()),
        masking=_masking(plan, base_model_of(plan)),
        publication=Publication(
            cells=_cells(plan, datasets),
            written_rows=plan.written_rows,
            written_tokens=plan.written_tokens if plan.written_rows else 0,
        ),
        split=method.split(plan, len(datasets)),
        front=method.front(plan),
        log=TransparencyLog(verifier_key(), tuple(settings.LOG_WITNESSES)),
    )
    planned_epsilon(manifest)
    # What we write is read back as strictly as every enclave will read it.
    return parse(canonical(manifest))


def _masking(plan: Plan, base: BaseModel) -> Masking | None:
    """Raises: `study.unprepared` for a model that was registered by 0.1.0."""
    if plan.placement != "masked":
        return None
    native: Literal["native"] | UnsetType = "native" if plan.native_passes else UNSET
    prepared = read_proof(base.proof).prepared
    if prepared is None:
        raise Refusal("study.unprepared", model=base.name)
    return Masking(plan.repetitions, plan.vault_bytes, plan.accelerator, native, prepared)


def _release(plan: Plan, sites: int) -> Release:
    """What nobody serves has no bound on its answers."""
    served = plan.release != "nothing" and methods.named(plan.method).serves
    return Release(plan.release, plan.release_approvals or sites, plan.answers if served else 0)


def _cells(plan: Plan, datasets: list[Dataset]) -> int:
    """Noise covers no score, so beside it nothing is told that need not be."""
    there = plan.task == "sequence-classification" and plan.privacy == "none"
    return plan.cells if there and len(all_labels(datasets)) <= MOST_LABELS else 0


def _privacy(plan: Plan) -> Privacy | None:
    if plan.privacy == "none":
        return None
    clip = plan.gradient_clip if plan.privacy == "record" else None
    return Privacy(plan.privacy, plan.noise, plan.delta, clip)


def _optimizer(plan: Plan) -> ServerOptimizer | None:
    if plan.server_optimizer == "none":
        return None
    adapts = plan.server_optimizer != "fedavgm"
    return ServerOptimizer(
        plan.server_optimizer,
        plan.server_learning_rate or (0.01 if adapts else 1.0),
        plan.server_beta1,
        plan.server_beta2 if adapts else None,
        plan.server_tau if adapts else None,
    )


def _one_dataset_a_site(study: Study, plan: Plan) -> list[Dataset]:
    datasets = list(study.datasets.select_related("site").order_by("site_id"))
    if not datasets:
        raise Refusal("study.no_datasets")
    seen: set[str] = set()
    for dataset in datasets:
        if dataset.site_id in seen:
            raise Refusal("study.two_datasets", site=dataset.site.name)
        seen.add(dataset.site_id)
        if dataset.withdrawn_at is not None:
            raise Refusal("card.withdrawn", name=dataset.name)
        if dataset.site.state != SiteState.ACTIVE:
            raise Refusal("study.site_not_active", site=dataset.site.name)
        if dataset.kind not in KINDS[plan.task]:
            raise Refusal("study.wrong_kind", dataset=dataset.name, site=dataset.site.name, kind=dataset.kind)
        if plan.task != "causal-lm" and not dataset.card["labels"]:
            raise Refusal("study.no_labels", dataset=dataset.name)
    kinds = {dataset.kind for dataset in datasets}
    if len(kinds) > 1 and (plan.task == "sequence-classification" or CHOSEN in kinds):
        raise Refusal("study.mixed_kinds")
    labels = all_labels(datasets)
    if datasets[0].kind == SEVERAL and len(labels) > MOST_SEVERAL:
        raise Refusal("study.too_many_labels", labels=len(labels), limit=MOST_SEVERAL)
    return datasets


def _site(dataset: Dataset) -> Site:
    return Site(
        id=dataset.site.pk,
        name=dataset.site.name,
        public_key=dataset.site.public_key,
        approval_key=dataset.site.approval_key,
        development_key=dataset.site.development_key,
        dataset=DatasetRef(
            id=dataset.pk,
            digest=dataset.digest,
            rows=dataset.rows,
            public=is_public(dataset),
            kind=dataset.kind,
        ),
    )


def _model(plan: Plan, datasets: list[Dataset]) -> ModelSpec:
    labels, spellings = decided(plan, datasets) if plan.task != "causal-lm" else ([], {})
    if plan.task == "token-classification":
        spellings = {f"{mark}-{said}": f"{mark}-{name}" for said, name in spellings.items() for mark in "BI"}
        labels = list(labels_of(labels))
    base = base_model_of(plan)
    _require_proven(plan, base)
    if plan.max_tokens > base.max_tokens:
        fault = f"the model reads at most {base.max_tokens} tokens, not {plan.max_tokens}"
        raise Refusal("study.invalid_plan", fault=fault)
    usable = base.max_tokens - methods.named(plan.method).positions(plan)
    if plan.max_tokens > usable:
        facts = {"positions": base.max_tokens, "usable": max(usable, 0), "asked": plan.max_tokens}
        raise Refusal("slicing.too_short", length=plan.prefix_length, **facts)
    return ModelSpec(
        source=base.source,
        task=plan.task,
        files=base.files,
        labels=tuple(labels),
        max_tokens=plan.max_tokens,
        spellings=spellings,
        template=_template(base, {dataset.kind for dataset in datasets}),
    )


def _template(base: BaseModel, kinds: set[str]) -> Literal["model", "plain"] | None:
    """How conversations are rendered.

    Raises: `study.no_template` or `study.no_end` for a model that cannot be tuned on them.
    """
    if kinds.isdisjoint(CONVERSATIONS):
        return None
    proof = read_proof(base.proof)
    if proof.template == "unfit":
        raise Refusal("study.no_template", model=base.name)
    if "eos_token" not in proof.special:
        raise Refusal("study.no_end", model=base.name)
    return "model" if proof.template == "fits" else "plain"


def _require_proven(plan: Plan, base: BaseModel) -> None:
    """Raises: `study.unproven` for a way to tune the model in which it was not seen to be tuned."""
    verdict = base.verdict(way_of(plan.method, plan.placement, plan.adapter))
    if not verdict.proven:
        raise Refusal("study.unproven", **{**verdict.facts, "model": base.name, "cause": verdict.code})
