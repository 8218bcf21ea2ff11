"""The masked engine: frozen layers are multiplied outside, under one-time pads, and answers are checked.

Online, for each product: words of q + r go out, (q + r)·Wᵀ comes back, u = r·Wᵀ is taken off, and
Freivalds' check is made on what remains. A block of rows is scaled, rounded, masked and written in one go,
and one of an answer is unmasked, checked and scaled: while they are in a cache. Offline, u is made inside
with one layer's weights at a time. Pads that the offline phase did not make are made on the spot, and
counted. Runs inside the enclave; what it hands to the accelerator is uniform and independent of everything
it knows (but behind a public front: `in_clear`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from contracts.refusal import Refusal
from enclave.masking import integrity
from enclave.masking.engine import LayerWork, QuantisedEngine, blocks
from enclave.masking.layers import Product, Store, oriented
from enclave.masking.masks import Masks, PadIndex
from enclave.masking.residues import Packed, mask, of_mask, unmask
from enclave.masking.ring import Limbs
from enclave.masking.vault import TAG_BYTES, PadLedger, Vault

if TYPE_CHECKING:
    from enclave.masking.accelerator import Accelerator

STAGES = ("mask", "wait", "integrity", "inline", "offline")
Planned = dict[int, int]
"""A coming step: how many tokens each product will see in it (a product without tokens is left out)."""
PIECE_ROWS = 1024
"""Tokens whose pads a thread makes in one go: bounds the memory of making them."""
OVERLAPPED_ROWS = 64
"""From twice so many tokens on, a product goes out in two halves: while the accelerator multiplies one, the
enclave masks or checks the other."""


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


@dataclass(frozen=True)
class SentRequest:
    """A request on its way: rows of a product, their scales, and what the answer's check must come to."""

    product: Product
    rows: slice
    scale: Tensor
    claimed: Tensor


