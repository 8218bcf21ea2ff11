"""The architecture table: which families of models can be cut, what of them runs where, what stands where.

One row a family, and all that the parts of FedSlice know of it: what may run inside the enclave (exact class
names, because a new operation has to be looked at by a person before it runs beside secrets), which linears
share their input and so form one group, which small frozen tables stay inside, where the layers are, and what
one layer is made of. Everything that no row lists is refused. Names alone: pure, runs on every side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["attention", "attention_output", "dense"]
Linears = tuple[tuple[str, Role, str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Architecture:
    """`name` is what people call it, `model_type` is transformers' name, `package` transformers' package of
    its classes, `inside` those classes that may run inside the enclave.

    `together` are names of sibling linears with one input; `tables` are frozen embeddings that stay inside;
    `backbone` is the attribute that holds the layers; `token_table` is the embedding's place in the backbone,
    `layers` that of the layers, `norm` of the norm after them, `drop` of a dropout before them.

    `linears` of one layer are (path, role, inputs, parts); parts are blocks of output rows. `writes`: it
    reads from left to right, so it can write text; the others read both ways, and sort texts. `prefix`: its
    attention takes keys and values from before the text, so P-Tuning v2 can put them there."""

    name: str
    model_type: str
    package: str
    inside: frozenset[str]
    together: tuple[tuple[str, ...], ...]
    tables: frozenset[str]
    backbone: str
    token_table: str
    layers: str
    norm: str | None
    drop: str | None
    linears: Linears
    writes: bool = True
    prefix: bool = True
