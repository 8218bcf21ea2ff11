"""Admission: an enclave lets another one in only after it has judged its evidence itself.

The relying enclave draws a nonce, the peer's host brings evidence that answers it, and `attestation`
appraises that against the policy of the manifest, which every site has signed. Neither host's word counts. A
site's client slice must be vouched for by the site as well: any genuine client slice has the right
measurement, and the site's signature over the claims says which one is its own.
"""

from __future__ import annotations

from attestation.appraisal import Appraisal, appraise, require
from attestation.floors import Floors
from contracts.evidence import Evidence, Expected
from contracts.policy import Program
from contracts.refusal import Refusal
from enclave.programs.identity import Identity
from enclave.programs.nonces import Nonces
from enclave.programs.peer import Peer

MAX_INSTANCES = 16  # a client slice may be started again; what its last instances have sealed is readable


class Admission:
    """The enclaves of program `admits` that were admitted here, by name (a site id, or the program's
    name)."""

    def __init__(self, identity: Identity, admits: Program) -> None:
        self._identity = identity
        self._admits = admits
        self._nonces = Nonces()
        self._floors = Floors()
        self._peers: dict[str, list[Peer]] = {}

    def challenge(self, name: str) -> str:
        """A fresh nonce (hex) that `name` must answer with evidence."""
        return self._nonces.draw(name, self._identity.clock.now())

    def admit(self, name: str, evidence: Evidence) -> Appraisal:
        """Appraise evidence and remember its keys as the newest of `name`.

        Raises: `program.nonce_unknown`, `admission.key_in_use`, or the code of the failed check.
        """
        now = self._identity.clock.now()
        claims = evidence.claims
        self._nonces.spend(claims.nonce, name, now)
        expected = Expected(claims.nonce, self._identity.manifest_hash, self._admits)
        policy = self._identity.manifest.policy
        appraisal = appraise(evidence, policy, at=now, expected=expected, floors=self._floors)
        require(appraisal)
        peer = Peer(claims.hpke_key, claims.signing_key)
        others = (known for other, peers in self._peers.items() if other != name for known in peers)
        if any(set(peer) & set(known) for known in others):
            raise Refusal("admission.key_in_use", site=name)
        instances = [instance for instance in self._peers.get(name, []) if instance != peer]
        self._peers[name] = [peer, *instances][:MAX_INSTANCES]
        self._floors = self._floors.raised(appraisal)
        return appraisal

    def instances(self, name: str) -> tuple[Peer, ...]:
        """All admitted instances of `name`, the newest first.

        Raises: `admission.not_admitted`.
        """
        if name not in self._peers:
            raise Refusal("admission.not_admitted", peer=name)
        return tuple(self._peers[name])

    def newest(self) -> dict[str, Peer]:
        """The newest instance of each admitted peer."""
        return {name: instances[0] for name, instances in self._peers.items()}
