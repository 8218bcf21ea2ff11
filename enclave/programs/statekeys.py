"""The key that a server enclave's state is sealed under: the TEE's own, or a drawn one that the sites hold in
shares (DESIGN.md, decision 12).

Each site tells the enclave, in what it seals to it, the key that its shares are to be wrapped for, and after
a restart the share that it held. Everything here runs inside the enclave.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from contracts.policy import Program
from contracts.refusal import Refusal
from contracts.sealed.shares import KEY_BYTES, Escrow, combine, deposit, threshold_of
from enclave.programs.identity import Identity

if TYPE_CHECKING:  # only a server that serves takes shares back
    from contracts.sealed.handback import HandedBack


class StateKeys:
    """One life's keys. Without a sealing key, state is kept from the round on in which enough sites have
    given the keys that their shares are wrapped for.

    A life that was restored draws a key of its own: the host could have made up the state that it brings, and
    know its key. (Whether it did, the sites tell: see the guard in contracts/sealed/state.py.)
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._own = identity.source.sealing_key(label(identity.program))
        self._drawn: bytes | None = None
        self._receivers: dict[str, str] = {}
        self._returned: dict[str, bytes] = {}
        self._named: dict[str, str] = {}

    @property
    def escrowed(self) -> bool:
        """Whether the sites' shares are needed, for this TEE has no sealing key."""
        return self._own is None

    def meet(self, site: str, receiver: str | None, share: bytes | None) -> None:
        """What a site has sealed to this enclave: where its shares go, and the share that it hands back."""
        if receiver is not None:
            self._receivers[site] = receiver
        if share is not None:
            self._returned[site] = share

    def hand_back(self, site: str, told: HandedBack) -> None:
        """A share that came back for serving, with the receipt that its site has seen last."""
        self._returned[site] = told.share
        self._named[site] = told.receipt

    def is_named(self, receipt: str) -> bool:
        """Whether enough sites have named this receipt as the last: as many as make the key."""
        return sum(named == receipt for named in self._named.values()) >= self._threshold

    @property
    def _threshold(self) -> int:
        manifest = self._identity.manifest
        return threshold_of(manifest.aggregation.quorum, len(manifest.sites))

    def to_seal(self) -> tuple[bytes, Escrow | None] | None:
        """The key, and its shares where it is a drawn one; None where too few sites can hold one."""
        if self._own is not None:
            return self._own, None
        if len(self._receivers) < self._threshold:
            return None
        if self._drawn is None:
            self._drawn = secrets.token_bytes(KEY_BYTES)
        escrow = deposit(self._drawn, self._receivers, self._threshold, self._identity.manifest_hash)
        return self._drawn, escrow

    def to_open(self, escrow: Escrow | None) -> bytes:
        """The key of a state with this escrow. Refuses with `state.unavailable` or `shares.*`."""
        if escrow is not None:
            return combine(self._returned, escrow.threshold, escrow.commitment)
        if self._own is None:
            raise Refusal("state.unavailable")
        return self._own


def label(program: Program) -> str:
    """Which of the TEE's sealing keys is for this program's state."""
    return f"fedslice/{program.replace('_', '-')}-state/v1"
