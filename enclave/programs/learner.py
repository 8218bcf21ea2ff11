"""What a client slice learns with: the pinned base model with its adapter, and the site's rows, in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.round_kind import Kind
from enclave.programs.placements import Inside, Placement, weight_bytes
from enclave.programs.program import Report
from enclave.programs.throttle import throttle
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.training.data import Examples
from enclave.training.loop import TrainOutcome, evaluate, train
from enclave.training.metrics import Scores
from enclave.training.row_reader import Pin, encode, read_rows
from enclave.training.tensors import State

if TYPE_CHECKING:
    from enclave.programs.public_front import SiteFront
    from enclave.slicing.hollow import HollowBase
    from enclave.training.material import Material


@dataclass(frozen=True)
class Learner:
    """Model and data of one site for the life of a run. Every round starts from parameters that `start_from`
    has set, so that nothing of an abandoned round remains. Behind a public front `model` is a tail, and
    learns from the features that `front` has looked at."""

    manifest: Manifest
    site: str
    model: Any
    initial: State
    training: Examples
    validation: Examples
    test: Examples
    placement: Placement
    front: SiteFront | None = None

    def start_from(self, state: State | None) -> None:
        """Set the tuned parameters; None means those of the manifest's seed.

        Raises: `tensors.*`.
        """
        load_tuned_state(_named(self.model, self.manifest), self.initial if state is None else state)

    def require_right(self) -> None:
        """Raises: `front.*` while features that are not believed would be learnt from."""
        if self.front is not None:
            self.front.require_right()

    def get_ready(self, round: int, kind: Kind, report: Report) -> None:
        """What the placement does before a round: it makes the pads of all its batches.

        Raises: `slice.not_accelerated`.
        """
        self.placement.begin(self, round, kind, report)

    def evaluate(self, kind: Kind, report: Report) -> Scores:
        """Score the present parameters: on the site's test rows in a test, else on its validation rows."""
        labels, precision = len(self.manifest.model.labels), self.manifest.training.precision
        rows: Learner | SiteFront = self if self.front is None else self.front
        scored: Material = rows.test if kind == "test" else rows.validation
        how: dict[str, Any] = {"labels": labels, "precision": precision, "progress": throttle(report)}
        tables = kind == "test" and self.manifest.publication.cells > 0
        if tables or self.manifest.coded:
            from enclave.training.coded import evaluate_finely

            return evaluate_finely(self.model, scored, self.manifest, tables, **how)
        return evaluate(self.model, scored, **how)

    def train(self, round: int, report: Report) -> tuple[TrainOutcome, State]:
        """Train one round on the site's rows; returns the tuned parameters."""
        privacy, settings = self.manifest.aggregation.privacy, self.manifest.training
        learnt: Material = self.training if self.front is None else self.front.training
        if privacy is not None and privacy.unit == "record":
            from enclave.training.private import train_privately

            result = train_privately(self.model, self.training, settings, privacy, progress=throttle(report))
        else:
            result = train(
                self.model, learnt, settings, round=round, site=self.site, progress=throttle(report)
            )
        return result, tuned_state(_named(self.model, self.manifest))


def load_learner(
    manifest: Manifest,
    site: str,
    model_folder: Path,
    dataset: Path,
    key: bytes,
    mailbox_folder: Path | None = None,
    features: Path | None = None,
) -> Learner:
    """Read the base model (every file against its pinned hash) and the rows (against the manifest's digest,
    by the site's dataset `key`). `mailbox_folder` is the mailbox's folder, in which lies what tuning starts
    from, and, for the placement `masked`, the accelerator finds the public int8 weights. Behind a public
    front `features` are what the host has computed of the rows.

    Raises: `model.*`, `slicing.*`, `masking.*`, `adapter.*`, `rows.*`, `front.*`, `start.*` or
    `slice.no_file`.
    """
    if not dataset.is_file():
        raise Refusal("slice.no_file")
    if (manifest.front is None) != (features is None):
        raise Refusal("front.no_features")
    approved = manifest.site(site).dataset
    rows = read_rows(dataset, manifest.model, approved.kind, Pin(approved, key))
    opened = _open(manifest, model_folder, mailbox_folder)
    if manifest.model.start or manifest.aggregation.rule == "ffa-lora":
        from enclave.slicing.beginning import begin

        begin(_named(opened.model, manifest), manifest, mailbox_folder)
    if manifest.training.activations:
        from enclave.slicing.checkpointed import compute_again

        compute_again(opened.model)
    training, validation, test = (
        replace(encode(part, opened.tokenizer, manifest.model), at_once=manifest.training.at_once or 0)
        for part in (rows.train, rows.validation, rows.test)
    )
    front = None
    if manifest.front is not None and features is not None and opened.base is not None:
        from enclave.programs.public_front import open_front

        front = open_front(manifest.front, opened.base, features, (training, validation, test), key)
    initial = tuned_state(_named(opened.model, manifest))
    parts = (opened.model, initial, training, validation, test, opened.placement, front)
    if not manifest.publication.written_rows:
        return Learner(manifest, site, *parts)
    from enclave.programs.writing_learner import with_writer

    return with_writer(Learner(manifest, site, *parts), opened.tokenizer, key)


class _Opened(NamedTuple):
    """The model with its adapter, the tokenizer, where the frozen layers are multiplied, and, unless all of
    the model is here, the base that it was taken from."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    placement: Placement
    base: HollowBase | None = None


def _open(manifest: Manifest, folder: Path, mailbox_folder: Path | None) -> _Opened:
    spec = manifest.model
    if manifest.masking is not None:
        if mailbox_folder is None:
            raise Refusal("manifest.invalid", fault="a client slice has no part in method-2")
        from enclave.programs.offloaded import open_offloaded  # masking: loaded by no other placement

        model, base, placement = open_offloaded(manifest, folder, mailbox_folder)
        return _Opened(model, base.tokenizer, placement, base)
    if manifest.front is not None:
        from enclave.programs.public_front import tuned_tail

        tail, base = tuned_tail(manifest, folder)
        return _Opened(tail, base.tokenizer, Inside(weight_bytes(folder, spec)), base)
    from enclave.slicing.models import load_tuned  # all of it: by no other placement

    return _Opened(*load_tuned(folder, manifest), Inside(weight_bytes(folder, spec)))


def _named(model: Any, manifest: Manifest) -> Any:
    """What has the tuned parameters under their names in the whole model: behind a public front, what is left
    of it."""
    return model if manifest.front is None else model.model
