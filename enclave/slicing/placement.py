"""The placement `masked`: one call each to load a cut model, to put it to an accelerator, and to plan its
pads.

    opened = open_cut(folder, manifest.model, manifest.adapter, seed, store_folder)     # slicing.cut
    # … the host starts `python -m enclave_host.accelerator` on store_folder …
    masked = offload(opened.cut, channel_path, vault_folder, vault_bytes)
    masked.begin_round(3, shapes)          # the offline phase for the round's batches
    train(opened.cut.model, …)             # the loop knows nothing of all this
    masked.measures()                      # for the run page

Runs inside the enclave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from contracts.architecture.numbering import layer_of
from enclave.masking.channel import MaskedChannel
from enclave.masking.engine import LayerWork, QuantisedEngine
from enclave.masking.layers import FrozenLayer, Product
from enclave.masking.masked import Accelerator, MaskedEngine, Planned
from enclave.masking.masks import Masks
from enclave.masking.vault import Vault
from enclave.slicing.cut import Cut
from enclave.slicing.memory import peak_memory
from enclave.slicing.shape import Shape

PROBE_ROWS, PROBE_TOKENS = 2, 8
VAULT_BYTES = 4 << 30


@dataclass(frozen=True)
class Preparation:
    """How far the offline phase of a round is: `layers` of `of_layers`. It makes the pads of the first
    `batches` of `of_batches`: `bytes` on the host's disk."""

    layers: int
    of_layers: int
    batches: int
    of_batches: int
    bytes: int


PrepareReport = Callable[[Preparation], None]


class Profile:
    """How many tokens each product of a cut model sees for a batch of a given shape, and which products are
    `public`: they see what no tuned parameter has touched. Learnt by one pass with zeros for products;
    nothing leaves the enclave."""

    def __init__(self, cut: Cut) -> None:
        probe = _Probe()
        cut.attach(probe)
        training = cut.model.training
        cut.model.eval()
        with torch.random.fork_rng(devices=[]):
            cut.model(**cut.blank(PROBE_ROWS, PROBE_TOKENS)).logits.sum().backward()
        cut.model.zero_grad(set_to_none=True)
        cut.model.train(training)
        self._seen = probe.seen
        self._backward = {p.number for group in cut.groups for p in group.layer.backward}
        self.public = frozenset(_public(cut, probe.seen.keys()))

    def plan(self, shape: Shape) -> Planned:
        """The tokens of each product that has pads in a step of this shape."""
        tokens = {}
        for number, seen in self._seen.items():
            if number in self.public:
                continue
            if shape.backward or number not in self._backward:
                each_token = seen == PROBE_ROWS * PROBE_TOKENS
                tokens[number] = shape.rows * shape.tokens if each_token else shape.rows
        return Planned(tokens)


def _public(cut: Cut, seen: Set[int]) -> Iterator[int]:
    """In the first layer behind a public front, the products of layers whose input needed no gradient:
    frozen norms of features apart, it is what the host has handed in."""
    for layer in (group.layer for group in cut.groups if cut.first):
        untouched = seen.isdisjoint(product.number for product in layer.backward)
        if untouched and layer_of(layer.name) == cut.first:
            yield from (product.number for product in layer.forward)


class _Probe(QuantisedEngine):
    """Counts rows and gives zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, int] = {}

    def forward(self, layer: FrozenLayer, features: Tensor) -> Tensor:
        return self._zeros(layer.forward, features, layer.outputs)

    def backward(self, layer: FrozenLayer, gradient: Tensor) -> Tensor:
        return self._zeros(layer.backward, gradient, layer.inputs)

    def multiply(self, work: LayerWork) -> None:
        raise AssertionError("the probe multiplies nothing")

    def _zeros(self, products: tuple[Product, ...], features: Tensor, width: int) -> Tensor:
        self.seen |= {product.number: len(features) for product in products}
        return torch.zeros(len(features), width)


class Masked:
    """A cut model on its accelerator."""

    def __init__(self, cut: Cut, engine: MaskedEngine, profile: Profile) -> None:
        self._cut, self._engine, self._profile = cut, engine, profile
        self._begun: tuple[int, tuple[Shape, ...], int] | None = None
        self._prepared = 0
        cut.attach(engine)

    def estimate(self, shapes: Sequence[Shape]) -> int:
        """Bytes of disk that the pads of these batches take."""
        return self._engine.estimate([self._profile.plan(shape) for shape in shapes])

    def begin_round(
        self,
        round: int,
        shapes: Sequence[Shape] = (),
        report: PrepareReport | None = None,
    ) -> int:
        """Enter a round, and make the pads of its first batches: as many as the vault can hold.

        The others make theirs inline, when they come. `report` hears the estimate before the first pad is
        made, then layer by layer. Asked again before a step was taken (the offline phase was done in idle
        time), it keeps what there is.

        Returns: for how many.
        """
        asked = (round, tuple(shapes), self._engine.usage.steps)
        if asked == self._begun:
            return self._prepared
        self._begun = None
        self._engine.enter_round(round)
        plan, left = [], self._engine.room()
        for step in map(self._profile.plan, shapes):
            left -= self._engine.estimate([step])
            if left < 0:
                break
            plan.append(step)
        if plan:
            told = (len(plan), len(shapes), self._engine.estimate(plan))
            self._engine.prepare(plan, report and (lambda done, of: report(Preparation(done, of, *told))))
        self._begun, self._prepared = asked, len(plan)
        return len(plan)

    @property
    def accelerator(self) -> str:
        """How the accelerator calls itself; only for people."""
        return self._engine.accelerator

    def measures(self) -> dict[str, int | float]:
        """Counters since the start, pads left, and the highest memory use of this process in bytes."""
        kept = {"pads_left": self._engine.pads_left(), "peak_memory": peak_memory()}
        return self._engine.usage.summary() | kept


def offload(
    cut: Cut,
    accelerator: Path | Accelerator,
    vault: Path,
    *,
    vault_bytes: int = VAULT_BYTES,
    repetitions: int = 1,
    timeout: float = 60.0,
) -> Masked:
    """Put a cut model to the accelerator whose channel file is given, with a fresh key and an empty vault.

    Raises: `accelerator.bad_channel` or `masking.weights_changed`.
    """
    profile = Profile(cut)
    channel = MaskedChannel(accelerator, timeout=timeout) if isinstance(accelerator, Path) else accelerator
    masks = Masks()
    pads = Vault(vault, masks.derive("vault"), vault_bytes)
    engine = MaskedEngine(cut.store, channel, pads, masks, repetitions=repetitions, public=profile.public)
    return Masked(cut, engine, profile)
