"""The jobs of Method 2: bring sealed features once, wrap their keys for a verified enclave, sign rosters."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from contracts.agents_api.jobs import LeasedJob
from contracts.jobs import Bringing, Countersigning, CountersignResult, FeaturesResult, Result, ShareResult
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.sealed.container import FileRef
from contracts.sealed.handback import HandedBack, hand_back
from contracts.sealed.session import encode
from contracts.sealed.shards import wrap_keys
from contracts.sealed.shares import require_of, withdraw
from enclave_host.base_models import resolve
from site_agent.blobs import file_sha256, upload
from site_agent.datasets.catalogue import Catalogue
from site_agent.files import replacing
from site_agent.formatting import readable_bytes
from site_agent.leases import Lease, given
from site_agent.members import require_enough
from site_agent.methods.fronts import prune
from site_agent.methods.method_2.features import CachedIndex, FeatureCache
from site_agent.methods.method_2.run_session import SplitRunSession
from site_agent.proofs import require_roster
from site_agent.rosters import RosterBook
from site_agent.state import State
from site_agent.transport import Coordinator


class SplitJobRunner:
    """Does the jobs of one run of Method 2: features, rewrap, countersign, share."""

    def __init__(self, state: State, coordinator: Coordinator, session: SplitRunSession) -> None:
        self._state = state
        self._coordinator = coordinator
        self._session = session
        self._store = FeatureCache(state.features, session.manifest, state.config.site)
        self._receipts = session.receipts
        self._rosters = RosterBook(state.rosters, state.key)

    def do(self, job: LeasedJob, lease: Lease) -> Result:
        """Carry the job out.

        Raises: any code of the catalogue.
        """
        match job.kind:
            case "features":
                return self._bring(job, lease)
            case "rewrap":
                kept = self._store.kept()
                # Whoever has lost the keys has lost the shards: they are made and brought again.
                return self._bring(job, lease) if kept is None else self._wrap(job, lease, kept)
            case "countersign":
                return self._countersign(job, lease)
            case "share":
                return self._hand_back(job, lease)
        raise Refusal("agent.unknown_job", kind=job.kind[:32])

    def prepare_next(self, _job: LeasedJob) -> None:
        """Nothing is made ahead: the server has all that a round takes."""

    def _bring(self, job: LeasedJob, lease: Lease) -> FeaturesResult:
        """Verify first, then compute what is missing, bring the shards up, and wrap their keys."""
        self._session.verified(given(job, Bringing).epoch, lease.tell)
        manifest = self._session.manifest
        kept = self._store.kept()
        if kept is None:
            from enclave.slicing.eager import run_eagerly

            run_eagerly()
            prune(self._state.features, self._store.folder)
            own = manifest.site(self._state.config.site)
            catalogue = Catalogue(self._state)
            dataset = catalogue.path(catalogue.referred(own.dataset))
            kept = self._store.make(resolve(manifest.model.source), dataset, lease.tell)
        total, before = kept.index.bytes, 0
        for place, shard in enumerate(kept.index.shards):
            file = self._store.file(place, kept.index)
            tell = _transfer(lease, before, total)
            upload(self._coordinator, file, shard.sha256, job.run, tell, kind="shard")
            before += shard.bytes
        return self._wrap(job, lease, kept)

    def _wrap(self, job: LeasedJob, lease: Lease, kept: CachedIndex) -> FeaturesResult:
        """Seal the keys to the server enclave that was verified here, and with them which receipt was last.
        Nothing else is sent."""
        claims = self._session.verified(given(job, Bringing).epoch, lease.tell)
        lease.tell("wrapping the keys of the features")
        manifest = self._session.manifest
        shares = manifest.split is not None and manifest.split.shares is not None
        receipt = self._receipts.name_to(claims.signing_key)
        file = self._session.folder / f"keys-{claims.signing_key[:16]}.sealed"
        if not file.exists():
            sealed = BytesIO()
            wrap_keys(
                kept.index,
                [bytes.fromhex(key) for key in kept.keys],
                sealed,
                manifest=manifest.hash,
                receiver=claims.hpke_key,
                signer=self._state.key,
                receipt=receipt,
                share_key=self._state.share_key.public if shares else None,
                share=_share(self._state, manifest, job),
            )
            with replacing(file) as target:
                target.write(sealed.getvalue())
        sha256, size = file_sha256(file), file.stat().st_size
        upload(self._coordinator, file, sha256, job.run)
        return FeaturesResult(job.lease, kept.index, FileRef(sha256, size))

    def _hand_back(self, job: LeasedJob, lease: Lease) -> ShareResult:
        """The enclave that serves a finished run's model, or releases its parameters, needs the sites' word:
        verify it, and seal to it which receipt was last, with this site's share of the state's key."""
        claims = self._session.verified(given(job, Bringing).epoch, lease.tell)
        lease.tell("naming the run's last receipt")
        manifest = self._session.manifest
        sealed = hand_back(
            HandedBack(self._receipts.name_to(claims.signing_key), _share(self._state, manifest, job)),
            manifest=manifest.hash,
            site=self._state.config.site,
            receiver=claims.hpke_key,
            signer=self._state.key,
        )
        return ShareResult(job.lease, encode(sealed))

    def _countersign(self, job: LeasedJob, lease: Lease) -> CountersignResult:
        """Sign the round's roster, once, if it lists this site's shards and builds on the last receipt."""
        lease.tell("countersigning the roster")
        roster = given(job, Countersigning).roster
        if roster.round != job.round:
            raise Refusal("roster.wrong_run")
        self._receipts.catch_up()
        require_enough(self._state, self._session.manifest, [entry.site for entry in roster.inputs])
        require_roster(self._state, self._coordinator, self._session.manifest, roster)
        kept = self._store.kept()
        signature = self._rosters.sign(
            roster,
            self._session.manifest,
            site=self._state.config.site,
            own_inputs=set() if kept is None else {kept.index.hash},
            last_receipt=self._receipts.last_hash(before=roster.round),
        )
        return CountersignResult(job.lease, signature)


def _share(state: State, manifest: Manifest, job: LeasedJob) -> bytes | None:
    """This site's share of the key of the server's last state, where the coordinator brings it: the new
    enclave was verified before, and only that one can read what it is sealed into.

    Raises: `agent.bad_inputs`, or `state.no_shares` or `shares.*` where it is not as the manifest says.
    """
    escrow = given(job, Bringing).escrow
    if escrow is None:
        return None
    require_of(escrow, manifest, holders=1)
    return withdraw(escrow, state.config.site, state.share_key, manifest.hash)


def _transfer(lease: Lease, before: int, total: int) -> Callable[[int, int], None]:
    def tell(done: int, _of: int) -> None:
        fraction = (before + done) / max(total, 1)
        lease.tell("sending sealed features", min(fraction, 1.0), f"{readable_bytes(before + done)} sent")

    return tell
