"""The key that a server enclave's state is sealed under: its TEE's own. Where there is none, a server keeps
no state, unless the sites hold shares of a drawn key (enclave/programs/sharedkeys.py)."""

from __future__ import annotations

from contracts.policy import Program
from contracts.refusal import Refusal
from contracts.sealed.escrow import Escrow
from enclave.programs.identity import Identity


class StateKeys:
    """One instance's key, which is the same in each instance of the program on its machine."""

    def __init__(self, identity: Identity) -> None:
        self.own = identity.source.sealing_key(label(identity.program))

    def meet(self, site: str, receiver: str | None, share: bytes | None) -> None:
        """Nobody holds shares of this key.

        Raises: `state.no_shares` where a site says so.
        """
        if receiver is not None or share is not None:
            raise Refusal("state.no_shares")

    def to_seal(self) -> tuple[bytes, Escrow | None] | None:
        """The key; None where there is none to seal under."""
        return None if self.own is None else (self.own, None)

    def to_open(self, escrow: Escrow | None) -> bytes:
        """The key of a state with this escrow.

        Raises: `state.unavailable` or `state.no_shares`.
        """
        if escrow is not None:
            raise Refusal("state.no_shares")
        if self.own is None:
            raise Refusal("state.unavailable")
        return self.own


def label(program: Program) -> str:
    """Which of the TEE's sealing keys is for this program's state."""
    return f"fedslice/{program.replace('_', '-')}-state/v1"
