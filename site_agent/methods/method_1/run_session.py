"""This site's part in one run: its client slice, started, attested both ways, loaded, kept for the run.

The agent is the client slice's host, and so an adversary to it: it carries evidence and sealed files to and
fro. What it can see to is its own hospital's interest: only a manifest that was approved here is ever bound.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attestation.platform_kind import platform_kind
from contracts import client_slice_calls as calls
from contracts.agents_api import enclaves as agents_api
from contracts.agents_api.enclaves import CHALLENGE, AdmitBody, NonceBody
from contracts.agents_api.log import COLLATERAL
from contracts.agents_api.runs import MANIFEST
from contracts.approvals import Approval
from contracts.canonical import canonical
from contracts.commitment import Committed, Held
from contracts.endorsement import endorse
from contracts.evidence import Evidence
from contracts.front_calls import COMMIT, HELD
from contracts.manifest import Manifest
from contracts.masked_calls import ACCELERATE, AccelerateArguments
from contracts.program_calls import BIND, EVIDENCE, A, BindArguments, Call, Challenge, Nothing, R
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.programs.mailbox import PREPARED
from enclave_host.base_models import resolve
from enclave_host.mailbox import HostMailbox
from enclave_host.process import EnclaveProcess
from site_agent.approvals import approved_manifest
from site_agent.blobs import download
from site_agent.datasets.catalogue import Catalogue
from site_agent.enrolment import needs_platform
from site_agent.files import private_folder
from site_agent.methods.cuts import tell_of_cuts
from site_agent.methods.fronts import prune
from site_agent.methods.interface import RUN_OVER
from site_agent.methods.method_1.accelerator import AcceleratorProcess, require_own
from site_agent.methods.method_1.features import FEATURES, RowFeatures
from site_agent.methods.method_1.prepared import DAMAGED, PreparedFolder
from site_agent.proofs import require_appraisal, require_manifest
from site_agent.state import State
from site_agent.transport import Coordinator

log = logging.getLogger(__name__)

Tell = Callable[..., None]
"""Called with (stage, fraction or None, detail)."""

SHORT = 120.0
LOADING = 1800.0
MAX_START_BYTES = 1 << 30
KEPT_FREE = 1 << 30
"""Bytes of this machine's disk that pads leave alone."""
"""Seconds that operations of the client slice may take; training has no limit but the lease."""


