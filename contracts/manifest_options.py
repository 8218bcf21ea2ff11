"""What does not go together where a manifest asks for what few ask for: a public front, noise, a server's
optimizer, tables of the test, several labels, shares of a key, a baseline. Loaded where one is asked for, by
`contracts.manifest` alone.
"""

from __future__ import annotations

from contracts.entities import labels_of, types_of
from contracts.kinds import CHOSEN, CONVERSATIONS, SEVERAL
from contracts.manifest import KeyShares, Lora, Manifest, Prefix, Privacy, ServerOptimizer

LEAST_CELL = 5
MOST_LABELS = 50
"""A table has a cell for each pair of labels, and stands in a receipt."""
MOST_SEVERAL = 31
"""Labels of which a row may have several: they are the bits of a number (enclave/training/several.py)."""


def faults(manifest: Manifest) -> dict[str, bool]:
    """What is wrong -> whether it is."""
    found = _of_averaging(manifest) | _of_spellings(manifest)
    kinds = {site.dataset.kind for site in manifest.sites}
    found["a chat template goes with conversations"] = (
        manifest.model.template is not None
    ) == kinds.isdisjoint(CONVERSATIONS)
    found["questions with choices are of datasets of one kind"] = CHOSEN in kinds and len(kinds) > 1
    if manifest.masking is not None and manifest.masking.passes:
        # The files that Gramine's manifest trusts are those of the lock, and the library is not among them.
        found["passes in C do not go with the runtime sgx yet"] = manifest.runtime == "sgx"
    if manifest.front is not None:
        found |= _of_front(manifest)
    if manifest.aggregation.privacy is not None:
        found |= _of_noise(manifest, manifest.aggregation.privacy)
    if manifest.model.task == "token-classification":
        found |= _of_tags(manifest)
    if manifest.coded == SEVERAL:
        fault = f"of at most {MOST_SEVERAL} labels a row may have several"
        found[fault] = len(manifest.model.labels) > MOST_SEVERAL
    if manifest.publication.cells:
        found |= _of_tables(manifest)
    if manifest.publication.written_rows or manifest.publication.written_tokens:
        found |= _of_writing(manifest)
    if manifest.aggregation.optimizer is not None:
        found |= _of_optimizer(manifest, manifest.aggregation.optimizer)
    if manifest.split is not None and manifest.split.shares is not None:
        found |= _of_shares(manifest, manifest.split.shares)
    if manifest.model.start or manifest.model.start_receipt:
        found |= _of_start(manifest)
    if manifest.training.packing:
        found |= _of_packing(manifest, manifest.training.packing)
    if manifest.training.activations:
        found |= _of_activations(manifest)
    return found | {
        "a proximal term goes with sites that train apart": manifest.training.proximal > 0
        and manifest.split is not None
        and manifest.split.batches != "per-site",
        "the placement plaintext is for method-1 in fp32, runtime development, public datasets": (
            manifest.placement == "plaintext"
            and not (
                manifest.method == "method-1"
                and manifest.training.precision == "fp32"
                and manifest.runtime == "development"
                and all(site.dataset.public for site in manifest.sites)
            )
        ),
    }


def _of_packing(manifest: Manifest, packing: int) -> dict[str, bool]:
    noise = manifest.aggregation.privacy
    return {
        "rows of a model that writes are packed": manifest.model.task != "causal-lm",
        # A prefix stands once before a sequence, and not before each of its rows.
        "packing does not go with a prefix": isinstance(manifest.adapter, Prefix),
        "packing does not go with noise per record": noise is not None and noise.unit == "record",
        "a packed sequence has room for one row at least": packing < manifest.model.max_tokens,
    }


def _of_activations(manifest: Manifest) -> dict[str, bool]:
    return {
        "of method-2 its split says whether activations are computed again": manifest.method == "method-2",
        "masked products are not computed again": manifest.masking is not None,
        # A layer that is computed again takes no keys and values from before the text.
        "computing activations again does not go with a prefix": isinstance(manifest.adapter, Prefix),
    }


def _of_start(manifest: Manifest) -> dict[str, bool]:
    adapter, pins = manifest.adapter, (manifest.model.start, manifest.model.start_receipt)
    return {
        "a start names its file and its receipt": not all(pins),
        # What is released of a prefix has a tuned pooler in a second file.
        "tuning starts from a released adapter with LoRA": isinstance(adapter, Prefix)
        or (not isinstance(adapter, Lora) and not adapter.lora),
    }


def _of_tags(manifest: Manifest) -> dict[str, bool]:
    labels = manifest.model.labels
    return {
        "tags are O, and B and I of each type": labels != labels_of(types_of(labels)),
        "a model that tags words is not served": manifest.release.rule == "serve-only",
    }


