"""Register a base model: prove it in a bounded child, and tell the control plane, which loads no models."""

from __future__ import annotations

from enclave_host.base_models import resolve
from enclave_host.child_calls import Tell
from enclave_host.proving import prove
from federation.studies.models import BaseModel
from federation.studies.services import register_base_model


def register(
    source: str,
    task: str,
    *,
    name: str = "",
    targets: tuple[str, ...] = (),
    tell: Tell | None = None,
) -> BaseModel:
    """Fetch the model where it is not here, load it once, and offer it to studies. `targets` are LoRA's
    where they shall not be the usual ones.

    Raises: a `model.*` or `child.*` code.
    """
    proof = prove(resolve(source), task, targets=targets, tell=tell)
    return register_base_model(source, proof, name or source.rpartition(":")[2])
