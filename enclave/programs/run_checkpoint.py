"""What outlives a server enclave: its parameters and its last receipt, sealed (statekeys.py tells the key).

The receipt of a round names the hash of the state that was sealed in it, so that state cannot contain its own
receipt. It contains the *draft*: the receipt without that one hash. Whoever opens the state fills in the hash
of the file that it opened and has the receipt again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.receipts import Receipt
from contracts.refusal import Refusal
from contracts.round_kind import kind_of
from contracts.sealed.container import FileRef
from contracts.sealed.state import StateBinding, read_escrow, seal_state, unseal_state
from enclave.programs.identity import Identity
from enclave.programs.mailbox import MAX_PLAINTEXT_BYTES, BoundedBuffer, Mailbox
from enclave.programs.statekeys import StateKeys
from enclave.programs.template import BEST, has, learn
from enclave.training.tensors import FIRST, SECOND, State, as_file, from_bytes

Pins = Mapping[str, str]
"""Site id -> hash of the features that it has first trained with; empty in Method 1."""


class _Beside(Struct, frozen=True, forbid_unknown_fields=True):
    """What is sealed with the parameters: the draft of the receipt, and the pins."""

    receipt: Receipt
    pins: dict[Identifier, Hex32]


@dataclass(frozen=True)
class RunCheckpoint:
    """A receipt with its state: the sealed file (None where there is no key to seal it under), the
    parameters, and the best round's where training goes on; `pins` are the hashes of the sites' features
    that were used so far, `moments` are those of the server's optimizer."""

    receipt: Receipt
    state: State
    sealed: FileRef | None
    best: State | None = None
    pins: Pins = field(default_factory=dict)
    moments: State = field(default_factory=dict)


def save_checkpoint(
    identity: Identity,
    mailbox: Mailbox,
    keys: StateKeys,
    draft: Receipt,
    state: State,
    best: State | None,
    pins: Pins,
    moments: State,
) -> RunCheckpoint:
    """Seal the state of this round and complete its receipt. Without a key for it nothing is kept."""
    found = keys.to_seal()
    if found is None:
        return RunCheckpoint(draft, state, None, best, pins, moments)
    key, escrow = found
    binding = StateBinding(identity.program, identity.manifest_hash, draft.round, draft.previous)
    both = state | {BEST + name: tensor for name, tensor in (best or {}).items()} | moments
    plain = as_file(both, msgspec.to_builtins(_Beside(draft, dict(pins))))
    sealed = mailbox.outgoing(lambda file: seal_state(plain, file, key=key, binding=binding, escrow=escrow))
    return RunCheckpoint(
        msgspec.structs.replace(draft, state=sealed.sha256), state, sealed, best, pins, moments
    )


def load_checkpoint(
    identity: Identity, mailbox: Mailbox, keys: StateKeys, sha256: str, template: State | None = None
) -> RunCheckpoint:
    """Open `in/<sha256>`, sealed by an earlier instance of this program, for this manifest: on this
    machine, or anywhere with the sites' shares.

    The state must hold the tensors of `template`; without one, it shows them itself.

    Whether it is the latest is not known here.

    Raises: `state.unavailable`, `shares.*`, `mailbox.*` or `sealing.refused`.
    """
    with mailbox.incoming(sha256) as file:
        escrow = read_escrow(file)
    key = keys.to_open(escrow)
    plain = BoundedBuffer(MAX_PLAINTEXT_BYTES)
    with mailbox.incoming(sha256) as file:
        opened = unseal_state(file, plain, key=key, program=identity.program, manifest=identity.manifest_hash)
    content = plain.getvalue()
    template = learn(content, identity.manifest) if template is None else template
    marks = [mark for mark in (BEST, FIRST, SECOND) if has(content, mark)]
    marked = {mark + name: tensor for mark in marks for name, tensor in template.items()}
    both, metadata = from_bytes(content, template | marked)
    state = {name: both[name] for name in template}
    best = {name: both[BEST + name] for name in template} if BEST in marks else None
    moments = {name: tensor for name, tensor in both.items() if name.startswith((FIRST, SECOND))}
    try:
        beside = msgspec.convert(metadata, _Beside)
    except msgspec.ValidationError as error:
        raise Refusal("sealing.refused") from error
    draft = beside.receipt
    named = (opened.binding.manifest, opened.binding.round, opened.binding.receipt)
    if (draft.manifest, draft.round, draft.previous) != named:
        raise Refusal("sealing.refused")
    receipt = msgspec.structs.replace(draft, state=sha256)
    optimizer = identity.manifest.aggregation.optimizer
    expected = [BEST] * (draft.best is not None) + [FIRST] * (optimizer is not None)
    expected += [SECOND] * (optimizer is not None and optimizer.tau is not None)
    if marks != expected * (kind_of(identity.manifest, draft.round) == "update"):
        raise Refusal("sealing.refused")
    return RunCheckpoint(receipt, state, FileRef(sha256, opened.sealed.bytes), best, beside.pins, moments)
