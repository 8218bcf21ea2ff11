"""The key that a server enclave's state is sealed under: the TEE's own, or a drawn one that the sites hold in
shares (DESIGN.md, decision 12).

Each site tells the enclave, in what it seals to it, the key that its shares are to be wrapped for, and after
a restart the share that it held. Everything here runs inside the enclave.
"""

from __future__ import annotations

import secrets

from contracts.policy import Program
from contracts.refusal import Refusal
from contracts.sealed.shares import KEY_BYTES, Escrow, combine, deposit, require_of, threshold_in
from enclave.programs.identity import Identity


class StateKeys:
    """One life's keys. Where the manifest has the sites hold shares, state is kept from the round on in which
    enough sites have given the keys that their shares are wrapped for; shares exist only where there is no
    sealing key, and a TEE that has one takes none.

    A life that was restored draws a key of its own: the host could have made up the state that it brings, and
    know its key. Whether it did, the sites tell (enclave/programs/naming.py).
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._own = identity.source.sealing_key(label(identity.program))
        self._drawn: bytes | None = None
        self._receivers: dict[str, str] = {}
        self._returned: dict[str, bytes] = {}

    def meet(self, site: str, receiver: str | None, share: bytes | None) -> None:
        """What a site has sealed to this enclave: where its shares go, and the share that it hands back.
        Refuses with `state.no_shares`."""
        if receiver is None and share is None:
            return
        self._threshold()
        if receiver is not None:
            self._receivers[site] = receiver
        if share is not None:
            self._returned[site] = share

    def to_seal(self) -> tuple[bytes, Escrow | None] | None:
        """The key, and its shares where it is a drawn one; None where there is none to seal under: too few
        sites can hold a share, or the manifest lets nobody."""
        manifest = self._identity.manifest
        if self._own is not None:
            return self._own, None
        if manifest.split is None or manifest.split.shares is None:
            return None
        threshold = self._threshold()
        if len(self._receivers) < threshold:
            return None
        if self._drawn is None:
            self._drawn = secrets.token_bytes(KEY_BYTES)
        return self._drawn, deposit(self._drawn, self._receivers, threshold, self._identity.manifest_hash)

    def to_open(self, escrow: Escrow | None) -> bytes:
        """The key of a state with this escrow, which must be as the manifest says: what the host brings
        decides nothing. Refuses with `state.unavailable`, `state.no_shares` or `shares.*`."""
        if escrow is not None:
            threshold = self._threshold()
            require_of(escrow, self._identity.manifest, threshold)
            return combine(self._returned, threshold, escrow.commitment)
        if self._own is None:
            raise Refusal("state.unavailable")
        return self._own

    def _threshold(self) -> int:
        """Refuses with `state.no_shares` where there is a sealing key, or the manifest has no shares."""
        if self._own is not None:
            raise Refusal("state.no_shares")
        return threshold_in(self._identity.manifest)


def label(program: Program) -> str:
    """Which of the TEE's sealing keys is for this program's state."""
    return f"fedslice/{program.replace('_', '-')}-state/v1"
