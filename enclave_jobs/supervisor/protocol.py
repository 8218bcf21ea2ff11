"""What the supervisor and its callers say to each other, in the frames of `enclave/programs/wire.py`.

The caller's first frame is `Greeting`; then it sends requests (`start`, `call`, `stop`, `list`, `room`,
`drain`, `forget`) and gets one `Reply` for each. A `call` with a `key` is done once, however often it is
asked for: whoever asks again waits for, or is handed, the same answer. Its reply is `{"done": {...}}`, or
`{"pending": true}` when the work outlasted the caller's `patience`: then the supervisor has the run's next
step sent when it is over (`conductor/telling.py`), and nobody waits.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from contracts.policy import Hex32, Program

PROTOCOL = 1
EnclaveId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
RunId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")]
Named = Annotated[str, Meta(max_length=64)]
Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9./-]{0,199}\Z")]


class Greeting(Struct, forbid_unknown_fields=True, frozen=True):
    """The caller proves with the shared token that it is one of ours."""

    token: Annotated[str, Meta(max_length=512)]
    protocol: int


class Start(Struct, forbid_unknown_fields=True, frozen=True):
    """Start an enclave; one of this id that was started already is left as it is. The reply is
    `{"ready": bool}`: false when starting outlasted the caller's `patience` (seconds)."""

    enclave: EnclaveId
    program: Program
    runtime: Annotated[str, Meta(max_length=32)]
    patience: Annotated[float, Meta(ge=0, le=600)] = 2.0


class Model(Struct, forbid_unknown_fields=True, frozen=True):
    """A base model whose files are to lie in the enclave's folder `model`: its source, and the names that the
    manifest pins."""

    source: Annotated[str, Meta(min_length=1, max_length=200)]
    files: Annotated[tuple[str, ...], Meta(min_length=1, max_length=200)]


class Call(Struct, forbid_unknown_fields=True, frozen=True):
    """Let an enclave carry out `op`. `inputs` are blobs to put into its mailbox before; `outputs` name
    fields of its result (`{sha256, bytes}`) whose files go into the blob store after. `run` and `key` make
    the answer outlive the caller, the enclave and the supervisor. `patience` is in seconds; `model` is put
    into the mailbox before. `about` are ids for the log (federation/logs.py), which prove nothing."""

    enclave: EnclaveId
    op: Annotated[str, Meta(pattern=r"^[a-z]{1,32}\Z")]
    args: dict[str, Any]
    inputs: tuple[Hex32, ...] = ()
    outputs: tuple[str, ...] = ()
    run: RunId | None = None
    key: Key | None = None
    patience: Annotated[float, Meta(ge=0, le=600)] = 30.0
    model: Model | None = None
    about: Annotated[dict[Named, Named], Meta(max_length=8)] = {}


class Stop(Struct, forbid_unknown_fields=True, frozen=True):
    """Stop an enclave; one that is gone already is no error."""

    enclave: EnclaveId


class Forget(Struct, forbid_unknown_fields=True, frozen=True):
    """Forget the kept answers of a run that is over."""

    run: RunId


class Drain(Struct, forbid_unknown_fields=True, frozen=True):
    """Whether new runs shall go elsewhere from now on, until this supervisor is started again."""

    draining: bool


class Room(Struct, frozen=True):
    """What a supervisor has to offer: free memory of its machine, runtimes, whether it is being drained, and
    the resident memory of each living enclave, in bytes."""

    free: int
    runtimes: tuple[str, ...]
    draining: bool
    enclaves: dict[str, int]


class Listing(Struct, forbid_unknown_fields=True, frozen=True):
    """Name every enclave and whether it lives."""
