"""A study's plan or frozen manifest as facts for people: (name, value, is it code?)."""

from __future__ import annotations

import json
from typing import Any

from django.utils.translation import gettext as _

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from federation.datasets.queries import training_rows
from federation.frozen import Frozen, frozen
from federation.sites.models import Site
from federation.studies import methods
from federation.studies.models import Study
from federation.studies.plan import Plan, read
from federation.studies.short import short_for
from frontend.methods import named
from manifest_summary.explained import explanation
from manifest_summary.facts import Fact
from manifest_summary.formatting import word
from manifest_summary.leaving import release
from manifest_summary.summary import summary
from manifest_summary.tuning import early_end, few_at_once, learning_rate, pull, starting, together, tuned

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


def explained(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same cards, and under each the words that a reader may not know: (name, meaning)."""
    for part in parts:
        pairs = [(str(fact[0]), explanation(str(fact[0]))) for fact in part["facts"]]
        part["words"] = [(name, means) for name, means in pairs if means]
    return parts


def manifest_facts(manifest: Manifest) -> list[dict[str, Any]]:
    """Cards for a manifest, frozen or only looked at: what a hospital's terminal says, in the same words."""
    privacy = manifest.aggregation.privacy
    by_row = privacy is not None and privacy.unit == "record"
    rows = training_rows(site.dataset.id for site in manifest.sites) if by_row else ()
    return [part._asdict() for part in summary(manifest, rows)]


def short_facts(manifest: Manifest, site: Site | None = None) -> list[dict[str, Any]]:
    """The manifest in plain sentences, as this hospital reads them, or whoever is at none."""
    return [short_for(manifest, site)._asdict()]


def release_facts(manifest: Manifest) -> list[Fact]:
    """What may come out after the run, who gets it, who signs, what it may tell."""
    return release(manifest)


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
                *([(_("Placement"), word(plan.placement), False)] if named(plan.method).averages else []),
                (_("Runtime"), plan.runtime, True),
                (_("Tokens per text"), plan.max_tokens, False),
                *starting(plan.start, None),
                *_to_be_tuned(plan),
            ],
        },
        {
            "title": _("Training"),
            "facts": [
                (_("Rounds"), plan.rounds, False),
                (_("Epochs in a round"), plan.local_epochs, False),
                (_("Batch size"), plan.batch_size, False),
                (_("Learning rate"), learning_rate(plan), False),
                *early_end(plan.patience),
                *pull(plan.proximal),
                *together(plan.packing),
                *few_at_once(plan.at_once),
                (_("Precision"), plan.precision, False),
                (_("Seed"), plan.seed, False),
                (_("Quorum"), plan.quorum or _("all"), False),
                (_("What may come out"), word(plan.release), False),
            ],
        },
    ]


def _to_be_tuned(plan: Plan) -> Facts:
    try:
        return [*tuned(methods.named(plan.method).adapter(plan), plan.cut)]
    except Refusal:  # no such model, or nothing to tune: freezing says so
        return []
