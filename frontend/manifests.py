"""A study's plan or frozen manifest as facts for people: (name, value, is it code?)."""

from __future__ import annotations

import json
from typing import Any, Literal

from django.utils.translation import gettext as _

from contracts.fingerprint import site_fingerprint
from contracts.manifest import Adapter, Lora, Manifest, Prefix, Publication, Spf, Training
from contracts.policy import SgxReference
from contracts.refusal import Refusal
from federation.studies import methods
from federation.studies.frozen import Frozen, frozen
from federation.studies.models import Study
from federation.studies.noise import planned_epsilon
from federation.studies.plan import Plan, read
from frontend.labels import label_facts
from frontend.words import word

Facts = list[tuple[str, Any, bool]]


def is_plaintext(found: Frozen) -> bool:
    """Whether this is a baseline that protects nothing, and has to be marked as one."""
    return found.at("placement") == "plaintext"


def plan_facts(study: Study) -> list[dict[str, Any]]:
    """Cards for the study's page: the manifest's content if it is frozen, else the draft's."""
    if study.manifest:
        return frozen_facts(frozen(study))
    try:
        return _of_plan(study, read(study.settings))
    except Refusal:  # an older version's; `frontend.older` says so
        return [{"title": _("Settings"), "facts": [(k, _short(v), True) for k, v in study.settings.items()]}]


def frozen_facts(found: Frozen) -> list[dict[str, Any]]:
    """Cards for a frozen manifest; in the manifest's own words where its format is an older one."""
    return manifest_facts(found.manifest) if found.manifest is not None else _as_said(found)


def _as_said(found: Frozen) -> list[dict[str, Any]]:
    sites: Facts = [
        (str(site.get("name")), _("%(rows)s rows") % {"rows": (site.get("dataset") or {}).get("rows")}, False)
        for site in found.all_at("sites")
    ]
    flat: Facts = [
        (name, value, True)
        for name, value in found.said.items()
        if name != "purpose" and not isinstance(value, dict | list)
    ]
    parts = {name: value for name, value in found.said.items() if isinstance(value, dict)}
    return [
        {"title": _("Hospitals and datasets"), "facts": sites},
        {"title": _("Manifest"), "facts": flat},
        *(
            {"title": name, "facts": [(key, _short(value), True) for key, value in part.items()]}
            for name, part in parts.items()
        ),
    ]


def _short(value: Any) -> Any:
    """A value of an older manifest on one line: lists of words as words, other structures as JSON."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _of_plan(study: Study, plan: Plan) -> list[dict[str, Any]]:
    sites: Facts = [
        (dataset.site.name, f"{dataset.name} ({dataset.rows})", False)
        for dataset in study.datasets.select_related("site")
    ]
    return [
        {"title": _("Hospitals and datasets"), "facts": sites},
        {
            "title": _("Model and method"),
            "facts": [
                (_("Base model"), plan.model, True),
                (_("Task"), word(plan.task), False),
                (_("Method"), word(plan.method), False),
                (_("Placement"), word(plan.placement), False),
                (_("Runtime"), plan.runtime, True),
                (_("Tokens per text"), plan.max_tokens, False),
                *_to_be_tuned(plan),
            ],
        },
        {
            "title": _("Training"),
            "facts": [
                (_("Rounds"), plan.rounds, False),
                (_("Epochs in a round"), plan.local_epochs, False),
                (_("Batch size"), plan.batch_size, False),
                (_("Learning rate"), _rate(plan), False),
                *_early_end(methods.named(plan.method).patience(plan)),
                (_("Precision"), plan.precision, False),
                (_("Seed"), plan.seed, False),
                (_("Quorum"), plan.quorum or _("all"), False),
                (_("What may come out"), word(plan.release), False),
            ],
        },
    ]


def _rate(setting: Training | Plan) -> str:
    told = f"{setting.learning_rate:g}, {word(setting.schedule)}"
    if not setting.warmup:
        return told
    return told + _(", after a warm-up over %(share)g %% of the steps") % {"share": 100 * setting.warmup}


def _early_end(patience: int) -> Facts:
    after = _("%(n)d rounds without a lower loss on held-out rows") % {"n": patience}
    return [(_("Ends early after"), after, False)] if patience else []


def averaging_facts(manifest: Manifest) -> Facts:
    """Rule, clip, cap and noise of the manifest's aggregation."""
    rules = manifest.aggregation
    facts: Facts = [(_("Averaging"), word(rules.rule), False)]
    if rules.clip is not None:
        facts.append((_("A hospital's change in a round is clipped to (L2 norm)"), f"{rules.clip:g}", False))
    if rules.max_samples is not None:
        facts.append((_("A hospital counts for at most (rows)"), rules.max_samples, False))
    privacy = rules.privacy
    if privacy is None:
        return [*facts, (_("Noise"), _("none"), False)]
    told = {"noise": privacy.noise, "delta": privacy.delta, "clip": privacy.gradient_clip}
    if privacy.unit == "site":
        noise = _("%(noise)g sensitivities on each mean, in the server enclave") % told
        unit = _("per hospital, at delta %(delta)g: whether any one hospital's changes are in it") % told
    else:
        noise = _("%(noise)g sensitivities on each step; single gradients clipped to %(clip)g") % told
        unit = _("per row, at delta %(delta)g: whether any one row was used") % told
    try:
        planned = planned_epsilon(manifest)
    except Refusal as refusal:
        worth = str(refusal)
    else:
        worth = (
            f"{planned:.3g}" if planned is not None else _("not known: a hospital hides its number of rows")
        )
    return [
        *facts,
        (_("Noise"), noise, False),
        (_("What epsilon is about"), unit, False),
        (_("Epsilon after the last round, of the worst hospital"), worth, False),
    ]


