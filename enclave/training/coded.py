"""What is learnt where a row's target is no label's id and no text: several labels, or tags. Targets are
negative there (several.py, tags.py); and scores with what tables are made of; and choices (choices.py).

Loaded where a manifest asks for one of them. Runs inside the enclave, and at the site where features are
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from contracts.kinds import CHOSEN, SEVERAL
from contracts.manifest import Manifest, ModelSpec
from contracts.rows import Row
from enclave.training.data import Examples
from enclave.training.metrics import Scores

if TYPE_CHECKING:
    from enclave.training.material import Material


def encode_coded(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Examples:
    """As `row_reader.encode`."""
    if spec.task == "token-classification":
        from enclave.training.tags import encode_tags

        return encode_tags(rows, tokenizer, spec)
    from enclave.training.several import encode_several

    return encode_several(rows, tokenizer, spec)


def loss_of_coded(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `loop.batch_loss`, for rows with several labels or tags.

    Args: `logits` (batch, labels) or (batch, tokens, tags) in the model's dtype; `targets` (batch, …)
    int64.

    Returns: the loss, a () float32; predictions and targets, (predictions,) int64.
    """
    if targets.dim() == 2:
        from enclave.training.tags import loss_of_tags

        return loss_of_tags(logits, targets)
    from enclave.training.several import loss_of_several

    return loss_of_several(logits, targets)


def evaluate_finely(
    model: nn.Module, examples: Material, manifest: Manifest, tables: bool, **how: Any
) -> Scores:
    """As `loop.evaluate`, which is told `how`."""
    if manifest.model.task == "token-classification":
        from enclave.training.tags import evaluate_tags

        how.pop("labels")
        return evaluate_tags(model, examples, manifest.model.labels, **how)
    if manifest.coded == CHOSEN:
        from enclave.training.choices import evaluate_choices

        how.pop("labels")
        return evaluate_choices(model, examples, **how)
    if manifest.coded == SEVERAL:
        from enclave.training.several import evaluate_several

        return evaluate_several(model, examples, tables=tables, **how)
    from enclave.training.tables import evaluate_with_bins

    return evaluate_with_bins(model, examples, **how)
