"""What does not go together where a manifest asks for what few ask for: a public front, noise, tables of the
test. Loaded where one of them is asked for, by `contracts.manifest` alone.
"""

from __future__ import annotations

from contracts.manifest import Lora, Manifest, Privacy

LEAST_CELL = 5
MOST_LABELS = 50
"""A table has a cell for each pair of labels, and stands in a receipt."""


def faults(manifest: Manifest) -> dict[str, bool]:
    """What is wrong -> whether it is."""
    found: dict[str, bool] = {}
    if manifest.front is not None:
        found |= _of_front(manifest)
    if manifest.aggregation.privacy is not None:
        found |= _of_noise(manifest, manifest.aggregation.privacy)
    if manifest.publication.cells:
        found |= _of_tables(manifest)
    return found


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
            manifest.model.task == "causal-lm" or len(manifest.model.labels) > MOST_LABELS
        ),
        # Epsilon covers no score; what is told beside it is kept small.
        "tables do not go with noise": manifest.aggregation.privacy is not None,
    }
