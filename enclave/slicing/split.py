"""Method 2's cut: a frozen front (embeddings and first k layers, public) and a tail (the rest and the head).

Each half is the architecture's own model with the other half taken out, so masks, rotary embeddings and KV
caches are made by the model's own code on both sides. Between them go features (batch, tokens, d_model): the
residual stream before layer k + 1, and the attention mask. The front runs at the site, the tail in the
server's TEE. Taking a half takes the model apart: load it again, or copy it, for the other. Halves of a
pinned base model, without the memory of the whole one, come from `halves.open_front` and `halves.open_tail`.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from contracts.architecture.layers import check_cut
from contracts.architecture.positions import positions_of
from contracts.architecture.rows import row_of
from contracts.refusal import Refusal

PROBE_TEXTS, PROBE_TOKENS, SLACK = 8, 32, 64.0


class Front(nn.Module):
    """Embeddings and the first `k` layers, frozen. Holds nothing secret; its input is the site's own text."""

    def __init__(self, model: PreTrainedModel, k: int) -> None:
        """Raises: `slicing.unknown_architecture` or `split.bad_cut`."""
        super().__init__()
        row = row_of(model.config)
        check_cut(model.config, k)
        self.backbone = getattr(model, row.backbone)
        self.k = k
        self.config = _keep_layers(self.backbone, row.layers, 0, k)
        if row.norm is not None:
            setattr(self.backbone, row.norm, nn.Identity())
        if hasattr(self.backbone, "pooler"):
            self.backbone.pooler = None
        self.requires_grad_(False)

    def layers(self) -> tuple[nn.Module, ...]:
        """The layers that are left, in order."""
        return tuple(self.backbone.get_submodule(row_of(self.config).layers).children())

    @property
    def device(self) -> torch.device:
        """Where its input is taken. Layers that are streamed have storage for a moment only."""
        kept = (tensor for tensor in (*self.parameters(), *self.buffers()) if not tensor.is_meta)
        return next((tensor.device for tensor in kept), torch.device("cpu"))

    @torch.no_grad()
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: DynamicCache | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """The features at the cut. Segments (`token_type_ids`) are for models that read them.

        Args: `input_ids`, `attention_mask`, `position_ids` and `token_type_ids` (batch, tokens) int64.

        Returns: (batch, tokens, d_model) in the model's dtype.
        """
        inputs = _inputs(self.config, attention_mask, position_ids, cache)
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        features: Tensor = self.backbone(input_ids=input_ids, **inputs).last_hidden_state
        return features


@torch.no_grad()
def feature_bound_of(front: Front) -> float:
    """The largest absolute value that features of a public front are believed to have: SLACK times the
    largest in a few texts of random tokens, after any of its layers. A feature of 10³⁰ is finite, and one
    site's would make everybody's training diverge; what is within the bound, the tail's own norms bring to
    scale."""
    config, backbone = front.config, front.backbone
    longest = min(PROBE_TOKENS, (positions_of(config) or PROBE_TOKENS) - 2)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (PROBE_TEXTS, longest), generator=generator)
    training = backbone.training
    found = backbone.eval()(input_ids=ids.to(front.device), output_hidden_states=True)
    backbone.train(training)
    states = (*found.hidden_states, found.last_hidden_state)  # without a layer there is none but the last
    return SLACK * max(float(state.float().abs().max()) for state in states)


class Tail(nn.Module):
    """All layers after layer `k`, and the head. Runs in the server's TEE; it never sees a token id."""

    def __init__(self, model: PreTrainedModel, k: int) -> None:
        """Raises: `slicing.unknown_architecture`, `split.bad_cut` or `split.unknown_head`."""
        super().__init__()
        row = row_of(model.config)
        check_cut(model.config, k)
        kind = type(model).__name__
        if not kind.endswith(("SequenceClassification", "TokenClassification", "ForCausalLM", "LMHeadModel")):
            raise Refusal("split.unknown_head", found=kind[:80])
        self.model, self.k = model, k
        self._backbone = row.backbone
        backbone = getattr(model, row.backbone)
        self.config = _keep_layers(backbone, row.layers, k, model.config.num_hidden_layers, model)
        self.config.tie_word_embeddings = False  # the output layer keeps the matrix that it shared
        if row.token_table.startswith("embeddings."):
            backbone.embeddings = _AlreadyEmbedded()
        else:
            setattr(backbone, row.token_table, None)
        for table in row.tables & dict(backbone.named_children()).keys():
            setattr(backbone, table, _NoPositions())
        if row.drop is not None:
            setattr(backbone, row.drop, nn.Identity())
        # A decoder's classifier looks for the last token by its id; here the mask says which it is.
        self._last_token = kind.endswith("ForSequenceClassification") and hasattr(model, "score")

    def forward(
        self,
        features: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: DynamicCache | None = None,
        **head: int | Tensor,
    ) -> Any:
        """What the model says, at all places, or at those that `logits_to_keep` names.

        Args: `features` (batch, tokens, d_model) in the model's dtype; `attention_mask` and `position_ids`
        (batch, tokens) int64.

        Returns: an object with `logits`: (batch, labels), or of a causal LM (batch, places, vocabulary), in
        the model's dtype.
        """
        inputs = _inputs(self.config, attention_mask, position_ids, cache)
        if self._last_token:
            hidden = getattr(self.model, self._backbone)(inputs_embeds=features, **inputs).last_hidden_state
            score = self.model.get_submodule("score")
            return SimpleNamespace(logits=score(_last_kept(hidden, attention_mask)))
        return self.model(inputs_embeds=features, **inputs, **head)

    def layers(self) -> tuple[tuple[str, nn.Module], ...]:
        """(place in this module, layer) of the layers that are left, in order. After `model.` a place is the
        layer's name in the whole model."""
        place = f"model.{self._backbone}.{row_of(self.config).layers}"
        named = self.get_submodule(place).named_children()
        return tuple((f"{place}.{number}", layer) for number, layer in named)


