"""What a bounded child is asked, and what it says: one struct each, which both sides read strictly.

Neither side believes the other's words more than their form: the child reads strangers' files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from msgspec import UNSET, Raw, Struct, UnsetType

from contracts.kinds import Task
from contracts.manifest import Lora, Prefix, Spf
from contracts.model_proof import ModelProof, Way
from contracts.policy import Hex32
from contracts.program_calls import Nothing
from contracts.refusal import Fact

A = TypeVar("A", bound=Struct)
R = TypeVar("R", bound=Struct)


class ChildCall(NamedTuple, Generic[A, R]):
    """`python -m MODULE`, the struct of its request, and that of its result."""

    module: str
    request: type[A]
    result: type[R]


class ChildBounds(Struct, frozen=True, forbid_unknown_fields=True):
    """`memory` and `disk` in bytes, `cpu` in seconds."""

    memory: int
    disk: int
    cpu: int


class ChildProgress(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A stage, how far it is, and which way of training or which file it is about."""

    stage: str
    done: int = 0
    of: int = 0
    way: str = ""
    file: str = ""


class ChildRefused(Struct, frozen=True, forbid_unknown_fields=True):
    """A code of the catalogue, with its facts."""

    code: str
    facts: dict[str, Fact]


class ChildLine(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of the child: one of the three."""

    progress: ChildProgress | UnsetType = UNSET
    refused: ChildRefused | UnsetType = UNSET
    result: Raw | UnsetType = UNSET


Tell = Callable[[ChildProgress], None]


class Prove(Struct, frozen=True, forbid_unknown_fields=True):
    """Load the model in a folder. `targets` are LoRA's instead of the usual; `whole` is up to how many bytes
    of float32 weights it is run whole."""

    folder: str
    task: str
    targets: tuple[str, ...]
    whole: int


class TryStudy(Struct, frozen=True, forbid_unknown_fields=True):
    """Train one step of exactly this; `files` are those that were proven (SHA-256 by name)."""

    folder: str
    task: str
    whole: int
    files: dict[str, str]
    way: Way
    adapter: Lora | Prefix | Spf
    cut: int
    tokens: int
    labels: int


class Prepare(Struct, frozen=True, forbid_unknown_fields=True):
    """Prepare the model in `folder`, whose `files` have these SHA-256, and write it to the new folder
    `into`."""

    folder: str
    files: dict[str, str]
    task: Task
    into: str


class Prepared(Struct, frozen=True, forbid_unknown_fields=True):
    """The SHA-256 of the index."""

    index: Hex32


class Unpickle(Struct, frozen=True, forbid_unknown_fields=True):
    """Read each pickled file and write what it holds as safetensors: pairs of old and new."""

    files: tuple[tuple[str, str], ...]


PROVE = ChildCall("enclave_host.proving", Prove, ModelProof)
TRY_STUDY = ChildCall("enclave_host.proving.trying", TryStudy, Nothing)
PREPARE = ChildCall("enclave_host.preparing", Prepare, Prepared)
UNPICKLE = ChildCall("enclave_host.converting", Unpickle, Nothing)
