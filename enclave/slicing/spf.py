"""Sparsification Parameter Fine-tuning: tune some heads of Q, K and V, some rows of the dense linears, the
model's head, and, where switched on, LoRA on the attention output and the dense linears.

`contracts.architecture.spf_size` counts from a configuration alone what `tune` builds. SPF deltas average
exactly: the mean of the tuned rows is the tuned rows of the mean matrix. Runs in the server's TEE.

Source: arXiv 2401.09796.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from contracts.architecture.layers import Linear, linears_of
from contracts.architecture.rows import row_of
from contracts.architecture.spf_size import ratio_of
from contracts.manifest import Spf
from contracts.refusal import Refusal
from enclave.slicing.adapters import draw_output_layer, head_modules, tuned_parameters
from enclave.slicing.lora import put_lora
from enclave.slicing.rowtuned import RowTunedLinear, as_linear
from enclave.slicing.selection import choose
from enclave.slicing.split import Tail


def tune(tail: Tail, spf: Spf, seed: int) -> None:
    """Freeze `tail` and make what `spf` says trainable, in place. Its answers stay what they were, but for a
    new classification head.

    Initial values of LoRA and head depend on `seed` alone; rows start at the public weights.

    Raises: `spf.*`, and then the tail is to be thrown away.
    """
    tail.requires_grad_(False)
    head = head_modules(tail.model)
    lora = []
    for place, name, linear in _linears(tail):
        parent_path, _, last = place.rpartition(".")
        parent = tail.get_submodule(parent_path)
        module = getattr(parent, last)
        ratio, with_lora = ratio_of(spf, linear.role), linear.role in spf.lora
        if not ratio and not with_lora:
            continue
        made = as_linear(module)
        if ratio:
            index = choose(made.weight, linear, ratio, spf.select, spf.seed, name)
            made = RowTunedLinear(made.weight, made.bias, index)
        setattr(parent, last, made)
        if with_lora:
            lora.append(place)
    if not any(isinstance(module, RowTunedLinear) for module in tail.modules()) and not lora:
        raise Refusal("spf.nothing")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draw_output_layer(tail.model, head[-1:])
        put_lora(tail, lora, spf)
    for module in tail.modules():
        if isinstance(module, RowTunedLinear):
            module.rows.requires_grad_(True)
    for name in head:
        tail.model.get_submodule(name).requires_grad_(True)


def selected_rows(tail: Tail) -> dict[str, Tensor]:
    """Which rows are tuned.

    Returns: a parameter's name in the tuned state -> row numbers in its matrix, (rows,) int64.
    """
    modules = dict(tail.named_modules())
    return {
        name: modules[name.removesuffix(".rows")].index
        for name in tuned_parameters(tail)
        if name.endswith(".rows")
    }


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the state that an optimizer holds now."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


def _linears(tail: Tail) -> Iterator[tuple[str, str, Linear]]:
    """(place in the tail, name in the whole model, shape). The name does not depend on the cut, so neither
    does a random selection."""
    table, layers = linears_of(tail.config), row_of(tail.config).layers
    for place, _ in tail.layers():
        for linear in table:
            name = f"{layers}.{place.rpartition('.')[2]}.{linear.path}"
            yield f"{place}.{linear.path}", name, linear
