"""What the masked engine needs of the other side. For the type checker: no program loads it."""

from __future__ import annotations

from typing import Protocol

from enclave.masking.layers import Product
from enclave.masking.residues import Packed


class Accelerator(Protocol):
    """What the engine needs of the other side (see `channel.MaskedChannel`)."""

    name: str
    ahead: int

    def rows(self, product: Product) -> int: ...
    def request(self, product: Product, rows: int) -> Packed: ...
    def send(self, product: Product, rows: int) -> None: ...
    def answer(self) -> Packed: ...
