"""A batch of features, of shards or of rows behind a public front."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FeatureBatch:
    """`features` (batch, tokens, d_model) float32, `attention_mask` (batch, tokens), padded on the right;
    `targets` and `rows` as in `data.Batch`."""

    features: Tensor
    attention_mask: Tensor
    targets: Tensor
    rows: int

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a tail is called with.

        Returns: names -> (batch, tokens, d_model) float32 features, (batch, tokens) int64 masks.
        """
        return {"features": self.features, "attention_mask": self.attention_mask}