class RunSession:
    """One run's client slice. Not for several threads, except `close`."""

    def __init__(self, state: State, coordinator: Coordinator, run: str, manifest_hash: str) -> None:
        """Raises: `run.not_approved_here`: nothing is started, asked or loaded for such a manifest."""
        self.manifest: Manifest = approved_manifest(state, manifest_hash)
        self.folder = private_folder(state.runs / self.manifest.hash)
        self.mailbox = self.folder / "mailbox"
        self._state = state
        self._coordinator = coordinator
        self._run = run
        self._process: EnclaveProcess | None = None
        self._epoch: int | None = None
        self._loaded = False
        self._committed: Committed | None = None
        self._accelerator: AcceleratorProcess | None = None
        self._distrusted = ""

    @property
    def alive(self) -> bool:
        """Whether the client slice runs."""
        return self._process is not None and self._process.alive

    def ready(self, epoch: int, tell: Tell) -> EnclaveProcess:
        """The client slice, running, loaded, and admitted by the server enclave of this epoch.

        1. Start it, if it does not run; bind it to the manifest that was approved here.
        2. It verifies the server enclave inside, and the server enclave verifies it.
        3. It loads the pinned model and the rows. Behind a public front it does so first, because its
           admission carries what it commits to; the features are computed before that, once.
        4. In a masked run the accelerator starts, and the client slice is told of it.

        Repeats only what is missing.

        Raises: what either enclave or the coordinator raises.
        """
        require_own(self.manifest)
        try:
            return self._made_ready(epoch, tell)
        except Refusal as refusal:
            self.failed(refusal)
            raise

    def _made_ready(self, epoch: int, tell: Tell) -> EnclaveProcess:
        if not self.alive:
            tell("starting the client slice")
            self._start()
        if self.manifest.front is not None:
            self._load(tell)
        if self._epoch != epoch:
            tell("attesting both enclaves")
            self._epoch = None
            self._epoch = self._attest(tell)
            if self._epoch != epoch:
                raise Refusal("run.reattest")
        self._load(tell)
        if self.manifest.masking is not None:
            self._ready_accelerator(tell)
        return self._client()

    def ask(self, call: Call[A, R], arguments: A, progress: Callable[[Progress], None]) -> R:
        """An operation of the client slice without a time limit (its progress keeps the lease alive)."""
        return self._client().ask(call, arguments, progress)

    def is_active(self) -> bool:
        """Whether the coordinator still has something for this run; in doubt, yes."""
        try:
            self._coordinator.post(CHALLENGE, Nothing(), patience=0, run=self._run)
        except Refusal as refusal:
            return refusal.code not in RUN_OVER
        return True

    def attest_again(self) -> None:
        """Forget the admission: the server enclave has said that it does not know us."""
        self._epoch = None

    def failed(self, refusal: Refusal) -> None:
        """Masked work has failed: the client slice trusts neither its pads nor its accelerator any more, and
        the next job gets new ones; a prepared model that was damaged on this disk is made again. After a
        wrong product there is no other accelerator: people must look first."""
        if self.manifest.masking is None:
            return
        if not refusal.code.startswith(("masking.", "accelerator.")) and refusal.code not in DAMAGED:
            return
        if refusal.code == "masking.wrong_product":
            self._distrusted = str(refusal.facts.get("accelerator", ""))[:64] or "?"
        self._stop_accelerator()
        if refusal.code in DAMAGED:
            PreparedFolder(self._state.prepared, self.manifest).forget()
            if self._loaded and self._process is not None:
                self._process.kill()  # it loads the model again

    def close(self) -> None:
        """End the client slice, and its accelerator. Its keys are gone then."""
        self._stop_accelerator()
        if self._process is not None:
            self._process.kill()

    def forget(self) -> None:
        """The run is over: end the client slice, and remove its sealed files."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _client(self) -> EnclaveProcess:
        if self._process is None:
            raise Refusal("program.died", program="client_slice", status=None)
        return self._process

    def _start(self) -> None:
        self.close()
        self._epoch, self._loaded, self._committed = None, False, None
        approvals = self._approvals()
        shutil.rmtree(self.mailbox, ignore_errors=True)
        runtime = self._state.config.runtime
        platform = self._state.platform if needs_platform(runtime) else None
        self._process = EnclaveProcess.start("client_slice", runtime, self.mailbox, platform)
        text = canonical(self.manifest).decode()
        self._process.ask(BIND, BindArguments(text, approvals), timeout=SHORT)
        log.info("the client slice is bound to %s", self.manifest.hash[:16])

    def _ready_accelerator(self, tell: Tell) -> None:
        """Raises: `accelerator.distrusted`, `accelerator.not_started` or `accelerator.bad_channel`."""
        if self._distrusted:
            raise Refusal("accelerator.distrusted", accelerator=self._distrusted)
        if self._accelerator is not None and self._accelerator.alive:
            return
        tell("starting the accelerator")
        self._stop_accelerator()
        log_file = self.folder / "accelerator.log"
        first = 0 if self.manifest.front is None else self.manifest.front.first
        place, runtime = self.mailbox / PREPARED, self._state.config.runtime
        started = AcceleratorProcess.start(place, runtime, log_file, first)
        self._accelerator = started
        try:
            asked = AccelerateArguments(str(started.seen), self._room())
            answer = self._client().ask(ACCELERATE, asked, timeout=LOADING)
        except Refusal:
            self._stop_accelerator()
            raise
        log.info("%s multiplies, as process %d", answer.accelerator, started.pid)

    def _room(self) -> int:
        """Bytes that this machine's disk has for pads, beyond what it needs otherwise."""
        return max(shutil.disk_usage(self.mailbox).free - KEPT_FREE, 0)

    def _stop_accelerator(self) -> None:
        if self._accelerator is not None:
            self._accelerator.stop()
            self._accelerator = None

    def _approvals(self) -> dict[str, Approval]:
        """All sites' approvals, from the coordinator; the client slice verifies each of them."""
        answer = self._coordinator.ask(MANIFEST, Nothing(), run=self._run)
        shown = hashlib.sha256(answer.manifest.encode()).hexdigest()
        if shown != self.manifest.hash:
            raise Refusal("run.wrong_manifest", fingerprint=self.manifest.hash[:16])
        return answer.approvals

    def _attest(self, tell: Tell) -> int:
        """Admit the server enclave, and be admitted by it. Behind a public front that one answers to what
        features the client slice is held, which then looks at some of them. Returns its epoch."""
        client = self._client()
        nonce = client.ask(calls.CHALLENGE, Nothing(), timeout=SHORT).nonce
        theirs = self._coordinator.ask(agents_api.EVIDENCE, NonceBody(nonce), run=self._run)
        evidence = theirs.evidence
        about = self._state, self._coordinator, self.manifest
        # The client slice believes no host: it wants to see for itself what this agent has seen.
        logged = calls.InLog(require_manifest(*about), require_appraisal(*about, evidence.claims))
        client.ask(calls.ADMIT, calls.AdmitAggregatorArguments(evidence, logged), timeout=SHORT)

        nonce = self._coordinator.ask(CHALLENGE, Nothing(), run=self._run).nonce
        ours = client.ask(EVIDENCE, Challenge(nonce), timeout=SHORT)
        shown = Evidence(ours.quote, self._collateral(ours.quote), ours.claims, ours.event_log)
        body = AdmitBody(shown, endorse(ours.claims, self._state.key), self._committed)
        answer = self._coordinator.ask(agents_api.ADMIT, body, run=self._run)
        if self._committed is not None:
            if answer.held is None:
                raise Refusal("agent.bad_answer", fault="it says nothing of our features")
            self._sample(answer.held, tell)
        return theirs.epoch

    def _sample(self, held: Held, tell: Tell) -> None:
        """Let the client slice compute a sample of the features again. What it finds wrong was a fault of
        this machine, or somebody has changed the file: the next run computes them again."""
        try:
            self.ask(HELD, held, partial(_pass_on, tell))
        except Refusal as refusal:
            if refusal.code == "front.wrong_features":
                self._features().forget()
            raise

    def _collateral(self, quote: bytes) -> dict[str, str]:
        """What belongs to our own quote. It needs no protection: the verifier checks its signatures."""
        kind = platform_kind(quote)
        of_ours = {"fmspc": kind.fmspc, "ca": kind.ca}
        answer = self._coordinator.ask(COLLATERAL, Nothing(), query=of_ours)
        found = answer.tdx if self._state.config.runtime == "tdx" else answer.sgx
        if found is None:
            raise Refusal("agent.bad_answer", fault="it has no collateral for this platform")
        return found

    def _load(self, tell: Tell) -> None:
        if self._loaded:
            return
        own = self.manifest.site(self._state.config.site)
        catalogue = Catalogue(self._state)
        dataset = catalogue.path(catalogue.referred(own.dataset))
        folder = resolve(self.manifest.model.source)
        for name in self.manifest.model.files:
            self._put_in(folder / name, Path("model") / name)
        self._put_in(dataset, Path("data") / "rows.jsonl")
        if self.manifest.model.start:
            self._bring_start(self.manifest.model.start, tell)
        if self.manifest.masking is not None:
            place = self.mailbox / PREPARED
            prepared = PreparedFolder(self._state.prepared, self.manifest)
            prepared.hand_in(folder, tell, lambda file: _link(file, place / file.name))
        features = None
        if self.manifest.front is not None:
            features = f"data/{FEATURES}"
            self._put_in(self._computed(folder, dataset, tell), Path(features))
        tell("loading model and rows")
        limit = LOADING if self.manifest.front is None else None
        # Nobody listens, who might break it off: it is done once.
        key = self._state.dataset_key.hex()
        asked = calls.LoadArguments("model", "data/rows.jsonl", own.id, key, features)
        loaded = self._client().ask(calls.LOAD, asked, timeout=limit)
        if self.manifest.front is not None:
            self._committed = self._client().ask(COMMIT, Nothing(), timeout=SHORT)
        tell_of_cuts(loaded.cut, loaded.left_out, self.manifest)
        self._loaded = True

    def _bring_start(self, sha256: str, tell: Tell) -> None:
        """What tuning starts from, into the mailbox: the client slice believes its hash in the manifest."""
        tell("fetching what tuning starts from")
        file = download(self._coordinator, sha256, self.folder / "start" / sha256, limit=MAX_START_BYTES)
        HostMailbox(self.mailbox).deliver(file, sha256)

    def _computed(self, model: Path, dataset: Path, tell: Tell) -> Path:
        """The features of this run, computed if they are not there: a client slice takes no others later."""
        kept, features = self.folder / FEATURES, self._features()
        if not kept.exists():
            from enclave.slicing.eager import run_eagerly

            run_eagerly()
            prune(self._state.features, features.folder)
            features.link(kept, model, dataset, tell)
        return kept

    def _features(self) -> RowFeatures:
        return RowFeatures(self._state.features, self.manifest, self._state.config.site)

    def _put_in(self, file: Path, place: Path) -> None:
        """A hard link (else a copy) in the mailbox: an SGX enclave sees no other folder."""
        if len(place.parts) != 2 or ".." in place.parts:
            raise Refusal("model.unsafe_name")
        _link(file, self.mailbox / place)


def _link(file: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(file.resolve())
    except OSError:
        shutil.copyfile(file, target)
        target.chmod(0o600)


def _pass_on(tell: Tell, news: Progress) -> None:
    """Progress of the client slice: its stage, and how far it is."""
    tell(news.stage, news.done / news.of if news.of else None)
