"""The run manifest: all that decides a run, in one canonical JSON value whose SHA-256 is the run's identity.

docs/protocol.md specifies it. The coordinator writes it, each site signs its hash (contracts/approvals.py),
and every enclave of the run parses it strictly and is bound to it for life. Nothing that decides what happens
to data, keys or parameters comes from anywhere else.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from contracts.canonical import canonical, digest
from contracts.kinds import CHOSEN, KINDS, SEVERAL, TAGGED, Kind, Task
from contracts.policy import Hex32, Policy
from contracts.refusal import Refusal
from contracts.signing import verify

MAX_MANIFEST_BYTES = 512 * 1024
APPROVAL_DOMAIN = "fedslice/approval/v1"
CLOSING_TRIES = 3
"""Numbers of the closing round: one that was given up cannot be done again under its own."""
UNMEASURED = ("tdx",)  # runtimes that no manifest may name yet: `require_measured`

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")]


class ModelSpec(Struct, forbid_unknown_fields=True, frozen=True):
    """The public base model. `source` is `embedded:all-MiniLM-L6-v2`, a Hugging Face id, or a local name;
    `files` pins every file that is read (path inside the model's folder -> SHA-256). `labels` are the classes
    in the order of their ids; `spellings` says what else rows call them (spelling -> label). `template` says
    how conversations are rendered: by the chat template among the model's files, or, where it has none, by
    the plain one of enclave/training/conversations.py. `start` (not there: parameters are drawn) pins the
    adapter with which tuning begins, `start_receipt` names the receipt for which an earlier run released
    it."""

    source: Name
    task: Task
    files: Annotated[dict[Name, Hex32], Meta(min_length=1, max_length=200)]
    labels: Annotated[tuple[Name, ...], Meta(max_length=1000)]
    max_tokens: Annotated[int, Meta(ge=8, le=8192)]
    spellings: Annotated[dict[Name, Name], Meta(max_length=1000)] = {}
    template: Literal["model", "plain"] | None = None
    start: Hex32 | UnsetType = UNSET
    start_receipt: Hex32 | UnsetType = UNSET

    @property
    def classes(self) -> dict[str, int]:
        """What a row's label may be -> the class id that it stands for."""
        return {n: self.labels.index(self.spellings.get(n, n)) for n in (*self.labels, *self.spellings)}


Percent = Annotated[float, Meta(ge=0, le=100)]
Place = Literal["attention_output", "dense"]
Select = Literal["largest", "smallest", "random"]


class Lora(Struct, forbid_unknown_fields=True, frozen=True, tag_field="kind", tag="lora"):
    """What is tuned: peft LoRA on `targets` (module name suffixes), and the classification head. A pair
    sees its inputs with the share `dropout` of them set to 0 in training; it counts alpha / rank, with
    `rslora` alpha / √rank.

    Source: Hu et al., LoRA, arXiv 2106.09685; `rslora`: Kalajdzievski, arXiv 2312.03732.
    """

    rank: Annotated[int, Meta(ge=1, le=512)]
    alpha: Annotated[int, Meta(ge=1, le=1024)]
    targets: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=32)]
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    rslora: bool = False


class Prefix(Struct, forbid_unknown_fields=True, frozen=True, tag_field="kind", tag="prefix"):
    """What is tuned: keys and values of `length` positions before each layer (P-Tuning v2), and the
    classification head. The prefix takes positions: usable tokens = positions − length.

    Source: Liu et al., P-Tuning v2, arXiv 2110.07602.
    """

    length: Annotated[int, Meta(ge=1, le=1024)]


class Spf(Struct, forbid_unknown_fields=True, frozen=True, tag_field="kind", tag="spf"):
    """What is tuned in Method 2's tail. `attention` and `dense` are ratios in percent (0: leave them
    alone); `rows` says which linears the dense ratio is for, `lora` which get LoRA as well, as `Lora`
    describes it. `seed` is for the selection `random` alone. The head is tuned too.

    Source: arXiv 2401.09796.
    """

    attention: Percent
    dense: Percent
    select: Select = "largest"
    seed: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    rows: Annotated[tuple[Place, ...], Meta(max_length=2)] = ("dense",)
    lora: Annotated[tuple[Place, ...], Meta(max_length=2)] = ("attention_output",)
    rank: Annotated[int, Meta(ge=1, le=512)] = 8
    alpha: Annotated[int, Meta(ge=1, le=1024)] = 16
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    rslora: bool = False


