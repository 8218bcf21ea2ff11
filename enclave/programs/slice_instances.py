"""How often each site's client slice has begun, and which instances may hold the state of the present round.

A restart is a new instance with new keys, which has answered nothing yet: a host that restarts at will asks
as often as it likes. So the manifest says how many instances a site has, they are counted here, and the
counts go into every receipt, hence into the sealed state and the sites' hands. A round's state is sealed to
one instance of each site. Where that one was lost, the same aggregator hands the state over to the newest
instance, once a round; one that was restored hands nothing over until a countersigned round has shown that
its state is the run's present. Behind a public front a site is held to the features that its first instance
has committed to, in every receipt as well. Runs inside the aggregator."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.receipts import InstanceCount, Receipt
from contracts.refusal import Refusal
from enclave.programs.peer import Peer


class SliceInstances:
    """The instances of all sites of a run, at most `limit` of each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counted: dict[str, int] = {}
        self._seen: dict[str, set[str]] = {}
        self._holders: dict[str, tuple[str, ...]] | None = None
        self._features: dict[str, str] = {}  # site -> what it is held to
        self._committed: dict[str, str] = {}  # signing key -> what that instance has committed to

    def require(self, site: str, key: str, features: str | None = None) -> None:
        """Raises: `admission.too_many_instances` where a client slice with this signing key is one too many,
        and `front.another_commitment` where it has other features than its site is held to.
        """
        if key not in self._seen.get(site, set()) and self._counted.get(site, 0) >= self._limit:
            raise Refusal("admission.too_many_instances", site=site, instances=self._limit)
        if features is not None and self._features.get(site, features) != features:
            raise Refusal("front.another_commitment", site=site)

    def count(self, site: str, key: str, features: str | None = None) -> int:
        """An admitted instance; again changes nothing.

        Returns: the how many-th of its site it is, at most.
        """
        if key not in self._seen.setdefault(site, set()):
            self._seen[site].add(key)
            self._counted[site] = self._counted.get(site, 0) + 1
        if features is not None:
            self._features[site] = self._committed[key] = features
        return self._counted[site]

    def restore(self, receipt: Receipt) -> None:
        """Go on from what an earlier instance of the aggregator has counted. Who was admitted here before
        that comes on top."""
        holders: dict[str, tuple[str, ...]] = {}
        for count in receipt.instances:
            known = self._seen.setdefault(count.site, set())
            again = count.holder in known
            self._counted[count.site] = self._counted.get(count.site, 0) + count.begun - again
            if count.features is not None:
                self._features[count.site] = count.features
            holders[count.site] = () if count.holder is None else (count.holder,)
            known.update(holders[count.site])
        self._holders = holders

    def recipients(self, newest: Mapping[str, Peer]) -> dict[str, Peer]:
        """To whom a new state is sealed: the newest instance of each site that is within its limit."""
        return {
            site: peer
            for site, peer in newest.items()
            if self._counted.get(site, 0) <= self._limit and self._is_true(site, peer)
        }

    def heirs(self, newest: Mapping[str, Peer]) -> dict[str, Peer]:
        """To whom the present state is sealed again: who holds it, or takes it over as the first of the
        round."""
        held = self._holders or {}
        return {
            site: peer
            for site, peer in self.recipients(newest).items()
            if peer.signing_key in held.get(site, ()) or len(held.get(site, ())) < 2
        }

    def hand_over(self, heirs: Mapping[str, Peer]) -> None:
        """From now on these hold the present state as well."""
        holders = dict(self._holders or {})
        for site, peer in heirs.items():
            before = holders.get(site, ())
            holders[site] = before if peer.signing_key in before else (*before, peer.signing_key)
        self._holders = holders

    def entered(self, receipt: Receipt) -> None:
        """A round's receipt was signed: its holders are those of the present state."""
        if receipt.output is not None:
            self._holders = {each.site: (each.holder,) for each in receipt.instances if each.holder}

    def published(self, recipients: Mapping[str, Peer] | None) -> tuple[InstanceCount, ...]:
        """For the receipt: all sites that have begun, and to which instance the round's output is sealed.
        None: the round makes no output, and the first holder of the present state stays."""
        held = self._holders or {}
        count = []
        for site, begun in sorted(self._counted.items()):
            if recipients is None:
                holder = next(iter(held.get(site, ())), None)
            else:
                holder = recipients[site].signing_key if site in recipients else None
            count.append(InstanceCount(site, begun, holder, self._features.get(site)))
        return tuple(count)

    def may_contribute(self, site: str, admitted: tuple[Peer, ...]) -> tuple[Peer, ...]:
        """Of the site's admitted instances, those that the round's state was sealed to; all in the first
        round, which begins with what the manifest's seed gives.

        Raises: `admission.too_many_instances`, `front.another_commitment` or `round.other_instance`.
        """
        if self._counted.get(site, 0) > self._limit:
            raise Refusal("admission.too_many_instances", site=site, instances=self._limit)
        admitted = tuple(peer for peer in admitted if self._is_true(site, peer))
        if not admitted:
            raise Refusal("front.another_commitment", site=site)
        if self._holders is None:
            return admitted
        found = tuple(peer for peer in admitted if peer.signing_key in self._holders.get(site, ()))
        if not found:
            raise Refusal("round.other_instance", site=site)
        return found

    def _is_true(self, site: str, peer: Peer) -> bool:
        """Whether this instance has the features that its site is held to. One that was admitted before a
        restore may have others."""
        return self._committed.get(peer.signing_key) == self._features.get(site)
