"""Registered is proven: a base model is loaded once, in a bounded child, before it is offered to anybody.

The child (`python -m enclave_host.proving`) looks at every file, every tensor and the tokenizer, and makes a
forward and a backward pass in each placement by the very code that the enclaves run. What it found is a
`contracts.model_proof.ModelProof`. Runs on the coordinator's side; everything it reads is public.
"""

from __future__ import annotations

from pathlib import Path

from contracts.manifest import Adapter
from contracts.model_proof import ModelProof, Way
from enclave_host.bounded import ChildLimits, run_bounded
from enclave_host.child_calls import PROVE, TRY_STUDY, Prove, Tell, TryStudy


def prove(
    folder: Path,
    task: str,
    *,
    targets: tuple[str, ...] = (),
    limits: ChildLimits | None = None,
    whole: int | None = None,
    tell: Tell | None = None,
) -> ModelProof:
    """Load the model in `folder` once and say what it is good for. `targets` are LoRA's instead of the usual;
    `whole` is up to how many bytes of float32 weights it is run whole (a third of the memory).

    Raises: `model.*` for what cannot be registered, and `child.*` where the child came to no end.
    """
    limits = limits or ChildLimits.of_this_machine()
    request = Prove(str(folder), task, targets, limits.memory // 3 if whole is None else whole)
    return run_bounded(PROVE, request, limits, tell)


def prove_study(
    folder: Path,
    proof: ModelProof,
    way: Way,
    adapter: Adapter,
    *,
    cut: int = 0,
    tokens: int,
    labels: int,
    limits: ChildLimits | None = None,
    whole: int | None = None,
    tell: Tell | None = None,
) -> None:
    """What a study is about to freeze: the files are still those that were proven, and exactly this adapter
    can be trained in this way, on this many tokens and labels.

    Raises: as `prove`, and `model.file_changed`.
    """
    limits = limits or ChildLimits.of_this_machine()
    request = TryStudy(
        folder=str(folder),
        task=proof.task,
        whole=limits.memory // 3 if whole is None else whole,
        files=proof.files,
        way=way,
        adapter=adapter,
        cut=cut,
        tokens=tokens,
        labels=labels,
    )
    run_bounded(TRY_STUDY, request, limits, tell)