Adapter = Lora | Prefix | Spf


class Masking(Struct, forbid_unknown_fields=True, frozen=True):
    """Placement `masked`: how many secret vectors check each of the accelerator's products, how many bytes of
    pads a site may keep on its disk, and whose the accelerators are: each `site`'s own, as its host is, or
    (some of them) somebody `other`'s. Nothing of rows is shown in clear to somebody else's. Client slices
    compute around products in numpy and torch, or all of them, with `passes` "native", in C. `prepared` is
    the SHA-256 of the index of the base model as it is prepared for this task (enclave/slicing/prepared.py),
    which each hospital computes for itself; no client slice begins without it."""

    repetitions: Annotated[int, Meta(ge=1, le=8)] = 1
    vault_bytes: Annotated[int, Meta(ge=0, le=1 << 44)] = 4 << 30
    accelerator: Literal["site", "other"] = "other"
    passes: Literal["native"] | UnsetType = UNSET
    prepared: Hex32 | UnsetType = UNSET


class PublicFront(Struct, forbid_unknown_fields=True, frozen=True):
    """Method 1: adapters stand in the layers from number `first` on (the first layer is number 0). All below
    is a public function of a site's own texts: its host computes it once, in clear. So many rows as `sample`
    says, of those that a site trains on and as many of those that it evaluates on, its client slice computes
    again; the times as many in the site's second life, and so on."""

    first: Annotated[int, Meta(ge=1, le=1000)]
    sample: Annotated[int, Meta(ge=1, le=10_000)] = 32


class KeyShares(Struct, forbid_unknown_fields=True, frozen=True):
    """Where the server's TEE has no sealing key, each site holds a share of the key of its state; any
    `threshold` of them make it again (contracts/sealed/shares.py)."""

    threshold: Annotated[int, Meta(ge=1, le=1000)]


class Split(Struct, forbid_unknown_fields=True, frozen=True):
    """Method 2: the front ends after layer `cut`. The tail trains on batches drawn from all sites' shards
    (`pooled`), or one tail a site is trained and averaged each round (`per-site`). `checkpointing` computes
    activations again in the backward pass instead of keeping them. `shares` is for a server without a sealing
    key; without it such a server keeps no state, and one with a sealing key takes none in shares."""

    cut: Annotated[int, Meta(ge=1, le=1000)]
    batches: Literal["pooled", "per-site"] = "pooled"
    checkpointing: bool = False
    shares: KeyShares | None = None


class Training(Struct, forbid_unknown_fields=True, frozen=True):
    """How each site trains in a round. `seed` fixes initial adapters, shuffling and dropout.

    The learning rate follows `schedule` over the steps of all rounds, after a rise over the share `warmup`
    of them. Training ends early when the pooled loss on validation rows has not fallen for `patience`
    rounds (0: never). `proximal` is FedProx's μ: each step also pulls towards what the round began with (0:
    not). `packing`: rows of a batch stand together in sequences of so many tokens (not there: each by
    itself). `at_once`: so many rows go through the model together at most, and the gradients of a batch are
    added up (not there: a batch is not divided). `activations`: the backward pass of Method 1 computes them
    `again` instead of keeping them (of Method 2: `Split.checkpointing`).

    Source: FedProx: Li et al., arXiv 1812.06127.
    """

    rounds: Annotated[int, Meta(ge=1, le=1000)]
    local_epochs: Annotated[int, Meta(ge=1, le=100)]
    batch_size: Annotated[int, Meta(ge=1, le=1024)]
    learning_rate: Annotated[float, Meta(gt=0, le=1)]
    seed: Annotated[int, Meta(ge=0, lt=2**53)]
    precision: Literal["fp32", "bf16"] = "fp32"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[float, Meta(ge=0, le=1)] = 0.0
    patience: Annotated[int, Meta(ge=0, le=1000)] = 0
    proximal: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    packing: Annotated[int, Meta(ge=8, le=8192)] | UnsetType = UNSET
    at_once: Annotated[int, Meta(ge=1, le=1024)] | UnsetType = UNSET
    activations: Literal["again"] | UnsetType = UNSET


