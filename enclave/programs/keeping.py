"""What outlives a server enclave: its parameters and its last receipt, under the TEE's own sealing key.

The receipt of a round names the hash of the state that was sealed in it, so that state cannot contain its own
receipt. It contains the *draft*: the receipt without that one hash. Whoever opens the state fills in the hash
of the file that it opened and has the receipt again.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import msgspec

from enclave.attest.policy import Program
from enclave.errors import Refusal
from enclave.programs.contributions import MAX_PLAINTEXT_BYTES
from enclave.programs.identity import Identity
from enclave.programs.mailbox import BoundedBuffer, Filed, Mailbox
from enclave.programs.template import State, learn
from enclave.sealing.receipts import Receipt
from enclave.sealing.state import StateBinding, seal_state, unseal_state
from enclave.training.tensors import from_bytes, to_bytes

METADATA = "receipt"


@dataclass(frozen=True)
class Kept:
    """A receipt with its state: the sealed file (None where the TEE has no sealing key) and the
    parameters."""

    receipt: Receipt
    state: State
    sealed: Filed | None


def label(program: Program) -> str:
    """Which of the TEE's sealing keys is for this program's state."""
    return f"fedslice/{program.replace('_', '-')}-state/v1"


def keep(identity: Identity, mailbox: Mailbox, draft: Receipt, state: State) -> Kept:
    """Seal the state of this round and complete its receipt. On TDX there is no sealing key and nothing is
    kept."""
    key = identity.source.sealing_key(label(identity.program))
    if key is None:
        return Kept(draft, state, None)
    binding = StateBinding(identity.program, identity.manifest_hash, draft.round, draft.previous)
    plain = BytesIO(to_bytes(state, {METADATA: msgspec.to_builtins(draft)}))
    sealed = mailbox.outgoing(lambda file: seal_state(plain, file, key=key, binding=binding))
    return Kept(msgspec.structs.replace(draft, state=sealed.sha256), state, sealed)


def unkeep(identity: Identity, mailbox: Mailbox, sha256: str, template: State | None = None) -> Kept:
    """Open `in/<sha256>`, sealed by an earlier life of this program on this machine, for this manifest.

    The state must hold the tensors of `template`; without one, it shows them itself.

    Refuses with `state.unavailable`, `mailbox.*` or `sealing.refused`. Whether it is the latest is not known
    here.
    """
    key = identity.source.sealing_key(label(identity.program))
    if key is None:
        raise Refusal("state.unavailable")
    plain = BoundedBuffer(MAX_PLAINTEXT_BYTES)
    with mailbox.incoming(sha256) as file:
        opened = unseal_state(file, plain, key=key, program=identity.program, manifest=identity.manifest_hash)
    content = plain.getvalue()
    state, metadata = from_bytes(content, learn(content, identity.manifest) if template is None else template)
    draft = msgspec.convert(metadata[METADATA], Receipt)
    named = (opened.binding.manifest, opened.binding.round, opened.binding.receipt)
    if (draft.manifest, draft.round, draft.previous) != named:
        raise Refusal("sealing.refused")
    receipt = msgspec.structs.replace(draft, state=sha256)
    return Kept(receipt, state, Filed(sha256, opened.sealed.bytes))
