"""One forward and one backward pass in each way, by the code that the enclaves run.

Whatever a placement refuses is its verdict; what it raises is one as well. Everything lies in folders that go
with the child.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from contracts.manifest import Adapter, Lora, ModelSpec, Prefix, Spf
from contracts.model_proof import Verdict, Way
from contracts.refusal import Refusal
from enclave.masking.layers import Product
from enclave.masking.residues import Packed
from enclave.slicing.adapters import adapt, tuned_parameters
from enclave.slicing.halves import open_front, open_tail
from enclave.slicing.models import load
from enclave.slicing.placement import offload
from enclave.slicing.prefix import tune_prefix, usable_tokens
from enclave.slicing.shape import Shape
from enclave.slicing.spf import tune
from enclave_host.accelerator import Multiplier, read_products
from enclave_host.product import NativeProduct
from enclave_host.unmasked import prepare_and_open
from enclave_host.words import room_for

ROWS, TOKENS, SEED = 2, 12, 1
LORA_TARGETS = (
    ("query", "value"), ("q_proj", "v_proj"), ("c_attn",), ("q_lin", "v_lin"), ("query_proj", "value_proj"),
    ("query_key_value",), ("Wqkv",), ("qkv_proj",), ("in_proj",), ("q", "v"),
)  # fmt: skip
"""The usual targets of LoRA, by what architectures call them: queries and values."""


@dataclass(frozen=True)
class Trial:
    """What is tried: `spec` names the files, `tokens` each of ROWS texts has, of ids below `vocabulary`."""

    folder: Path
    spec: ModelSpec
    adapter: Adapter
    cut: int
    tokens: int
    vocabulary: int

    def texts(self, padding: int | None) -> tuple[Tensor, Tensor]:
        """Ids (ROWS, tokens) and their mask; the second text is shorter by one."""
        draw = torch.Generator().manual_seed(SEED)
        ids = torch.randint(0, self.vocabulary, (ROWS, self.tokens), generator=draw)
        ids[ids == padding] = 0 if padding else min(1, self.vocabulary - 1)
        mask = torch.ones_like(ids)
        if padding is not None:
            ids[1, -1], mask[1, -1] = padding, 0
        return ids, mask


def usual_targets(model: nn.Module) -> tuple[str, ...]:
    """The first row of LORA_TARGETS whose names all stand in the model; () where none does."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return next((row for row in LORA_TARGETS if set(row) <= names), ())


def attempt(way: Way, trial: Trial) -> Verdict:
    """Try it; why it does not work is in the verdict, and only what ends the whole child is raised."""
    try:
        WAYS[way](trial)
    except Refusal as refusal:
        return Verdict(refusal.code, refusal.facts)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        if "allocate memory" in str(error):
            raise
        fault = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        return Verdict("model.pass_failed", {"way": way, "fault": fault})
    return Verdict()


def _all_in_tee(trial: Trial) -> None:
    base, tokenizer = load(trial.folder, trial.spec)
    if isinstance(trial.adapter, Prefix):
        usable_tokens(base, trial.adapter, trial.tokens)
        model: nn.Module = tune_prefix(base, trial.adapter, SEED)
    else:
        assert isinstance(trial.adapter, Lora)
        model = adapt(base, trial.adapter, SEED)
    ids, mask = trial.texts(tokenizer.pad_token_id)
    _learn(model, lambda: model(input_ids=ids, attention_mask=mask).logits, ids, mask, trial.spec)


def _masked(trial: Trial) -> None:
    assert isinstance(trial.adapter, Lora | Prefix)
    with tempfile.TemporaryDirectory(prefix="fedslice-cut-") as own:
        store = Path(own) / "prepared"
        opened = prepare_and_open(trial.folder, trial.spec, trial.adapter, SEED, store)
        ids, mask = trial.texts(opened.tokenizer.pad_token_id)
        masked = offload(opened.cut, InProcess(store), Path(own) / "pads")
        masked.begin_round(1, [Shape(ROWS, trial.tokens, backward=True)])
        model = opened.cut.model
        _learn(model, lambda: model(input_ids=ids, attention_mask=mask).logits, ids, mask, trial.spec)


def _split(trial: Trial) -> None:
    assert isinstance(trial.adapter, Spf)
    front, tokenizer = open_front(trial.folder, trial.spec, trial.cut)
    opened = open_tail(trial.folder, trial.spec, trial.cut)
    if opened.config.num_hidden_layers < 2:
        raise Refusal("model.one_layer")
    ids, mask = trial.texts(tokenizer.pad_token_id)
    features, tail = front(ids, mask), opened.tail
    if not features.isfinite().all() or float(features.abs().max()) > opened.feature_bound:
        raise Refusal("model.pass_not_finite", where="features")
    tune(tail, trial.adapter, SEED)
    _learn(tail, lambda: tail(features, mask).logits, ids, mask, trial.spec)


def _learn(
    model: nn.Module, forward: Callable[[], Tensor], ids: Tensor, mask: Tensor, spec: ModelSpec
) -> None:
    """Forward, loss and backward, in training mode; everything finite, and some gradient is not zero.

    Raises: `model.pass_not_finite` or `model.no_gradient`.
    """
    model.train()
    logits = forward()
    if spec.task == "causal-lm":
        targets = ids.masked_fill(mask == 0, -100)[:, 1:].flatten()
        loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets)
    else:
        logits = logits.flatten(0, -2)  # a class a text, or a tag a token
        loss = cross_entropy(logits.float(), torch.arange(len(logits)) % len(spec.labels))
    if not loss.isfinite():
        raise Refusal("model.pass_not_finite", where="loss")
    loss.backward()
    gradients = {name: p.grad for name, p in tuned_parameters(model).items() if p.grad is not None}
    for name, gradient in gradients.items():
        if not gradient.isfinite().all():
            raise Refusal("model.pass_not_finite", where=name[:200])
    if not any(gradient.any() for gradient in gradients.values()):
        raise Refusal("model.no_gradient")


class InProcess:
    """An accelerator in this process: it multiplies what it is sent, as the one in a process of its own."""

    name, ahead = "proof", 1

    def __init__(self, store: Path, native: NativeProduct | None = None) -> None:
        self._multiplier = Multiplier(read_products(store), native=native)
        self._words = self._answer = room_for(0, 0, 3)

    def rows(self, product: Product) -> int:
        """Rows of a request: as many as there are."""
        return 1 << 31

    def request(self, product: Product, rows: int) -> Packed:
        """Where masked words go."""
        self._words = room_for(rows, product.inner, product.limbs)
        return self._words

    def send(self, product: Product, rows: int) -> None:
        """Multiply them."""
        self._answer = room_for(rows, product.outer, product.limbs)
        self._multiplier.multiply(product.number, self._words, self._answer)

    def answer(self) -> Packed:
        """The product."""
        return self._answer


WAYS: dict[Way, Callable[[Trial], Any]] = {
    "all_in_tee/lora": _all_in_tee,
    "all_in_tee/prefix": _all_in_tee,
    "masked/lora": _masked,
    "masked/prefix": _masked,
    "split/spf": _split,
}
