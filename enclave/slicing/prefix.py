"""P-Tuning v2: trained keys and values in front of every attention layer, nothing else of the layers
touched.

The parameters are those of peft's prefix without projection, drawn as peft draws them, so that they are
released as a PEFT adapter. peft's own forward pass reaches decoders only through models that name a cache,
and pools encoders in its own way; here a fresh cache is put before the backbone of any architecture at each
forward pass, so a head of any kind works unchanged. The prefix takes positions: what is usable for text is
positions − prefix. Runs inside the enclave.

Source: Liu et al., P-Tuning v2, arXiv 2110.07602.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from contracts.architecture.positions import positions_of
from contracts.architecture.rows import row_of
from contracts.manifest import Prefix
from contracts.refusal import Refusal
from enclave.slicing.adapters import draw_output_layer, head_modules


class PrefixTuned(nn.Module):
    """A model with a trainable prefix; called like the model itself."""

    def __init__(self, base: PreTrainedModel, length: int) -> None:
        """`prompt_embeddings` (length, 2 · layers · heads · head size), standard normal, layer by layer."""
        super().__init__()
        config = base.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.base_model = base
        self._length, self._shape = length, (2 * config.num_hidden_layers, heads, size)
        self.prompt_embeddings = nn.Parameter(torch.empty(length, math.prod(self._shape)).normal_())
        backbone = getattr(base, row_of(base.config).backbone)
        backbone.register_forward_pre_hook(self._put_before, with_kwargs=True)

    @property
    def config(self) -> Any:
        """The base model's."""
        return self.base_model.config

    def forward(self, **inputs: Any) -> Any:
        """What the base model's forward takes and gives."""
        return self.base_model(**inputs)

    def cache(self, batch: int) -> DynamicCache:
        """A fresh cache with the prefix: per layer keys and values (batch, heads, length, head size)."""
        prefix = self.prompt_embeddings.view(1, self._length, *self._shape).expand(batch, -1, -1, -1, -1)
        layers = prefix.permute(2, 0, 3, 1, 4).split(2)
        return DynamicCache([(keys_values[0], keys_values[1]) for keys_values in layers])

    def _put_before(self, _backbone: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        first = next(
            t for t in (*inputs, named.get("input_ids"), named.get("inputs_embeds")) if t is not None
        )
        batch, tokens = first.shape[:2]
        mask = named.get("attention_mask")
        mask = torch.ones(batch, tokens, dtype=torch.long) if mask is None else mask
        named["attention_mask"] = torch.cat((mask.new_ones(batch, self._length), mask), dim=1)
        named["past_key_values"] = self.cache(batch)
        return inputs, named


def tune_prefix(model: PreTrainedModel, prefix: Prefix, seed: int) -> PrefixTuned:
    """Freeze `model`, put a trainable prefix before it, and let its head train. `seed` alone decides.

    Raises: `adapter.no_prefix`.
    """
    _require_room_for_keys(model)
    model.requires_grad_(False)
    head = head_modules(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draw_output_layer(model, head[-1:])
        tuned = PrefixTuned(model, prefix.length)
    for name in head:
        model.get_submodule(name).requires_grad_(True)
    return tuned


def usable_tokens(model: PreTrainedModel, prefix: Prefix, asked: int) -> int:
    """Positions that are left for text.

    Raises: `slicing.too_short` if `asked` tokens do not fit, and `adapter.no_prefix` for a model that takes
    no prefix.
    """
    _require_room_for_keys(model)
    positions = positions_of(model.config)
    usable = positions - prefix.length
    if usable < asked:
        raise Refusal(
            "slicing.too_short", length=prefix.length, usable=usable, positions=positions, asked=asked
        )
    return usable


def _require_room_for_keys(model: PreTrainedModel) -> None:
    """Raises: `adapter.no_prefix` for an architecture whose attention takes no keys from before the
    text.
    """
    architecture = row_of(model.config)
    if not architecture.prefix:
        raise Refusal("adapter.no_prefix", architecture=architecture.name)
