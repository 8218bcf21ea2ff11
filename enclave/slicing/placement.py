"""The placement `masked`: one call each to load a cut model, to put it to an accelerator, and to plan its
pads.

    prepared = open_prepared(folder, pin)                                # slicing.prepared
    cut = open_cut(HollowBase(model, spec), prepared, adapter, seed)     # slicing.cut
    # … the host starts `python -m enclave_host.accelerator` on folder …
    masked = offload(cut, channel_path, vault_folder, vault_bytes)
    masked.begin_round(3, shapes)          # the offline phase for the round's batches
    train(cut.model, …)                    # the loop knows nothing of all this
    masked.measures()                      # for the run page

Runs inside the enclave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from contracts.progress import Progress
from enclave.masking.channel import MaskedChannel
from enclave.masking.engine import LayerWork, QuantisedEngine
from enclave.masking.masked import MaskedEngine, Planned
from enclave.masking.masks import Masks
from enclave.masking.vault import Vault
from enclave.slicing.cut import Cut
from enclave.slicing.memory import peak_memory
from enclave.slicing.shape import Shape

if TYPE_CHECKING:
    from enclave.masking.accelerator import Accelerator

PROBE_ROWS, PROBE_TOKENS = 2, 8
VAULT_BYTES = 4 << 30
PASSES: str | None = "0a9ab4b55237f44b12acce96c16d72e57baa6548a5b6cbd8effb8b93b967b915"
"""SHA-256 of the library of passes in C that is loaded where a manifest asks for it; None: there is none."""


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
        self.public: frozenset[int] = frozenset()
        if cut.first:
            from enclave.slicing.behind import untouched

            self.public = frozenset(untouched(cut, probe.seen.keys()))

    def plan(self, shape: Shape) -> Planned:
        """The tokens of each product that has pads in a step of this shape."""
        tokens: Planned = {}
        for number, seen in self._seen.items():
            if number in self.public:
                continue
            if shape.backward or number not in self._backward:
                each_token = seen == PROBE_ROWS * PROBE_TOKENS
                tokens[number] = shape.rows * shape.tokens if each_token else shape.rows
        return tokens


class _Probe(QuantisedEngine):
    """Counts rows and gives zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, int] = {}

    def multiply(self, work: LayerWork) -> None:
        """See `QuantisedEngine.multiply`."""
        self.seen |= {product.number: len(work.features) for product in work.products}
        work.result.zero_()


class Masked:
    """A cut model on its accelerator; `accelerator` is how that calls itself, only for people."""

    def __init__(self, cut: Cut, engine: MaskedEngine, profile: Profile) -> None:
        self._cut, self._engine, self._profile = cut, engine, profile
        self._begun: tuple[int, tuple[Shape, ...], int] | None = None
        self._prepared = 0
        self.accelerator = engine.accelerator
        cut.attach(engine)

    def begin_round(
        self, round: int, shapes: Sequence[Shape] = (), report: Callable[[Progress], None] | None = None
    ) -> int:
        """Enter a round, and make the pads of its first batches: as many as the vault can hold.

        The others make theirs inline, when they come. `report` hears the estimate before the first pad is
        made, then layer by layer, with tokens in a second of CPU time. Asked again before a step was taken
        (the offline phase was done in idle time), it keeps what there is.

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
            facts = {"bytes": self._engine.estimate(plan), "batches": len(plan), "of_batches": len(shapes)}
            tokens, began = sum(s.rows * s.tokens for s in shapes[: len(plan)]), time.process_time()

            def tell(layers: int, of: int) -> None:
                if report is not None:
                    done, spent = tokens * layers // of, max(time.process_time() - began, 1e-9)
                    report(Progress("making pads", done, tokens, done / spent, **facts))

            self._engine.prepare(plan, tell)
        self._begun, self._prepared = asked, len(plan)
        return len(plan)

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
    engine: type[MaskedEngine] | None = None,
    native: bool = False,
) -> Masked:
    """Put a cut model to the accelerator whose channel file is given, with a fresh key and an empty vault.
    `engine` is another engine than this release's own (benchmarks compare); `native`: passes in C.

    Raises: `accelerator.bad_channel`, `masking.weights_changed` or `masking.no_passes`.
    """
    profile = Profile(cut)
    channel = MaskedChannel(accelerator) if isinstance(accelerator, Path) else accelerator
    masks = Masks()
    pads = Vault(vault, masks.derive("vault"), vault_bytes)
    kind: Any = engine or engine_of_release(native)
    if profile.public:
        from enclave.masking.in_clear import partly

        kind = partly(kind, profile.public)
    return Masked(cut, kind(cut.store, channel, pads, masks, repetitions=repetitions), profile)


def engine_of_release(native: bool) -> type[MaskedEngine]:
    """With its passes in C or without, as the manifest says: a host that lacks the library changes nothing.

    Raises: `masking.no_passes`.
    """
    if not native:
        return MaskedEngine
    from enclave.masking import native as passes

    return passes.engine(passes.installed(), PASSES)
