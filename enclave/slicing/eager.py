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


def _mark(function: Any = None, *_: Any, **__: Any) -> Any:
    """As a decorator, with or without arguments, the function itself."""
    return function if callable(function) else _mark


def _module(name: str, **content: Any) -> ModuleType:
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(content, __path__=[])
    return module