class DatasetRef(Struct, forbid_unknown_fields=True, frozen=True):
    """A site's dataset. `digest` is the site-keyed HMAC-SHA-256 of its content; it tells others nothing.
    `public`: its site has said that anybody may read it. `kind`: what each of its rows is."""

    id: Identifier
    digest: Hex32
    rows: Annotated[int, Meta(ge=1)]
    public: bool = False
    kind: Kind = "text-label"


class Site(Struct, forbid_unknown_fields=True, frozen=True):
    """A member of the run, with its two Ed25519 keys in hex. `public_key` is its agent's: rosters,
    endorsements, contributions. `approval_key` needs a person: the manifest's approval and orders of release,
    nothing else. `development_key` says that no passphrase protects that one."""

    id: Identifier
    name: Name
    public_key: Hex32
    approval_key: Hex32
    dataset: DatasetRef
    development_key: bool = False

    def verify_decision(self, domain: str, payload: Any, signature: str, code: str) -> None:
        """Check a person's signature by the approval key.

        Raises: `approval.online_key` for what its agent has signed (a copy of it decides nothing), and
        `code` whatever else is wrong.
        """
        with suppress(Refusal):
            return verify(self.approval_key, domain, payload, signature)
        with suppress(Refusal):
            verify(self.public_key, domain, payload, signature)
            code = "approval.online_key"
        raise Refusal(code, site=self.id)


class Privacy(Struct, forbid_unknown_fields=True, frozen=True):
    """Gaussian noise, drawn inside the enclaves from their own randomness and never from a manifest's seed.

    `noise` is its standard deviation over the sensitivity. Unit `site`: on the mean of the clipped changes,
    in the aggregator. Unit `record`: on every step's sum of the gradients of single records, each clipped
    to the L2 norm `gradient_clip`, in the client slices (DP-SGD). Epsilon at `delta` is computed from this
    by `privacy_accounting`.

    Source: DP-SGD: Abadi et al., arXiv 1607.00133.
    """

    unit: Literal["site", "record"]
    noise: Annotated[float, Meta(ge=0.01, le=1000)]
    delta: Annotated[float, Meta(gt=0, le=0.1)]
    gradient_clip: Annotated[float, Meta(gt=0, le=1e6)] | None = None


class ServerOptimizer(Struct, forbid_unknown_fields=True, frozen=True):
    """What the aggregator makes of a round's mean change: a step of momentum (`fedavgm`), or an adaptive
    one, which alone has `beta2` and `tau`. The formulas: enclave/training/server_step.py.

    Source: Hsu et al., arXiv 1909.06335 (`fedavgm`); Reddi et al., arXiv 2003.00295 (the adaptive ones).
    """

    kind: Literal["fedavgm", "fedadam", "fedyogi"]
    learning_rate: Annotated[float, Meta(gt=0, le=10)]
    beta1: Annotated[float, Meta(ge=0, lt=1)]
    beta2: Annotated[float, Meta(ge=0, lt=1)] | None = None
    tau: Annotated[float, Meta(ge=1e-9, le=1)] | None = None


Placement = Literal["all_in_tee", "masked", "plaintext"]
Rule = Literal["fedavg", "ffa-lora", "stack-svd"]


