"""All that a manifest says, in sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from contracts.fingerprint import site_fingerprint
from contracts.labels import spelled
from contracts.manifest import Manifest, ModelSpec, Site
from manifest_summary.enclaves import enclaves
from manifest_summary.facts import Fact, Section, _
from manifest_summary.formatting import duration, size, word
from manifest_summary.leaving import leaving, release
from manifest_summary.methods import of
from manifest_summary.tuning import (
    computed_again,
    early_end,
    few_at_once,
    learning_rate,
    public_front,
    pull,
    starting,
    together,
    tuned,
)
from translations.numbers import number


def summary(manifest: Manifest, rows: Sequence[int | None] = (None,)) -> tuple[Section, ...]:
    """Every field of the manifest but its study's name and purpose, which stand above it as they are. `rows`:
    training rows of hospitals, as far as the reader knows them (None: not); epsilon is that of the worst."""
    return (
        Section(_("Hospitals and datasets"), tuple(_sites(manifest))),
        Section(_("What will run"), tuple(_what(manifest))),
        Section(
            _("Training"), (*_training(manifest), *of(manifest).joining(manifest, rows), *_rounds(manifest))
        ),
        Section(_("What leaves a hospital"), (*leaving(manifest), *release(manifest))),
        Section(_("Accepted enclaves"), tuple(enclaves(manifest))),
        Section(_("Pinned files of the base model (SHA-256)"), tuple(_files(manifest.model))),
    )


def _sites(manifest: Manifest) -> list[Fact]:
    called = Counter(site.name for site in manifest.sites)
    return [
        Fact(site.name if called[site.name] == 1 else f"{site.name} ({site.id})", _site(site))
        for site in manifest.sites
    ]


def _site(site: Site) -> str:
    facts = [
        _("%(rows)s rows") % {"rows": number(f"{site.dataset.rows:,}")},
        word(site.dataset.kind),
        _("fingerprint %(keys)s") % {"keys": site_fingerprint(site.public_key, site.approval_key)},
        _("dataset %(id)s, digest %(digest)s") % {"id": site.dataset.id, "digest": site.dataset.digest[:16]},
        _("hospital %(id)s") % {"id": site.id},
    ]
    facts += [_("declared public")] if site.dataset.public else []
    facts += [_("approval key for DEVELOPMENT")] if site.development_key else []
    return ", ".join(facts)


def _what(manifest: Manifest) -> list[Fact]:
    model, masking = manifest.model, manifest.masking
    facts = [
        Fact(_("Base model"), model.source, is_code=True),
        Fact(_("Task"), word(model.task)),
        *(labels(model) if model.task != "causal-lm" else _learnt(model)),
        Fact(_("Tokens per text"), str(model.max_tokens)),
        Fact(_("Method"), word(manifest.method)),
        *of(manifest).where(manifest),
    ]
    if masking is not None:
        facts += [
            Fact(_("One-time pads on a hospital's disk, at most"), size(masking.vault_bytes)),
            Fact(_("Checks of each product of the accelerator"), str(masking.repetitions)),
            Fact(_("The accelerators belong to"), word(f"accelerator-{masking.accelerator}")),
            *([Fact(_("Masks are put on by"), word("passes-native"))] if masking.passes == "native" else ()),
            Fact(_("Prepared model"), masking.prepared or _("none: no client slice can begin"), is_code=True),
        ]
    facts += [*starting(model.start, model.start_receipt), *public_front(manifest.front)]
    return [*facts, *tuned(manifest.adapter, manifest.split.cut if manifest.split else 0)]


def _learnt(model: ModelSpec) -> list[Fact]:
    if model.template is None:
        return [Fact(_("What is learnt"), _("the texts, whole"))]
    return [
        Fact(_("What is learnt"), _("the answers and where they end; prompts are only read")),
        Fact(_("Chat template"), word(model.template)),
    ]


def labels(model: ModelSpec) -> list[Fact]:
    """The classes, and what else rows may call them."""
    read = [
        _("“%(said)s” as “%(label)s”") % {"said": spelled(said), "label": spelled(label)}
        for said, label in sorted(model.spellings.items())
    ]
    facts = [Fact(_("Labels"), ", ".join(model.labels) or _("none"))]
    return [*facts, Fact(_("Labels read as one"), "; ".join(read))] if read else facts


def _training(manifest: Manifest) -> list[Fact]:
    training = manifest.training
    return [
        Fact(_("Rounds"), str(training.rounds)),
        Fact(_("Epochs in a round"), str(training.local_epochs)),
        Fact(_("Batch size"), str(training.batch_size)),
        Fact(_("Learning rate"), learning_rate(training)),
        *early_end(training.patience),
        *pull(training.proximal),
        *together(training.packing),
        *few_at_once(training.at_once),
        *computed_again(training.activations),
        Fact(_("Precision"), training.precision),
        Fact(_("Seed"), str(training.seed)),
        Fact(_("Not before"), f"{datetime.fromtimestamp(manifest.minimum_time, UTC):%Y-%m-%d %H:%M} UTC"),
    ]


def _rounds(manifest: Manifest) -> list[Fact]:
    """What a round needs, how long it waits, how often an enclave may begin."""
    rules, count = manifest.aggregation, len(manifest.sites)
    quorum = _("%(quorum)d of %(count)d hospitals") % {"quorum": rules.quorum, "count": count}
    return [
        Fact(_("A round needs"), quorum),
        Fact(_("A round waits for"), duration(rules.deadline_seconds)),
        *of(manifest).begins(manifest),
    ]


def _files(model: ModelSpec) -> list[Fact]:
    return [Fact(name, digest, is_code=True) for name, digest in sorted(model.files.items())]