def _to_be_tuned(plan: Plan) -> Facts:
    try:
        return _tuned(methods.named(plan.method).adapter(plan), plan.cut)
    except Refusal:  # no such model, or nothing to tune: freezing says so
        return []


def _tuned(adapter: Adapter, cut: int) -> Facts:
    if isinstance(adapter, Lora):
        return [
            (_("LoRA rank and alpha"), f"{adapter.rank}, {adapter.alpha}", False),
            (_("Tuned modules"), ", ".join(adapter.targets), True),
        ]
    if isinstance(adapter, Prefix):
        return [(_("Prefix length (P-Tuning v2)"), adapter.length, False)]
    return [
        (_("Layers that stay at the hospital"), cut, False),
        (_("Tuned attention heads"), _("%(ratio)g %%, %(select)s") % _ratio(adapter, "attention"), False),
        (_("Tuned dense rows"), _("%(ratio)g %%, %(select)s") % _ratio(adapter, "dense"), False),
        (_("Dense rows of"), ", ".join(adapter.rows), True),
        (_("LoRA on"), ", ".join(adapter.lora) or _("nothing"), True),
        (_("LoRA rank and alpha"), f"{adapter.rank}, {adapter.alpha}", False),
    ]


def _ratio(spf: Spf, name: Literal["attention", "dense"]) -> dict[str, Any]:
    return {"ratio": getattr(spf, name), "select": spf.select}


def _scores(rules: Publication) -> str:
    return _("only pooled and rounded, over at least %(sites)d hospitals and %(rows)d rows") % {
        "sites": rules.sites,
        "rows": rules.rows,
    }


def _leaving(manifest: Manifest) -> Facts:
    """What crosses the hospital's border, by method."""
    if manifest.placement == "plaintext":
        update = _("one update of the adapters, UNPROTECTED; the number of training rows; scores")
        return [(_("In every round"), update, False), (_("Never"), _("rows or labels"), False)]
    if manifest.split is not None:
        features = _(
            "the features of its rows behind layer %(cut)d, and their labels, sealed to the attested split "
            "server; it keeps them for all rounds"
        )
        return [
            (_("Once"), features % {"cut": manifest.split.cut}, False),
            (_("In every round"), _("nothing of its rows"), False),
            (
                _("Not proven"),
                _("that a hospital's features are of the rows that it lists; no TEE sees rows"),
                False,
            ),
            (_("Never"), _("texts; or features and labels that anyone outside that enclave can read"), False),
        ]
    update = _(
        "one update of the adapters and the scores on held-out rows, sealed to the attested aggregator; the "
        "number of training rows"
    )
    never = _("rows, labels, or parameters that anyone outside an enclave can read")
    return [(_("In every round"), update, False), (_("Never"), never, False)]


def manifest_facts(manifest: Manifest) -> list[dict[str, Any]]:
    """Cards for a manifest, frozen or only looked at."""
    sites: Facts = [
        (
            site.name,
            _("%(rows)d rows, fingerprint %(keys)s")
            % {
                "rows": site.dataset.rows,
                "keys": site_fingerprint(site.public_key, site.approval_key),
            },
            False,
        )
        for site in manifest.sites
    ]
    model, training = manifest.model, manifest.training
    policy, rules = manifest.policy, manifest.aggregation
    measurements: Facts = [
        (
            reference.program,
            (reference.mrenclave or reference.mrsigner or "")
            if isinstance(reference, SgxReference)
            else reference.measurement,
            True,
        )
        for reference in policy.references
    ]
    return [
        {"title": _("Hospitals and datasets"), "facts": sites},
        {
            "title": _("What will run"),
            "facts": [
                (_("Base model"), model.source, True),
                (_("Task"), word(model.task), False),
                *label_facts(model),
                (_("Tokens per text"), model.max_tokens, False),
                (_("Method"), word(manifest.method), False),
                (_("Placement"), word(manifest.placement), False),
                *_tuned(manifest.adapter, manifest.split.cut if manifest.split else 0),
            ],
        },
        {
            "title": _("Training"),
            "facts": [
                (_("Rounds"), training.rounds, False),
                (_("Epochs in a round"), training.local_epochs, False),
                (_("Batch size"), training.batch_size, False),
                (
                    _("Learning rate"),
                    _rate(training),
                    False,
                ),
                *_early_end(training.patience),
                (_("Precision"), training.precision, False),
                (_("Seed"), training.seed, False),
                *averaging_facts(manifest),
                (_("Quorum"), rules.quorum, False),
                (_("A round waits for"), _("%(n)d s") % {"n": rules.deadline_seconds}, False),
                (_("A hospital's enclave may begin"), _("%(n)d times") % {"n": rules.lives}, False),
            ],
        },
        {
            "title": _("What leaves a hospital"),
            "facts": [
                *_leaving(manifest),
                (_("Scores"), _scores(manifest.publication), False),
                (_("What may come out"), word(manifest.release.rule), False),
                (_("Signatures for a release"), manifest.release.approvals, False),
            ],
        },
        {
            "title": _("Accepted enclaves"),
            "facts": [
                (_("Runtime"), manifest.runtime, True),
                (_("Trust root"), policy.root, False),
                *measurements,
                (_("Accepted states of the platform"), ", ".join(policy.accepted_statuses), False),
                (_("Accepted advisories"), ", ".join(policy.accepted_advisories) or _("none"), False),
            ],
        },
    ]