class Aggregation(Struct, forbid_unknown_fields=True, frozen=True):
    """`quorum` is the least number of contributions that the aggregator averages, counted over those that it
    does average; `deadline_seconds` is how long a round waits for the others. `clip` bounds the L2 norm of a
    site's change of all tuned parameters in a round, `max_samples` its weight in the mean. `instances` is how
    often a site's client slice may begin in a run: a restart is another instance, with new keys. Without
    an `optimizer` the mean is the next round's parameters. Rules: enclave/training/aggregate.py."""

    rule: Rule
    quorum: Annotated[int, Meta(ge=1, le=1000)]
    deadline_seconds: Annotated[int, Meta(ge=10, le=7 * 24 * 3600)]
    clip: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    max_samples: Annotated[int, Meta(ge=1, lt=2**40)] | None = None
    privacy: Privacy | None = None
    instances: Annotated[int, Meta(ge=1, le=100)] = 4
    optimizer: ServerOptimizer | None = None


class Publication(Struct, forbid_unknown_fields=True, frozen=True):
    """Over how many sites and scored rows scores are pooled at least before any leave a server enclave.
    How they are rounded: enclave/programs/publication.py. `cells`: of the test, tables of counts are told as
    well, in multiples of at least so many rows (0: none are; enclave/programs/tables.py). Of at most
    `written_rows` of each site's rows the model writes an answer itself, in `written_tokens` steps whatever
    it says (0: of none; enclave/training/writing.py)."""

    sites: Annotated[int, Meta(ge=3, le=1000)] = 3
    rows: Annotated[int, Meta(ge=10, lt=2**40)] = 20
    cells: Annotated[int, Meta(ge=0, le=10_000)] = 0
    written_rows: Annotated[int, Meta(ge=0, le=256)] = 0
    written_tokens: Literal[0, 16, 32, 64, 128, 256] = 0


