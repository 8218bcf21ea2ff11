"""What few runs do to a model before a client slice takes its tuned parameters for those of the beginning."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from contracts.manifest import Manifest


def begin(model: nn.Module, manifest: Manifest, mailbox: Path | None) -> None:
    """Take a released adapter's parameters; then leave LoRA's A as it is, under the rule ffa-lora.

    Raises: `start.*`.
    """
    if manifest.model.start:
        from enclave.slicing.start import begin_with_release

        begin_with_release(model, manifest.model, mailbox)
    if manifest.aggregation.rule == "ffa-lora":
        from enclave.slicing.frozen_a import freeze_a

        freeze_a(model)
