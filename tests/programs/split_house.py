"""A Method 2 run over real processes: a split server, and sites that compute, seal and wrap as agents do."""

from __future__ import annotations

from io import BytesIO

import msgspec

from attestation.measurement import measure
from contracts.manifest import DatasetRef, Spf, Split, Training
from contracts.policy import Policy, SgxReference
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.releases import SERVE
from contracts.roster import Roster, RosterEntry, countersign
from contracts.sealed.handback import HandedBack, hand_back
from contracts.sealed.session import encode
from contracts.sealed.shards import draw_key, open_shard, seal_shard, wrap_keys
from site_agent.methods.method_2.features import CachedIndex, FeatureCache
from tests.support.approvals import release_approval

SPF = Spf(attention=50, dense=50, rank=4, alpha=8)


def split_manifest(house, **changes):
    """All sites of the house, two training rounds, cut after the first of two layers."""
    base = house.manifest()
    sites = tuple(
        msgspec.structs.replace(site, dataset=DatasetRef(site.dataset.id, f"{number}" * 64, 28 + 8 * number))
        for number, site in enumerate(base.sites)
    )
    policy = Policy(
        "development",
        base.policy.root_sha256,
        (SgxReference("split_server", mrenclave=measure("split_server")),),
    )
    training = Training(rounds=2, local_epochs=2, batch_size=4, learning_rate=0.01, seed=7)
    fields = {"method": "method-2", "adapter": SPF, "split": Split(1), "sites": sites, "policy": policy}
    return msgspec.structs.replace(base, **{"training": training, **fields, **changes})


class SplitRun:
    """One run around a `Consortium` of `conftest`; `folder` is where the sites keep their features."""

    def __init__(self, consortium, folder) -> None:
        self.consortium, self.folder = consortium, folder
        self.manifest = consortium.manifest
        self.results: list[dict] = []

    def server(self, **_ignored):
        process = self.consortium.bound("split_server", "coordinator")
        process.call("prepare", model=self.consortium.given(process, self.consortium.house.model))
        return process

    def store(self, site) -> FeatureCache:
        return FeatureCache(self.folder / site, self.manifest, site)

    def features(self, site) -> CachedIndex:
        store, house = self.store(site), self.consortium.house
        return store.kept() or store.make(house.model, house.rows[site], lambda *_news: None)

    @property
    def last(self) -> str:
        """Hash of the last receipt that the sites have seen."""
        return (
            receipt_hash(parse_receipt(self.results[-1]["receipt"]).receipt) if self.results else NO_RECEIPT
        )

    def name(self, server, sites=("anna", "berta"), receipt=None) -> None:
        """These sites tell the server which receipt was last, as their agents do before it serves."""
        claims = server.call("evidence", nonce="00" * 32)["claims"]
        for site in sites:
            sealed = hand_back(
                HandedBack(receipt or self.last),
                manifest=self.manifest.hash,
                site=site,
                receiver=claims["hpke_key"],
                signer=self.consortium.house.site_keys[site],
            )
            server.call("share", site=site, sealed=encode(sealed))

    def order(self, server, sites=None) -> None:
        """All sites, or these, sign that this server may answer from what it has."""
        receipt, keys = server.call("status")["receipt"], self.consortium.house.site_keys
        signed = {
            site.id: release_approval(self.manifest, receipt, site.id, keys[site.id], rule=SERVE)
            for site in self.manifest.sites
            if sites is None or site.id in sites
        }
        server.call("serve", receipt=receipt, release_approvals=msgspec.to_builtins(signed))

    def wrap(self, server, site, kept, *, signer=None, skip=0) -> str:
        """Seal the keys to this server; they and the shards (but the first `skip`) go into its mailbox."""
        claims = server.call("evidence", nonce="00" * 32)["claims"]
        sealed = BytesIO()
        keys = [bytes.fromhex(key) for key in kept.keys]
        signer = signer or self.consortium.house.site_keys[site]
        name = wrap_keys(
            kept.index,
            keys,
            sealed,
            manifest=self.manifest.hash,
            receiver=claims["hpke_key"],
            signer=signer,
            receipt=self.last,
        ).sha256
        (self.folder / name).write_bytes(sealed.getvalue())
        server.mailbox.deliver(self.folder / name, name)
        for place, shard in list(enumerate(kept.index.shards))[skip:]:
            server.mailbox.deliver(self.store(site).file(place, kept.index), shard.sha256)
        return name

    def hostile(
        self, server, site, forge=lambda shard: shard, *, layout=None, index=lambda index: index, skip=1
    ):
        """Like `join`, with the first training shard forged: sealed and signed as the site itself would."""
        import safetensors.torch

        kept = self.features(site)
        about = kept.index.about(0)
        plain = BytesIO()
        with self.store(site).file(0, kept.index).open("rb") as file:
            open_shard(file, plain, key=bytes.fromhex(kept.keys[0]), about=about, limit=1 << 30)
        tensors = forge(safetensors.torch.load(plain.getvalue()))
        data = safetensors.torch.save(tensors, {"origin": layout or kept.index.origin})
        sealed, key = BytesIO(), draw_key()
        name = seal_shard(BytesIO(data), sealed, key=key, about=about).sha256
        (self.folder / name).write_bytes(sealed.getvalue())
        server.mailbox.deliver(self.folder / name, name)
        first = msgspec.structs.replace(kept.index.shards[0], sha256=name, bytes=len(sealed.getvalue()))
        forged = msgspec.structs.replace(kept.index, shards=(first, *kept.index.shards[1:]))
        keys = (key.hex(), *kept.keys[1:])
        wrapped = self.wrap(server, site, CachedIndex(index(forged), keys), skip=skip)
        return server.call("features", site=site, keys=wrapped)

    def join(self, server, site) -> dict:
        return server.call("features", site=site, keys=self.wrap(server, site, self.features(site)))

    def roster(self, round, previous, sites) -> dict:
        entries = tuple(RosterEntry(site, self.features(site).index.hash) for site in sorted(sites))
        roster = Roster(self.manifest.hash, round, entries, previous, True)
        keys = self.consortium.house.site_keys
        return {
            "round": round,
            "roster": msgspec.to_builtins(roster),
            "countersignatures": {site: countersign(roster, keys[site]) for site in sites},
        }

    def round(self, server, number, previous=NO_RECEIPT, sites=(), progress=None) -> dict:
        op = "train" if number <= self.manifest.training.rounds else "evaluate"
        listed = sites or tuple(self.consortium.house.site_keys)
        return server.call(op, progress, **self.roster(number, previous, listed))

    def rounds(self, server, start=1, previous=NO_RECEIPT, sites=()) -> list[dict]:
        """All rounds from `start` on, the closing one and the test."""
        for number in (*range(start, self.manifest.training.rounds + 2), self.manifest.last_round):
            self.results.append(self.round(server, number, previous, sites))
            previous = receipt_hash(parse_receipt(self.results[-1]["receipt"]).receipt)
        return self.results
