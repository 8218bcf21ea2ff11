"""torch without its compiler and without its distributed tensors.

transformers imports both where it finds them, only to mark a few functions for a compiler that no enclave
runs: 70 MiB, 10 CPU seconds and 600 modules, sympy among them, that a hospital would have to trust. Without a
compiler such a mark is nothing, so that is what stands here in its place; whoever asks for more of
`torch._dynamo` gets an AttributeError. And what transformers would take along where it is installed, but no
lock of an enclave names, is absent in development too. Runs inside the enclave, before transformers is
imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType
from typing import Any

import torch

BUILDING = Lock()
"""Held by whoever changes torch or transformers while a model is built: what two threads put back in the
wrong order would stay changed."""
_MARKS = ("allow_in_graph", "assume_constant_result", "disable", "graph_break", "mark_static_address")


def run_eagerly() -> None:
    """From now on in this process nothing can be compiled, and no compiler is loaded."""
    if "torch._dynamo" in sys.modules:
        return
    torch._dynamo = _module("torch._dynamo", **dict.fromkeys(_MARKS, _mark))
    # transformers imports this context by name, and enters it only for masks of attention that we do not use.
    _module("torch._dynamo._trace_wrapped_higher_order_op", TransformGetItemToIndex=None)
    torch.distributed.is_available = lambda: False
    for name in ("accelerate", "peft", "scipy", "sklearn"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


@contextmanager
def built_in_memory() -> Iterator[None]:
    """Within, transformers builds a model in memory, and draws no values that a checkpoint gives anyway. It
    would take the meta device, some of whose kernels are written in Python and load sympy. One thread at a
    time: what changes here, and torch's generator, belong to the process."""
    from transformers.initialization import no_init_weights, no_tie_weights
    from transformers.modeling_utils import PreTrainedModel, local_torch_dtype

    def contexts(cls: Any, dtype: torch.dtype, *_: Any) -> list[Any]:
        return [local_torch_dtype(dtype, cls.__name__), no_tie_weights(), no_init_weights()]

    with BUILDING:
        original = vars(PreTrainedModel)["get_init_context"]
        PreTrainedModel.get_init_context = classmethod(contexts)  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            PreTrainedModel.get_init_context = original  # type: ignore[method-assign]


def _mark(function: Any = None, *_: Any, **__: Any) -> Any:
    """As a decorator, with or without arguments, the function itself."""
    return function if callable(function) else _mark


def _module(name: str, **content: Any) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(content, __path__=[])
    return module