class Release(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """What may happen to the tuned parameters after the last round, and how many sites must sign for it. Of
    each enclave that serves them a site gets so many `answers` at most (0: any number)."""

    rule: Literal["nothing", "serve-only", "sealed-to-sites", "export"]
    approvals: Annotated[int, Meta(ge=1, le=1000)]
    answers: Annotated[int, Meta(ge=0, lt=2**40)] = 0


class TransparencyLog(Struct, forbid_unknown_fields=True, frozen=True):
    """The log that records the run: its C2SP verifier key, and those of the witnesses, each of which must
    have cosigned what a site relies on. A site approves no manifest without its own log."""

    key: Annotated[str, Meta(min_length=1, max_length=400)]
    witnesses: Annotated[tuple[Annotated[str, Meta(max_length=400)], ...], Meta(max_length=16)] = ()


class Manifest(Struct, forbid_unknown_fields=True, frozen=True):
    """One run. Placement `plaintext` is a baseline that protects nothing: fp32 in ordinary processes, on
    public data only. `minimum_time` (Unix seconds) is the floor for the clock that a host shows its
    enclave."""

    version: Literal[1]
    run: Identifier
    study: Name
    purpose: Annotated[str, Meta(max_length=4000)]
    method: Literal["method-1", "method-2"]
    placement: Placement
    runtime: Literal["development", "direct", "sgx", "tdx"]
    model: ModelSpec
    adapter: Adapter
    training: Training
    sites: Annotated[tuple[Site, ...], Meta(min_length=1, max_length=1000)]
    aggregation: Aggregation
    policy: Policy
    release: Release
    minimum_time: Annotated[int, Meta(ge=0)]
    masking: Masking | None = None
    split: Split | None = None
    publication: Publication = Publication()
    log: TransparencyLog | None = None
    front: PublicFront | None = None

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical form, in hex: the run's identity."""
        return digest(self)

    @property
    def coded(self) -> Kind | None:
        """The kind of all sites' rows, where each has several labels, tags or choices, and not one class or
        text."""
        return kind if (kind := self.sites[0].dataset.kind) in (SEVERAL, TAGGED, CHOSEN) else None

    def publishes_tables(self, round: int) -> bool:
        """Whether the scores of this round have more than the usual counts: a classifier's test what tables
        are made of, a language model's what comes of the answers that it has written."""
        return self.publication.written_rows > 0 or (self.publication.cells > 0 and round == self.last_round)

    @property
    def last_round(self) -> int:
        """The test round: see contracts/course.py."""
        return self.training.rounds + CLOSING_TRIES + 1

    def site(self, site_id: str) -> Site:
        """The member with this id.

        Raises: `manifest.unknown_site`.
        """
        if found := [site for site in self.sites if site.id == site_id]:
            return found[0]
        raise Refusal("manifest.unknown_site", site=site_id[:64])


def parse(data: bytes) -> Manifest:
    """Read a manifest strictly: the bytes must be the canonical form of what they say.

    Raises: `manifest.too_large`, `manifest.invalid` (with the first fault), `manifest.not_canonical` or
    `runtime.unmeasured`.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise Refusal("manifest.too_large", bytes=len(data), limit=MAX_MANIFEST_BYTES)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
        text = canonical(manifest)  # RFC 8785 has no form for an integer beyond 2⁵³
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refusal("manifest.invalid", fault=str(error)[:300]) from error
    if text != data:
        raise Refusal("manifest.not_canonical")
    _check(manifest)
    return manifest


def require_measured(runtime: str) -> None:
    """Development evidence of TDX's form stands in.

    Raises: `runtime.unmeasured` for the runtime `tdx`: the image whose launcher measures the program
    (docs/threat-model.md says what it lacks) is not believed before it has run on hardware, and an ordinary
    process in the host's own trust domain proves no program.
    """
    if runtime in UNMEASURED:
        raise Refusal("runtime.unmeasured", runtime=runtime)


def _check(manifest: Manifest) -> None:
    require_measured(manifest.runtime)
    ids = [site.id for site in manifest.sites]
    keys = [key for site in manifest.sites for key in (site.public_key, site.approval_key)]
    model, labels, masking = manifest.model, set(manifest.model.labels), manifest.masking
    kinds = {site.dataset.kind for site in manifest.sites}
    faults = {
        "two sites share an id": len(set(ids)) < len(ids),
        "a key stands twice": len(set(keys)) < len(keys),
        "approval keys for development go with that trust root": manifest.policy.root == "intel"
        and any(site.development_key for site in manifest.sites),
        "sites are not in the order of their ids": ids != sorted(ids),
        "the quorum is larger than the number of sites": manifest.aggregation.quorum > len(ids),
        "the release needs more approvals than there are sites": manifest.release.approvals > len(ids),
        "a classification needs two labels, and nothing else has any": (
            bool(labels) if model.task == "causal-lm" else len(labels) < 2
        ),
        "labels repeat": len(labels) < len(model.labels),
        "a dataset is of a kind that the task cannot use": not kinds.issubset(KINDS[model.task]),
        "a classification is of datasets of one kind": len(kinds) > 1
        and model.task == "sequence-classification",
        "the runtime and the trust root disagree": (manifest.runtime in ("development", "direct"))
        != (manifest.policy.root == "development"),
        # Else a host could show collateral of the day before a revocation.
        "a policy for hardware names floors for its collateral": manifest.policy.root == "intel"
        and (manifest.policy.minimum_tcb_evaluation == 0 or not manifest.policy.floors),
        "method-2 goes with SPF and a split, method-1 with neither": not (
            (manifest.method == "method-2")
            == isinstance(manifest.adapter, Spf)
            == (manifest.split is not None)
        ),
        "the placement masked goes with method-1 and its masking": (masking and manifest.method)
        != ("method-1" if manifest.placement == "masked" else None),
    }
    rules, pool, how = manifest.aggregation, manifest.publication, manifest.training
    shares, native = manifest.split and manifest.split.shares, masking and masking.passes
    few = (manifest.front, rules.privacy, rules.optimizer, rules.clip, rules.max_samples, shares, native)
    more = (how.proximal, how.packing, how.activations, manifest.coded, model.spellings, model.template)
    plain = (rules.rule, model.task, pool) == ("fedavg", "sequence-classification", Publication())
    starts = model.start or model.start_receipt
    if any(few + more) or not plain or manifest.placement == "plaintext" or starts:
        from contracts import manifest_options

        faults |= manifest_options.faults(manifest)
    if found := [fault for fault, holds in faults.items() if holds]:
        raise Refusal("manifest.invalid", fault=found[0])
