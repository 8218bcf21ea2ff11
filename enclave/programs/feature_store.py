"""The sites' features, opened and checked, in the split server's memory.

One site's fault must not become the run's: whatever is wrong with what a site has sealed is refused by code
before any of it is kept, and the other sites' features stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from contracts.progress import Progress
from contracts.receipts import ReceiptInput
from contracts.refusal import Refusal
from contracts.sealed.shards import PURPOSES, Purpose, ShardIndex, SiteKeys, open_shard, unwrap_keys
from enclave.programs.identity import Identity
from enclave.programs.mailbox import BoundedBuffer, Mailbox
from enclave.programs.program import Report
from enclave.programs.tail import TailLearner
from enclave.training.features import Shard, from_bytes


@dataclass(frozen=True)
class SiteFeatures:
    """What one site trains and evaluates with; `content` is the SHA-256 of all shards in the clear. A site
    that has lost its shards makes them again: sealed again, they have another index, and the same content."""

    index: ShardIndex
    shards: tuple[Shard, ...]
    content: str

    def of(self, purpose: Purpose) -> list[Shard]:
        """Its shards for a purpose."""
        pairs = zip(self.index.shards, self.shards, strict=True)
        return [shard for reference, shard in pairs if reference.purpose == purpose]

    @property
    def input(self) -> ReceiptInput:
        """As a receipt names it: the index's hash, the bytes of all shards, the examples trained on."""
        index = self.index
        return ReceiptInput(index.site, index.hash, index.bytes, index.examples("training"))


class FeatureStore:
    """All sites' features of one run, the last accepted of each."""

    def __init__(
        self,
        identity: Identity,
        mailbox: Mailbox,
        learner: TailLearner,
        heard: Callable[[str, SiteKeys], None],
    ) -> None:
        """`heard` takes what else a site has told with its keys."""
        self._identity = identity
        self._heard = heard
        self._mailbox = mailbox
        self._learner = learner
        self._held: dict[str, SiteFeatures] = {}

    def take(self, site: str, keys: str, pinned: str | None, report: Report) -> SiteFeatures:
        """Open the sealed keys at `in/<keys>` and all shards of the index beside them. `pinned` is the
        content that the site's features had when they were first used.

        What is held already is not opened again.

        Raises: `mailbox.*` (the host's fault), or by what is wrong with the site's: `features.*`, or
        `state.no_shares`.
        """
        member = self._identity.manifest.site(site)
        try:
            with self._mailbox.incoming(keys) as file:
                unsealed = unwrap_keys(
                    file,
                    manifest=self._identity.manifest_hash,
                    site=site,
                    site_key=member.public_key,
                    key=self._identity.hpke,
                )
            self._heard(site, unsealed)
            held = self._held.get(site)
            if held is None or held.index != unsealed.index:
                held = self._held[site] = self._open(unsealed, member.dataset.rows, pinned, report)
        except Refusal as refusal:
            if not refusal.code.startswith("sealing."):
                raise
            facts = {**refusal.facts, "site": site, "cause": refusal.code}
            raise Refusal("features.sealed", **facts) from refusal
        return held

    def held(self, site: str, sha256: str) -> SiteFeatures:
        """The features of a roster's entry.

        Raises: `features.not_loaded`.
        """
        found = self._held.get(site)
        if found is None or found.index.hash != sha256:
            raise Refusal("features.not_loaded", site=site)
        return found

    @property
    def sites(self) -> dict[str, str]:
        """Whose features are here: site id -> hash of the index."""
        return {site: held.index.hash for site, held in sorted(self._held.items())}

    def _open(self, unsealed: SiteKeys, rows: int, pinned: str | None, report: Report) -> SiteFeatures:
        index, keys = unsealed.index, unsealed.keys
        layout, training = self._learner.layout(index.site), index.examples("training")
        count = sum(index.examples(purpose) for purpose in PURPOSES)
        # Fewer are right: a row without a token to learn is left out.
        if count - training > layout.most_evaluated(training, rows):
            raise Refusal("features.too_many", site=index.site, found=count, rows=rows)
        if index.origin != layout.origin:
            raise Refusal("features.stale")
        opened, content = [], hashlib.sha256()
        for place, (reference, key) in enumerate(zip(index.shards, keys, strict=True)):
            report(Progress("opening", place, len(keys)))
            plain = BoundedBuffer(layout.limit)
            with self._mailbox.incoming(reference.sha256) as file:
                open_shard(file, plain, key=key, about=index.about(place), limit=layout.limit)
            data = plain.getvalue()
            content.update(len(data).to_bytes(8, "big"))
            content.update(data)
            shard = from_bytes(data, layout)
            if len(shard) != reference.examples:
                fault = "a shard has another number of examples"
                raise Refusal("features.bad_index", site=index.site, fault=fault)
            opened.append(shard)
        if pinned is not None and content.hexdigest() != pinned:
            raise Refusal("features.replaced", site=index.site)
        found = SiteFeatures(index, tuple(opened), content.hexdigest())
        if (whole := layout.rows_of(found.of)) > rows:
            raise Refusal("features.too_many", site=index.site, found=whole, rows=rows)
        return found
