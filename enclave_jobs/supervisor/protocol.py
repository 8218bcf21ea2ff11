"""What the supervisor and its callers say to each other, in the frames of `enclave/programs/wire.py`.

The caller's first frame is `Greeting`; then it sends requests, the calls at the end of this file, and gets
one `Reply` for each: a struct for the arguments and one for the result, both read strictly. A `call` with a
`key` is done once, however often it is asked for: whoever asks again waits for, or is handed, the same
answer. Its result is not there when the work outlasted the caller's `patience`: then the supervisor has the
run's next step sent when it is over (`conductor/telling.py`), and nobody waits.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

from contracts.policy import Hex32, Program
from contracts.program_calls import Call, Nothing

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
    """Start an enclave; one of this id that was started already is left as it is."""

    enclave: EnclaveId
    program: Program
    runtime: Annotated[str, Meta(max_length=32)]
    patience: Annotated[float, Meta(ge=0, le=600)] = 2.0


class Started(Struct, forbid_unknown_fields=True, frozen=True):
    """Whether the enclave can be called: false when starting outlasted the caller's `patience` (seconds)."""

    ready: bool


class Model(Struct, forbid_unknown_fields=True, frozen=True):
    """A base model whose files are to lie in the enclave's folder `model`: its source, and the names that the
    manifest pins."""

    source: Annotated[str, Meta(min_length=1, max_length=200)]
    files: Annotated[tuple[str, ...], Meta(min_length=1, max_length=200)]


class EnclaveCall(Struct, forbid_unknown_fields=True, frozen=True):
    """Let an enclave carry out `op` with `args`, JSON that its program reads as the struct of that operation
    (contracts/program_calls.py); the supervisor passes it on. `inputs` are blobs to put into its mailbox
    before; `outputs` name fields of its result (a `FileRef`) whose files go into the blob store after. `run`
    and `key` make the answer outlive the caller, the enclave and the supervisor. `patience` is in seconds;
    `model` is put into the mailbox before. `about` are ids for the log (federation/logs.py), which prove
    nothing."""

    enclave: EnclaveId
    op: Annotated[str, Meta(pattern=r"^[a-z]{1,32}\Z")]
    args: Raw
    inputs: tuple[Hex32, ...] = ()
    outputs: tuple[str, ...] = ()
    run: RunId | None = None
    key: Key | None = None
    patience: Annotated[float, Meta(ge=0, le=600)] = 30.0
    model: Model | None = None
    about: Annotated[dict[Named, Named], Meta(max_length=8)] = {}


class CallDone(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """The JSON of the operation's result, which the caller reads as its struct; empty while it is at work."""

    result: Raw = Raw()


class Stop(Struct, forbid_unknown_fields=True, frozen=True):
    """Stop an enclave; one that is gone already is no error."""

    enclave: EnclaveId


class Forget(Struct, forbid_unknown_fields=True, frozen=True):
    """Forget the kept answers of a run to these keys; without keys to all, as the run is over."""

    run: RunId
    keys: tuple[Key, ...] = ()


class Drain(Struct, forbid_unknown_fields=True, frozen=True):
    """Whether new runs shall go elsewhere from now on, until this supervisor is started again."""

    draining: bool


class Room(Struct, forbid_unknown_fields=True, frozen=True):
    """What a supervisor has to offer: free memory of its machine, runtimes, whether it is being drained, and
    the resident memory of each living enclave, in bytes."""

    free: int
    runtimes: tuple[str, ...]
    draining: bool
    enclaves: dict[str, int]


class RunningEnclave(Struct, forbid_unknown_fields=True, frozen=True):
    """An enclave that was started and not stopped; resident memory now and at its highest, in bytes."""

    enclave: str
    program: Program
    alive: bool
    pid: int | None
    memory: int
    peak: int


class Listing(Struct, forbid_unknown_fields=True, frozen=True):
    """Every enclave of a supervisor."""

    enclaves: tuple[RunningEnclave, ...]


START = Call("start", Start, Started)
CALL = Call("call", EnclaveCall, CallDone)
STOP = Call("stop", Stop, Nothing)
FORGET = Call("forget", Forget, Nothing)
ROOM = Call("room", Nothing, Room)
DRAIN = Call("drain", Drain, Nothing)
LIST = Call("list", Nothing, Listing)
