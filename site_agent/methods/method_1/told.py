"""What a person who approves a run of Method 1 is told of it."""

from __future__ import annotations

from contracts.manifest import Manifest
from site_agent.words import readable_bytes

PLACEMENTS = {
    "all_in_tee": "all of the model in this site's enclave",
    "masked": "masked: an accelerator outside the enclave multiplies the frozen layers, under one-time pads",
    "plaintext": "without enclaves",
}
RULE = {
    "fedavg": "the mean of every parameter",
    "ffa-lora": "the mean of LoRA's B; its A stays as it was drawn",
    "stack-svd": "the mean of the LoRA products B·A, and from it the best factors of the same rank",
}


def in_words(manifest: Manifest) -> str:
    """By placement."""
    if manifest.masking is None:
        return f"Method 1, {PLACEMENTS[manifest.placement]}"
    checks, pads = manifest.masking.repetitions, readable_bytes(manifest.masking.vault_bytes)
    return f"Method 1, {PLACEMENTS['masked']} ({pads} at most; {checks} checks a product)"


def leaving(manifest: Manifest, readable: str) -> list[str]:
    """Tuned parameters, sealed, but for the baseline in plaintext."""
    if manifest.placement == "plaintext":
        return [
            "  UNPROTECTED, for the coordinator and the other sites: the tuned parameters after each round",
            f"  readable by the coordinator: {readable}",
            "  never: rows, labels of rows, texts",
        ]
    return [
        "  sealed to an attested enclave: the tuned parameters after each round, counts of right answers",
        f"  readable by the coordinator: {readable}",
        "  never: rows, labels of rows, texts; the tuned parameters in readable form",
    ]


def joining(manifest: Manifest) -> str:
    """The rule of averaging."""
    rule = manifest.aggregation.rule
    return f"  averaging    {rule}: {RULE[rule]}"