class MaskedEngine(QuantisedEngine):
    """Multiplies through an accelerator that is not believed.

    `repetitions` of Freivalds' check (each lets a wrong answer pass with probability 2^-61); `round` is set
    by `enter_round`. After a failure the engine refuses everything (`masking.ended`).
    """

    def __init__(
        self,
        store: Store,
        accelerator: Accelerator,
        vault: Vault | None = None,
        masks: Masks | None = None,
        *,
        repetitions: int = 1,
    ) -> None:
        super().__init__()
        self._store = store
        self._accelerator = accelerator
        self.accelerator = accelerator.name  # how it calls itself; only for people
        self._masks = masks or Masks()
        self._vault = vault
        self._ledger = PadLedger()
        self._limbs, self._threads = Limbs(), torch.get_num_threads()
        # In each of them torch has one: several threads for one small product gain nothing.
        self._pool = ThreadPoolExecutor(self._threads, initializer=torch.set_num_threads, initargs=(1,))
        self._secrets: dict[int, integrity.Secret] = {}
        self._round = self._step = self._made_until = 0
        self._ended = False
        self.usage = Usage()
        for layer in store.layers.values():
            values = store.read(layer)
            for product in layer.products:
                weight, number = oriented(values, product), product.number
                self._secrets[number] = integrity.draw(weight, product.limbs, repetitions)

    def enter_round(self, round: int) -> None:
        """The steps that follow belong to this round. Pads that were made and are still there are dropped
        and the numbers of their steps skipped, so that no pad is ever made twice."""
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
        size = {p.number: p.limbs * p.outer for layer in self._store.layers.values() for p in layer.products}
        pads = (pad for step in plan for pad in step.items())
        return sum(size[number] * tokens + TAG_BYTES for number, tokens in pads)

    def prepare(self, plan: Sequence[Planned], report: Callable[[int, int], None] | None = None) -> None:
        """The offline phase: make the pads of the coming steps, in their order, one layer after the other:
        each is read once for all steps.

        `report(done, of)` counts layers.

        Raises: `masking.vault_full` before it makes any.
        """
        if self._vault is None or self.estimate(plan) > self.room():
            raise Refusal("masking.vault_full", limit=0 if self._vault is None else self._vault.limit)
        vault, self._made_until = self._vault, self._step + len(plan)
        tell = report or (lambda done, of: None)
        with self._timed("offline"):
            for done, layer in enumerate(self._store.layers.values()):
                tell(done, len(self._store.layers))
                if not any(step.get(p.number) for step in plan for p in layer.products):
                    continue
                values = self._store.read(layer)
                for product in layer.products:
                    weight = oriented(values, product)
                    for offset, step in enumerate(plan, start=1):
                        if tokens := step.get(product.number, 0):
                            index = PadIndex(self._round, self._step + offset, product.number)
                            vault.put(index, self._make(index, product, weight, 0, tokens), tokens)
        tell(len(self._store.layers), len(self._store.layers))

    def multiply(self, work: LayerWork) -> None:
        """See `QuantisedEngine.multiply`. Requests of all parts follow each other without a pause.

        Raises: `masking.*` and `accelerator.*`, and then all is over.
        """
        if self._ended:
            raise Refusal("masking.ended")
        self._ended = True  # until the products are done and checked
        rows, spent = len(work.features), [self._ledger.next(product.number) for product in work.products]
        tasks = (
            (p, at, piece)
            for p, at in zip(work.products, spent, strict=True)
            for piece in self._pieces(p, rows)
        )
        sent = deque(self._send(work, *task) for task in islice(tasks, self._accelerator.ahead))
        for product, first in zip(work.products, spent, strict=True):
            pads = self._pads(product, first, rows)  # while the accelerator multiplies
            while sent and sent[0].product is product:
                self._receive(work, sent.popleft(), pads)
                sent.extend(self._send(work, *task) for task in islice(tasks, 1))
            self.usage.checks += 1
            self.usage.products += 1
            self.usage.rows += rows
        self._ended = False

    def _pieces(self, product: Product, rows: int) -> Iterator[slice]:
        """As many rows at a time as the channel takes, and halves where that lets both sides work at once.

        Raises: `accelerator.too_large`.
        """
        most = self._accelerator.rows(product)
        if not most:
            raise Refusal("accelerator.too_large", bytes=product.limbs * max(product.inner, product.outer))
        if self._accelerator.ahead > 1 and rows >= 2 * OVERLAPPED_ROWS:
            most = min(most, -(-rows // 2))
        for start in range(0, rows, most):
            yield slice(start, min(start + most, rows))

    def _send(self, work: LayerWork, product: Product, first: int, rows: slice) -> SentRequest:
        """Only sums with the mask are written out; scales stay here."""
        index, count = self._index(product), rows.stop - rows.start
        sent = SentRequest(product, rows, torch.empty(count, 1), self._secrets[product.number].room(count))
        request = self._accelerator.request(product, count)
        with self._timed("mask"):
            stream = self._stream(index, product, first + rows.start, count)
        self._write(work, sent, stream, request)
        self._accelerator.send(product, count)
        self.usage.bytes_out += product.limbs * count * product.inner
        return sent

    def _write(self, work: LayerWork, sent: SentRequest, stream: Packed, request: Packed) -> None:
        """Fill the request, `sent.scale` and `sent.claimed`."""
        product, secret = sent.product, self._secrets[sent.product.number]
        for block in blocks(len(sent.scale), product.inner):
            with self._timed("mask"):
                fixed, sent.scale[block] = self.quantise(work, product, within(sent.rows, block))
                mask(stream[block], fixed.numpy(), request[block], self._buffers)
            with self._timed("integrity"):
                sent.claimed[block] = secret.claimed(fixed, self._buffers)

    def _stream(self, index: PadIndex, product: Product, first: int, count: int) -> Packed:
        """(count, inner) residues to mask with, each once."""
        self._ledger.spend(index, first, count)
        return self._masks.words(index, first, count, product.inner, product.limbs)

    def _receive(self, work: LayerWork, sent: SentRequest, pads: Packed) -> None:
        """Add an answer to the result, and check it.

        Raises: `masking.wrong_product`.
        """
        product = sent.product
        with self._timed("wait"):
            answer = self._accelerator.answer()
        answered = self._read(work, sent, pads, answer)
        self.usage.bytes_back += product.limbs * len(sent.scale) * product.outer
        if not self._secrets[product.number].holds(sent.claimed, answered):
            where = {"layer": product.layer, "direction": product.direction}
            raise Refusal("masking.wrong_product", accelerator=self.accelerator, **where)

    def _read(self, work: LayerWork, sent: SentRequest, pads: Packed, answer: Packed) -> Tensor:
        """Add an answer to the result; give what its check sees."""
        product, secret = sent.product, self._secrets[sent.product.number]
        answered = secret.room(len(sent.scale))
        for block in blocks(len(sent.scale), product.outer):
            rows = within(sent.rows, block)
            with self._timed("mask"):
                exact = self._buffers.take("exact", (block.stop - block.start, product.outer), torch.int32)
                unmask(answer[block], pads[rows], exact.numpy(), self._buffers)
                self.deliver(work, product, rows, exact, sent.scale[block])
            with self._timed("integrity"):
                answered[block] = secret.answered(exact, self._buffers)
        return answered

    def _pads(self, product: Product, first: int, tokens: int) -> Packed:
        """(tokens, outer) pads of the tokens from `first` on: from the vault where all are there, or made
        inline."""
        index = self._index(product)
        with self._timed("mask"):
            kept = self._vault.take(index) if self._vault is not None and not first else None
        if kept is not None and kept[1] >= tokens:
            self.usage.pads_used += tokens
            return Packed.over(kept[0], kept[1], product.outer, product.limbs)
        self.usage.pads_inline += tokens
        with self._timed("inline"):
            weight = oriented(self._store.read(self._store.layers[product.layer]), product)
            made = self._make(index, product, weight, first, tokens)
        return Packed.over(made, tokens, product.outer, product.limbs)

    def _make(self, index: PadIndex, product: Product, weight: Tensor, first: int, tokens: int) -> bytearray:
        """r·Wᵀ for what `mask` adds to the features of these tokens: a piece of them in each thread."""
        made = bytearray(tokens * product.outer * product.limbs)
        pads = Packed.over(made, tokens, product.outer, product.limbs)
        size = min(PIECE_ROWS, max(OVERLAPPED_ROWS, -(-tokens // self._threads)))

        def make(start: int) -> None:
            rows = min(size, tokens - start)
            stream = self._masks.words(index, first + start, rows, product.inner, product.limbs)
            self._limbs.multiply(of_mask(stream), weight, pads[start : start + rows])

        list(self._pool.map(make, range(0, tokens, size)))
        return made

    def _index(self, product: Product) -> PadIndex:
        return PadIndex(self._round, self._step, product.number)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.usage.seconds[stage] += time.perf_counter() - started


def within(rows: slice, block: slice) -> slice:
    return slice(rows.start + block.start, rows.start + block.stop)