def _of_averaging(manifest: Manifest) -> dict[str, bool]:
    rules = manifest.aggregation
    return {
        f"the rule {rules.rule} is for LoRA adapters": rules.rule != "fedavg"
        and not isinstance(manifest.adapter, Lora),
        # The aggregator has B alone, and no base model from which to draw A.
        "under the rule ffa-lora no parameters are released": rules.rule == "ffa-lora"
        and manifest.release.rule in ("sealed-to-sites", "export"),
        "clipping, capped weights and noise go with method-1": manifest.method != "method-1"
        and (rules.clip, rules.max_samples, rules.privacy) != (None, None, None),
    }


def _of_spellings(manifest: Manifest) -> dict[str, bool]:
    labels, spellings = set(manifest.model.labels), manifest.model.spellings
    return {
        "a spelling stands for no label": not labels.issuperset(spellings.values()),
        "a spelling is a label itself": not labels.isdisjoint(spellings),
    }


def _of_writing(manifest: Manifest) -> dict[str, bool]:
    tables, kinds = manifest.publication, {site.dataset.kind for site in manifest.sites}
    return {
        "written rows and written tokens go together": not (tables.written_rows and tables.written_tokens),
        "answers are written to prompts and in conversations, not chosen": not kinds.issubset(CONVERSATIONS)
        or CHOSEN in kinds,
        # Each token that is written is a pass through all of the model. Masked, each pass would have pads of
        # its own; behind a front, public or of method-2, the tokens would have to go through the host's part.
        "answers are written where the enclave has all of the model": manifest.method != "method-1"
        or manifest.placement == "masked"
        or manifest.front is not None,
        # A prefix stands where the keys of what was written before would be kept.
        "answers are written with LoRA": not isinstance(manifest.adapter, Lora),
    }


def _of_shares(manifest: Manifest, shares: KeyShares) -> dict[str, bool]:
    sites = len(manifest.sites)
    return {
        # The development runtime stands in for both kinds of TEE.
        "shares of the server's key are for TEEs without a sealing key": manifest.runtime
        not in ("tdx", "development"),
        "one site alone would make the server's key, or all of them would not": not min(2, sites)
        <= shares.threshold
        <= sites,
    }


def _of_optimizer(manifest: Manifest, optimizer: ServerOptimizer) -> dict[str, bool]:
    """Noise goes with all of them. Per site it is added to the mean before the step, per record it is in what
    the sites send: a step and its moments are computed from noisy numbers and public ones alone, and what is
    computed from a private mechanism's result costs no more epsilon (Dwork and Roth, proposition 2.1)."""
    adaptive = optimizer.kind != "fedavgm"
    return {
        "a server's optimizer goes with method-1": manifest.method != "method-1",
        # Each round's decomposition turns the factors again: the moments of one round's numbers would be
        # those of other directions in the next.
        "a server's optimizer does not go with the rule stack-svd": manifest.aggregation.rule == "stack-svd",
        "beta2 and tau go with fedadam and fedyogi": (optimizer.beta2 is not None) != adaptive
        or (optimizer.tau is not None) != adaptive,
    }


def _of_front(manifest: Manifest) -> dict[str, bool]:
    """That there is a layer for the adapters is checked where the model is at hand."""
    noise, masking = manifest.aggregation.privacy, manifest.masking
    return {
        "a public front goes with method-1, LoRA, and an enclave at each site": manifest.method != "method-1"
        or not isinstance(manifest.adapter, Lora)
        or manifest.placement == "plaintext",
        "a public front is for accelerators that are the sites' own": masking is not None
        and masking.accelerator != "site",
        # Its host would see which rows a step draws, and epsilon is counted as if nobody did.
        "a public front does not go with noise per record": noise is not None and noise.unit == "record",
    }


def _of_noise(manifest: Manifest, noise: Privacy) -> dict[str, bool]:
    rules, record = manifest.aggregation, noise.unit == "record"
    return {
        # A bound on the change of the factors is none on what a decomposition makes of their product.
        "noise per site goes with a clip, and with the rules fedavg or ffa-lora": noise.unit == "site"
        and (rules.clip is None or rules.rule == "stack-svd"),
        "noise per record goes with a gradient clip, and noise per site with none": record
        != (noise.gradient_clip is not None),
        "noise per record goes with a constant learning rate": record
        and (manifest.training.schedule, manifest.training.warmup) != ("constant", 0.0),
        # It feeds rows one by one and draws them at random: no pad could be made for them beforehand.
        "noise per record does not go with the placement masked": record and manifest.placement == "masked",
    }


def _of_tables(manifest: Manifest) -> dict[str, bool]:
    return {
        f"cells of tables are of at least {LEAST_CELL} rows": manifest.publication.cells < LEAST_CELL,
        f"tables are for classifications of at most {MOST_LABELS} labels": (
            manifest.model.task != "sequence-classification" or len(manifest.model.labels) > MOST_LABELS
        ),
        # Epsilon covers no score; what is told beside it is kept small.
        "tables do not go with noise": manifest.aggregation.privacy is not None,
    }
