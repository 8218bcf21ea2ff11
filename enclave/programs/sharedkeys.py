"""The key of a split server's state in a TEE without a sealing key: drawn, and held by the sites in shares
(docs/decisions/0012).

Each site tells the enclave, in what it seals to it, the key that its shares are to be wrapped for, and after
a restart the share that it held. Everything here runs inside the enclave.
"""

from __future__ import annotations

import secrets

from contracts.counting import known_to_all
from contracts.refusal import Refusal
from contracts.sealed.escrow import KEY_BYTES, Escrow
from contracts.sealed.shares import combine, deposit, require_of, threshold_in
from enclave.programs.identity import Identity
from enclave.programs.statekeys import StateKeys


class SharedKeys(StateKeys):
    """One instance's keys. State is kept from the round on in which enough sites have given the keys that
    their shares are wrapped for. Only a site that every member has confirmed holds any: a made-up one holds
    none.

    An instance that was restored draws a key of its own: the host could have made up the state that it
    brings, and know its key. Whether it did, the sites tell (enclave/programs/naming.py)."""

    def __init__(self, identity: Identity) -> None:
        """Raises: `state.no_shares` where the manifest lets nobody hold any."""
        super().__init__(identity)
        self._manifest, self._threshold = identity.manifest, threshold_in(identity.manifest)
        self._holders = known_to_all(identity.approvals)
        self._drawn: bytes | None = None
        self._receivers: dict[str, str] = {}
        self._returned: dict[str, bytes] = {}

    def meet(self, site: str, receiver: str | None, share: bytes | None) -> None:
        """What a site has sealed to this enclave: where its shares go, and the share that it hands back."""
        if receiver is not None and site in self._holders:
            self._receivers[site] = receiver
        if share is not None:
            self._returned[site] = share

    def to_seal(self) -> tuple[bytes, Escrow | None] | None:
        """The drawn key and its shares; None as long as too few sites can hold one."""
        if len(self._receivers) < self._threshold:
            return None
        if self._drawn is None:
            self._drawn = secrets.token_bytes(KEY_BYTES)
        return self._drawn, deposit(self._drawn, self._receivers, self._threshold, self._manifest.hash)

    def to_open(self, escrow: Escrow | None) -> bytes:
        """The key of a state with this escrow, which must be as the manifest says: what the host brings
        decides nothing.

        Raises: `state.unavailable`, `state.no_shares` or `shares.*`.
        """
        if escrow is None:
            raise Refusal("state.unavailable")
        require_of(escrow, self._manifest, self._threshold)
        return combine(self._returned, self._threshold, escrow.commitment)