class Session:
    """One text (or batch of texts) that grows: a half with its KV cache, its mask and its positions.

    Both sides keep one, and feed it the same number of tokens at each step; padding stands on the left. A
    lost session is rebuilt by feeding all steps so far at once.
    """

    def __init__(self, half: Front | Tail) -> None:
        self._half = half
        self._cache = DynamicCache(config=half.config) if half.config.num_hidden_layers else None
        self._mask: Tensor | None = None

    @property
    def tokens(self) -> int:
        """How many tokens the session has seen, padding counted."""
        return 0 if self._mask is None else self._mask.shape[1]

    @torch.no_grad()
    def step(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Feed the next tokens.

        Args: `inputs` of a front (batch, tokens) int64 ids, of a tail (batch, tokens, d_model) features in
        its dtype; `attention_mask` (batch, tokens) int64.

        Returns: of a front the features (batch, tokens, d_model), of a tail the logits of the last token,
        (batch, vocabulary), in the model's dtype.

        Raises: `split.session_shape` or `split.too_long`, and then the session is as it was.
        """
        batch, tokens = inputs.shape[:2]
        if attention_mask is None:
            attention_mask = torch.ones(batch, tokens, dtype=torch.long, device=inputs.device)
        if attention_mask.shape != (batch, tokens) or not tokens:
            raise Refusal("split.session_shape", fault="the mask is of another shape than the tokens")
        if self._mask is not None and len(self._mask) != batch:
            raise Refusal("split.session_shape", fault="the number of texts changed")
        limit = positions_of(self._half.config)
        if limit and self.tokens + tokens > limit:
            raise Refusal("split.too_long", tokens=self.tokens + tokens, limit=limit)
        self._mask = attention_mask if self._mask is None else torch.cat((self._mask, attention_mask), 1)
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -tokens:]
        if isinstance(self._half, Front):
            features: Tensor = self._half(inputs, self._mask, positions, self._cache)
            return features
        logits: Tensor = self._half(inputs, self._mask, positions, self._cache, logits_to_keep=1).logits
        return logits[:, -1]


class _AlreadyEmbedded(nn.Module):
    """In the place of an encoder's embeddings: the features come from behind them."""

    def forward(self, input_ids: None, inputs_embeds: Tensor, *_: Any, **_named: Any) -> Tensor:
        return inputs_embeds


class _NoPositions(nn.Module):
    """In the place of a table of positions that the front has added already."""

    def forward(self, position_ids: Tensor) -> Tensor:
        return torch.zeros((), device=position_ids.device)


def _keep_layers(
    backbone: nn.Module, place: str, start: int, stop: int, model: nn.Module | None = None
) -> Any:
    """Keep the layers [start, stop) under the names that they have in the whole model, number their caches
    from 0, and give all modules a configuration of their own that says so."""
    path, _, name = place.rpartition(".")
    kept = nn.ModuleList()
    for number, layer in enumerate(list(backbone.get_submodule(place).children())[start:stop]):
        kept.add_module(str(start + number), layer)
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", number)  # noqa: B010  # the type checker sees a tensor there
    setattr(backbone.get_submodule(path), name, kept)
    old: Any = backbone.config
    config = copy.deepcopy(old)
    config.num_hidden_layers = stop - start
    if getattr(old, "layer_types", None) is not None:
        config.layer_types = list(old.layer_types[start:stop])
    for module in (model or backbone).modules():
        if getattr(module, "config", None) is old:
            module.config = config
    return config


def _inputs(
    config: Any, mask: Tensor | None, positions: Tensor | None, cache: DynamicCache | None
) -> dict[str, Any]:
    """What both halves hand to the model's own code. A decoder without a layer asks for no mask or cache; an
    encoder's head may average over what the mask keeps."""
    decoder = row_of(config).writes
    inputs: dict[str, Any] = {"attention_mask": mask if config.num_hidden_layers or not decoder else None}
    if positions is not None:
        inputs["position_ids"] = positions
    if decoder:
        inputs |= {"use_cache": cache is not None, "past_key_values": cache}
    return inputs


def _last_kept(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """(batch, tokens, d_model) -> (batch, d_model) at the rightmost token that the mask keeps."""
    if mask is None:
        return hidden[:, -1]
    last = (torch.arange(mask.shape[1], device=mask.device) * mask).argmax(-1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]
