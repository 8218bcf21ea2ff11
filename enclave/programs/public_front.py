"""What a client slice believes of the features that its host has computed in clear.

It commits to all of them, and the aggregator answers that it holds the site to that and how often the site
has begun. Only then a sample is drawn, from the enclave's own randomness, once in an instance, and computed
again by the front's layers, each read when its turn comes. Nothing is trained on or scored before all of
the sample was right. Runs inside the client slice; one without a public front loads none of it."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from torch import nn

from contracts.architecture.front import require_layer
from contracts.commitment import commitment
from contracts.manifest import Lora, Manifest, PublicFront
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.programs.program import Report
from enclave.slicing.adapters import adapt
from enclave.slicing.halves import streamed_front, tail_of
from enclave.slicing.hollow import HollowBase
from enclave.slicing.recomputed import differing
from enclave.slicing.skeleton import Base
from enclave.slicing.split import Tail, feature_bound_of
from enclave.training.data import Examples
from enclave.training.handed import FeatureRows, HandedFeatures


def tuned_tail(manifest: Manifest, folder: Path) -> tuple[Tail, Base]:
    """For the placement `all_in_tee`: what stands behind the public front, with its adapter, and the base
    that it was taken from.

    Raises: `model.*`, `slicing.*`, `split.*`, `adapter.*` or `front.no_layer`; `manifest.invalid`.
    """
    front, adapter = manifest.front, manifest.adapter
    if front is None or not isinstance(adapter, Lora):
        raise Refusal("manifest.invalid", fault="a public front goes with LoRA")
    base = Base(folder, manifest.model)
    require_layer(base.config.num_hidden_layers, front.first)
    tail = tail_of(base, front.first)
    adapt(tail.model, adapter, manifest.training.seed, front.first)
    return tail, base


def open_front(
    settings: PublicFront,
    base: HollowBase,
    file: Path,
    examples: tuple[Examples, Examples, Examples],
    key: bytes,
) -> SiteFront:
    """The features in `file` of the training, validation and test rows, in this order; `key` is that of the
    site's dataset digests.

    Raises: `slicing.*`, `split.*` or `front.*`.
    """
    whole = base if isinstance(base, Base) else Base(base.folder, base.spec)  # a masked slice has no weights
    layers = streamed_front(whole, settings.first)
    features = HandedFeatures(
        file,
        [length for part in examples for length in part.lengths],
        base.config.hidden_size,
        feature_bound_of(layers),
    )
    return SiteFront(settings.sample, layers, features, examples, key)


class SiteFront:
    """A site's features in this instance: what its tail learns, and what it scores, in a test and else."""

    def __init__(
        self,
        sample: int,
        layers: nn.Module,
        features: HandedFeatures,
        examples: tuple[Examples, Examples, Examples],
        key: bytes,
    ) -> None:
        training, validation, test = examples
        self._sample, self._layers, self._features = sample, layers, features
        self.commitment = commitment(features.hashes, key)
        self.training = FeatureRows(training, features, 0)
        self.validation = FeatureRows(validation, features, len(training))
        self.test = FeatureRows(test, features, len(training) + len(validation))
        self._drawn: dict[str, list[int]] = {}
        self._found: Literal["nothing", "right", "wrong"] = "nothing"

    def require_right(self) -> None:
        """Raises: `front.not_held` before the sample was computed again, and for the rest of this instance
        with `front.wrong_features` where it was wrong.
        """
        if self._found == "wrong":
            raise Refusal("front.wrong_features")
        if self._found == "nothing":
            raise Refusal("front.not_held")

    def look(self, begun: int, report: Report) -> None:
        """Compute the sample again, as many times the manifest's number of rows as the site has `begun`, so
        that beginning again buys nothing. What was broken off is done again with the same rows; what has a
        verdict keeps it.

        Raises: `front.wrong_features` or `front.changed`.
        """
        if self._found == "nothing":
            parts = {"training": self.training, "validation": self.validation, "test": self.test}
            if not self._drawn:
                self._drawn = {name: self._draw(len(part), begun) for name, part in parts.items()}
            rows = {part.first + row for name, part in parts.items() for row in self._drawn[name]}
            given = self._features.scan(rows)
            total, before, wrong = len(rows), 0, 0
            for name, part in parts.items():

                def tell(done: int, before: int = before) -> None:
                    report(Progress("looking at features", before + done, total))

                own = {row: given[part.first + row] for row in self._drawn[name]}
                wrong += len([*differing(self._layers, part.examples, own, tell)])
                before += len(own)
            self._found = "wrong" if wrong else "right"
        self.require_right()

    def _draw(self, rows: int, begun: int) -> list[int]:
        return secrets.SystemRandom().sample(range(rows), min(rows, self._sample * begun))
