"""The masked engine: frozen layers are multiplied outside, under one-time pads, and the answers are checked.

Online, for each product: words = q + r goes out, (q + r)·Wᵀ comes back, u = r·Wᵀ is taken off, and Freivalds'
check is made on what remains. Offline, u is made inside with one layer's weights at a time. Pads that the
offline phase did not make are made on the spot, and counted. Runs inside the enclave; what it hands to the
accelerator is uniform and independent of everything it knows. Behind a public front some features go out as
they are: those that the host has computed itself. What comes back for them is checked like all else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from contracts.refusal import Refusal
from enclave.masking import integrity
from enclave.masking.engine import QuantisedEngine
from enclave.masking.layers import FrozenLayer, Product, Store, oriented
from enclave.masking.masks import Index, Masks
from enclave.masking.ring import FLIP, Buffers, Limbs
from enclave.masking.vault import Ledger, Vault

STAGES = ("mask", "wait", "integrity", "inline", "offline")
Report = Callable[[int, int], None]
INLINE_ROWS = 4096
"""Tokens whose pads are made in one go: bounds the memory of making them."""
OVERLAPPED_ROWS = 64
"""From twice so many tokens on, a product goes out in two halves: while the accelerator multiplies one, the
enclave masks or checks the other."""


class Accelerator(Protocol):
    """What the engine needs of the other side (see `channel.Channel`)."""

    name: str
    ahead: int

    def rows(self, product: Product) -> int: ...
    def request(self, product: Product, rows: int) -> Tensor: ...
    def send(self, product: Product, rows: int) -> None: ...
    def answer(self) -> Tensor: ...


@dataclass(frozen=True)
class Planned:
    """A coming step: how many tokens each product will see in it (a product without tokens is left out)."""

    tokens: dict[int, int]


@dataclass
class Usage:
    """Counters of a session, for the run page and the receipts. Seconds are wall-clock seconds inside."""

    steps: int = 0
    products: int = 0
    rows: int = 0
    checks: int = 0
    bytes_out: int = 0
    bytes_back: int = 0
    pads_used: int = 0
    pads_inline: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def summary(self) -> dict[str, int | float]:
        """Flat and JSON-ready: counts, bytes, and `<stage>_seconds`."""
        flat = {name: value for name, value in vars(self).items() if name != "seconds"}
        return flat | {f"{stage}_seconds": round(spent, 6) for stage, spent in self.seconds.items()}


class MaskedEngine(QuantisedEngine):
    """Multiplies through an accelerator that is not believed.

    `repetitions` of Freivalds' check (each lets a wrong answer pass with probability 2^-61); `round` is set
    by `enter_round`. Products with a number in `public` have no pads: their features are the host's own.
    After a failure the engine refuses everything (`masking.ended`).
    """

    def __init__(
        self,
        store: Store,
        accelerator: Accelerator,
        vault: Vault | None = None,
        masks: Masks | None = None,
        *,
        repetitions: int = 1,
        public: Collection[int] = (),
    ) -> None:
        self._store = store
        self._public = frozenset(public)
        self._accelerator = accelerator
        self._masks = masks or Masks()
        self._vault = vault
        self._ledger = Ledger()
        self._limbs = Limbs()
        self._buffers = Buffers()
        self._secrets: dict[int, integrity.Secret] = {}
        self._round = self._step = self._made_until = 0
        self._ended = False
        self.usage = Usage()
        for layer in store.layers.values():
            values = store.read(layer)
            for product in layer.products:
                self._secrets[product.number] = integrity.draw(oriented(values, product), repetitions)

    @property
    def accelerator(self) -> str:
        """How the accelerator calls itself; only for people."""
        return self._accelerator.name

    def enter_round(self, round: int) -> None:
        """The steps that follow belong to this round. Pads that were made and are still there are dropped and
        the numbers of their steps skipped, so that no pad is ever made twice."""
        self._round = round
        self._step = max(self._step, self._made_until)
        if self._vault is not None:
            self._vault.drop_before(self._step + 1)

    def enter_step(self) -> None:
        """See `QuantisedEngine.enter_step`. What the last step left over is dropped."""
        self.usage.steps += 1
        self._step += 1
        self._ledger.enter(self._round, self._step)
        if self._vault is not None:
            self._vault.drop_before(self._step)

    def pads_left(self) -> int:
        """Pads in the vault, in products of a step."""
        return 0 if self._vault is None else self._vault.left()

    def room(self) -> int:
        """Bytes of pads that the vault can still take."""
        return 0 if self._vault is None else self._vault.limit - self._vault.bytes

    def estimate(self, plan: Sequence[Planned]) -> int:
        """Bytes that `prepare` will write for these steps."""
        outer = {p.number: p.outer for layer in self._store.layers.values() for p in layer.products}
        return sum(4 * outer[number] * tokens + 16 for step in plan for number, tokens in step.tokens.items())

    def prepare(self, plan: Sequence[Planned], report: Report | None = None) -> None:
        """The offline phase: make the pads of the coming steps, in their order, one layer after the other.

        `report(done, of)` counts layers. Refuses with `masking.vault_full` before it makes any.
        """
        if self._vault is None or self.estimate(plan) > self.room():
            raise Refusal("masking.vault_full", limit=0 if self._vault is None else self._vault.limit)
        vault, self._made_until = self._vault, self._step + len(plan)
        with self._timed("offline"):
            for done, layer in enumerate(self._store.layers.values()):
                if report is not None:
                    report(done, len(self._store.layers))
                if not any(step.tokens.get(p.number) for step in plan for p in layer.products):
                    continue
                values = self._store.read(layer)
                for product in layer.products:
                    weight = oriented(values, product)
                    for offset, step in enumerate(plan, start=1):
                        if tokens := step.tokens.get(product.number, 0):
                            index = Index(self._round, self._step + offset, product.number)
                            vault.put(index, self._make(index, weight, 0, tokens))
        if report is not None:
            report(len(self._store.layers), len(self._store.layers))

    def exact(self, product: Product, fixed: Tensor) -> Tensor:
        """See `QuantisedEngine.exact`; valid until the next call. Refuses with `masking.*` and
        `accelerator.*`, and then all is over."""
        if self._ended:
            raise Refusal("masking.ended")
        self._ended = True  # until the product is done and checked
        index = Index(self._round, self._step, product.number)
        exact = self._buffers.take("exact", (len(fixed), product.outer), torch.int32)
        first, pieces = self._ledger.next(product.number), self._pieces(product, len(fixed))
        sent = deque[slice]()
        for piece in islice(pieces, self._accelerator.ahead):
            self._send(index, product, fixed[piece], first + piece.start)
            sent.append(piece)
        pads = self._pads(index, product, first, len(fixed))  # while the accelerator multiplies
        while sent:
            self._receive(product, sent.popleft(), fixed, pads, exact)
            for piece in islice(pieces, 1):
                self._send(index, product, fixed[piece], first + piece.start)
                sent.append(piece)
        self.usage.checks += 1
        self.usage.products += 1
        self.usage.rows += len(fixed)
        self._ended = False
        return exact

    def _pieces(self, product: Product, rows: int) -> Iterator[slice]:
        """As many rows at a time as the channel takes, and halves where that lets both sides work at once.
        Refuses with `accelerator.too_large`."""
        most = self._accelerator.rows(product)
        if not most:
            raise Refusal("accelerator.too_large", bytes=4 * max(product.inner, product.outer))
        if rows >= 2 * OVERLAPPED_ROWS:
            most = min(most, -(-rows // 2))
        for start in range(0, rows, most):
            yield slice(start, min(start + most, rows))

    def _send(self, index: Index, product: Product, fixed: Tensor, first: int) -> None:
        """`fixed` is added to the mask in private memory; only the sum is written out."""
        rows = len(fixed)
        with self._timed("mask"):
            if product.number in self._public:
                words = fixed + FLIP
            else:
                self._ledger.spend(index, first, rows)
                words = self._masks.words(index, first, rows, product.inner).add_(fixed)
            torch.bitwise_xor(words, FLIP, out=self._accelerator.request(product, rows))
            self._accelerator.send(product, rows)
        self.usage.bytes_out += 4 * rows * product.inner

    def _receive(self, product: Product, piece: slice, fixed: Tensor, pads: Tensor, exact: Tensor) -> None:
        """Fill a piece of `exact`, and check it. Refuses with `masking.wrong_product`."""
        with self._timed("wait"):
            answer = self._accelerator.answer()
        with self._timed("mask"):
            torch.sub(answer, pads[piece], out=exact[piece])
        self.usage.bytes_back += 4 * answer.numel()
        with self._timed("integrity"):
            right = integrity.holds(self._secrets[product.number], fixed[piece], exact[piece], self._buffers)
        if not right:
            raise Refusal(
                "masking.wrong_product",
                accelerator=self._accelerator.name,
                layer=product.layer,
                direction=product.direction,
            )

    def _pads(self, index: Index, product: Product, first: int, tokens: int) -> Tensor:
        """(tokens, outer) pads of the tokens from `first` on: from the vault what is there, the rest
        inline. Zeros where the features went out as they are."""
        if product.number in self._public:
            return torch.zeros((), dtype=torch.int32).expand(tokens, product.outer)
        with self._timed("mask"):
            kept = self._vault.take(index, product.outer) if self._vault is not None and not first else None
        have = 0 if kept is None else min(len(kept), tokens)
        self.usage.pads_used += have
        if kept is not None and have == tokens:
            return kept[:tokens]
        self.usage.pads_inline += tokens - have
        with self._timed("inline"):
            weight = oriented(self._store.read(self._layer(product)), product)
            made = self._make(index, weight, first + have, tokens - have)
        return made if kept is None else torch.cat((kept, made))

    def _make(self, index: Index, weight: Tensor, first: int, tokens: int) -> Tensor:
        """r·Wᵀ for the masks r that `_send_and_receive` will use: there q + r is xored into a word with FLIP,
        so the residue of that word is q + (r − FLIP)."""
        outer, inner = weight.shape
        pads = torch.empty(tokens, outer, dtype=torch.int32)
        for start in range(0, tokens, INLINE_ROWS):
            rows = min(INLINE_ROWS, tokens - start)
            words = self._masks.words(index, first + start, rows, inner).bitwise_xor_(FLIP)
            self._limbs.multiply(words, weight, pads[start : start + rows])
        return pads

    def _layer(self, product: Product) -> FrozenLayer:
        return self._store.layers[product.layer]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.usage.seconds[stage] += time.perf_counter() - started
